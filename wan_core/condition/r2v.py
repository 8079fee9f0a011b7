"""Reference mode: who is shown, what is heard, and what is to be changed.

HuMo has its references behind the video on the time axis and hears inside its blocks; Phantom has
them there too, and hears nothing. VACE has them in front, in a control video of its own. S2V has one
reference, and what was shown before, as tokens beside the video's; it makes one clip after another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from wan_core.condition.base import Conditioning
from wan_core.condition.video import Footage

Encode = Callable[[Tensor], Tensor]
GREY_LATENTS = 8  # a grey clip's latents change no more after the first few frames


def humo(
    base: Conditioning, windows: Tensor, pictures: list[Tensor], size: tuple[int, int], encode: Encode, joined: bool
) -> Conditioning:
    """Condition on references and sound, as HuMo does.

    Args:
        base: the text part.
        windows: (T + n, window, tracks, C), the sound of the video's latent frames, zeros for silence,
            and n windows of zeros for the references, at least one.
        pictures: references, (1, 3, H, W) in [-1, 1]. Without any, an empty latent frame stands in.
        size: height and width in pixels.
        encode: pixels (1, 3, F, H, W) to normalised latents.
        joined: references join the channels (17B) instead of taking the latents' place (1.7B).

    Returns:
        The conditioning of T latent frames and ``behind`` more.

    Source: Phantom-video/HuMo humo/generate.py and generate_1_7B.py.
    """
    behind = max(1, len(pictures))
    frames, heard = len(windows) - behind, windows[None]
    base = replace(base, heard={"audio": heard}, silent={"audio": torch.zeros_like(heard)}, behind=behind)
    shown = [encode(picture[:, :, None]) for picture in pictures]  # (1, C, 1, h, w) each
    if joined:
        grey = _grey(frames + behind, size, encode)
        latents = torch.cat([grey[:, :, :frames], *shown], dim=2) if shown else grey
        mask = torch.zeros(1, 4, frames + behind, *grey.shape[3:])
        mask[:, :, frames:] = 1
        channels, without = (torch.cat([mask.to(y), y], dim=1) for y in (latents, grey))
        return replace(base, channels=channels, without={"channels": without})
    empty = torch.zeros_like(encode(torch.zeros(1, 3, 1, *size))).expand(-1, -1, behind, -1, -1)
    return replace(base, tail=torch.cat(shown, dim=2) if shown else empty, without={"tail": empty})


def _grey(latent_frames: int, size: tuple[int, int], encode: Encode) -> Tensor:
    """Latents of an all-grey clip, (1, C, T, h, w)."""
    some = min(latent_frames, GREY_LATENTS)
    grey = encode(torch.zeros(1, 3, 4 * some - 3, *size))
    rest = grey[:, :, -1:].expand(-1, -1, latent_frames - some, -1, -1)
    return torch.cat([grey, rest], dim=2)


def speech(base: Conditioning, features: Tensor, reference: Tensor, motion: Tensor | None) -> Conditioning:
    """Condition one clip on a reference, its sound and what was shown before, as S2V does.

    Args:
        base: the text part.
        features: (25, C, F), this clip's sound frame by frame.
        reference: (1, C, 1, h, w) latents.
        motion: (1, C, 19, h, w) latents of the frames before, or None for the first clip.
    """
    told = {"features": features[None], "reference": reference}
    if motion is not None:
        told["motion"] = motion
    return replace(base, heard=told, silent={"features": torch.zeros_like(features[None])})


def phantom(base: Conditioning, pictures: list[Tensor], encode: Encode) -> Conditioning:
    """Condition on references, as Phantom does: they take the place of the last latent frames.

    Args:
        base: the text part.
        pictures: references, (1, 3, H, W) in [-1, 1], at least one.
        encode: pixels (1, 3, F, H, W) to normalised latents.

    Source: Phantom-video/Phantom phantom_wan/subject2video.py.
    """
    tail = torch.cat([encode(picture[:, :, None]) for picture in pictures], dim=2)
    return replace(base, tail=tail, without={"tail": torch.zeros_like(tail)}, behind=len(pictures))


def vace(
    base: Conditioning, footage: Footage, pictures: list[Tensor], encode: Encode, spatial: int, strength: float
) -> Conditioning:
    """Condition on a video, its mask and references, as VACE does.

    Args:
        base: the text part.
        footage: what is kept, changed or followed.
        pictures: references, (1, 3, H, W) in [-1, 1], in the order in which they are meant.
        encode: pixels (1, 3, F, H, W) to normalised latents.
        spatial: pixels per latent, both ways.
        strength: how closely all of it is followed.

    Source: ali-vilab/VACE vace/models/wan/wan_vace.py. diffusers puts references in reverse order.
    """
    change = footage.mask
    kept, changed = (encode(footage.pixels * part) for part in (1 - change, change))
    seen = torch.cat([kept, changed], dim=1)  # (1, 2C, T, h, w)
    shown = [encode(picture[:, :, None]) for picture in pictures]
    front = [torch.cat([one, torch.zeros_like(one)], dim=1) for one in shown]
    mask = folded_mask(change, seen.shape[2], spatial).to(seen)
    mask = torch.cat([mask.new_zeros(1, mask.shape[1], len(shown), *mask.shape[3:]), mask], dim=2)
    control = torch.cat([torch.cat([*front, seen], dim=2), mask], dim=1)
    told = {"control": control, "strength": torch.full((1, 1), strength)}
    return replace(base, heard=told, ahead=len(shown))


def folded_mask(mask: Tensor, latent_frames: int, spatial: int) -> Tensor:
    """A mask of pixels as channels of latents: every pixel under a latent becomes a channel.

    Args:
        mask: (1, 1, F, H, W).
        latent_frames: T.
        spatial: pixels per latent, both ways.

    Returns:
        (1, spatial^2, T, h, w), the channel of a pixel dy down and dx across being dy * spatial + dx.
    """
    _, _, frames, height, width = mask.shape
    h, w = height // spatial, width // spatial
    cells = mask.view(frames, h, spatial, w, spatial).permute(2, 4, 0, 1, 3).flatten(0, 1)  # (s * s, F, h, w)
    return F.interpolate(cells[None], (latent_frames, h, w), mode="nearest-exact")
