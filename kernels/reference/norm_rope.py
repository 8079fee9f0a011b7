"""RMS norm over all heads together, then rotary position on interleaved pairs."""

from __future__ import annotations

import torch
from torch import Tensor


def norm_rope(x: Tensor, weight: Tensor, eps: float, heads: int, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    """Normalise queries or keys and turn them by their position.

    Args:
        x: (B, L, C), a projection's output.
        weight: (C,), the norm's gain.
        eps: the norm's floor.
        heads: H; C = H * D.
        rope: cos and sin, each (L, D/2) float32, or None for keys without a position.

    Returns:
        (B, L, H, D) in x's dtype.

    Source: RoFormer (Su et al. 2021), eq. 34; Wan norms over the full width before splitting heads.
    """
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    # diffusers rounds to the activation dtype before the gain; in float32 this changes nothing
    normed = (wide.to(x.dtype) * weight.to(x.dtype)).unflatten(-1, (heads, -1))
    if rope is None:
        return normed
    cos, sin = (t[:, None, :] for t in rope)  # (L, 1, D/2)
    even, odd = normed.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)
