"""Image mode: a first frame, or a first and a last one, in the two ways Wan knows.

36-channel models see the whole conditioning clip beside the noise; TI2V models have the first
latent frame put in place, clean, at timestep 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from wan_core.condition.base import Conditioning

Encode = Callable[[Tensor], Tensor]


def clean_first_frame(base: Conditioning, first: Tensor, encode: Encode) -> Conditioning:
    """Put an image in place as the first latent frame (TI2V kind).

    Args:
        base: the text part.
        first: (1, 3, H, W) in [-1, 1].
        encode: pixels (1, 3, F, H, W) to normalised latents.

    Source: Wan-Video/Wan2.2 wan/textimage2video.py (i2v).
    """
    return replace(base, first=encode(first[:, :, None]))


def channel_image(
    base: Conditioning,
    first: Tensor,
    last: Tensor | None,
    frames: int,
    encode: Encode,
    image_features: Tensor | None = None,
) -> Conditioning:
    """Join a mask and the encoded conditioning clip to the latents' channels (36-channel kind).

    Args:
        base: the text part.
        first: (1, 3, H, W) in [-1, 1].
        last: the same, or None.
        frames: pixel frames F, 4n+1.
        encode: pixels (1, 3, F, H, W) to normalised latents.
        image_features: CLIP features, or None.

    Source: Wan-Video/Wan2.1 wan/image2video.py and first_last_frame2video.py.
    """
    clip = first.new_zeros(1, 3, frames, *first.shape[2:])  # grey where nothing is known
    clip[:, :, 0] = first
    if last is not None:
        clip[:, :, -1] = last
    latents = encode(clip)
    mask = frame_mask(frames, latents.shape[3:], last is not None).to(latents)
    return replace(base, channels=torch.cat([mask, latents], dim=1), image=image_features)


def frame_mask(frames: int, size: tuple[int, int] | torch.Size, last: bool) -> Tensor:
    """Which pixel frames are known, folded to latent frames: the first counts four times.

    Args:
        frames: pixel frames F, 4n+1.
        size: latent height and width.
        last: whether the last frame is known too.

    Returns:
        (1, 4, T, h, w) of ones and zeros.
    """
    known = torch.zeros(frames)
    known[0] = 1
    if last:
        known[-1] = 1
    folded = torch.cat([known[:1].repeat(3), known]).view(-1, 4).T  # (4, T)
    return folded[None, :, :, None, None].expand(1, 4, -1, *size)
