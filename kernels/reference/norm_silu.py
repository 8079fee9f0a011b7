"""RMS norm and SiLU: what stands before every convolution of the VAE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-12  # of a row's length


def norm_silu(x: Tensor, weight: Tensor, before: Tensor | None = None) -> Tensor:
    """Rows brought to the length sqrt(C), times a gain, through SiLU; float32 inside, rounded once.

    Args:
        x: (B, T, H, W, C).
        weight: (C,).
        before: (B, n, H, W, C), what such rows of earlier frames came to: it stands in front of the result,
            where a causal convolution wants it.

    Returns:
        (B, n + T, H, W, C), x's dtype.

    Source: Wan-Video/Wan2.2 wan/modules/vae2_1.py (RMS_norm); huggingface/diffusers
    src/diffusers/models/autoencoders/autoencoder_kl_wan.py (WanRMS_norm).
    """
    wide = F.normalize(x.float(), dim=-1, eps=FLOOR) * (x.shape[-1] ** 0.5 * weight.float())
    out = F.silu(wide).to(x.dtype)
    return out if before is None else torch.cat([before, out], 1)
