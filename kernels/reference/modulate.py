"""Layer norm, then scale and shift by timestep: one row of the table per distinct timestep."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def modulate(x: Tensor, shift: Tensor, scale: Tensor, lengths: tuple[int, ...], eps: float) -> Tensor:
    """LN(x) * (1 + scale) + shift, in float32 inside.

    Args:
        x: (B, L, C).
        shift: (B, U, C) float32.
        scale: (B, U, C) float32.
        lengths: U token counts that sum to L: segment u of the sequence takes row u.
        eps: the norm's floor.

    Returns:
        (B, L, C) in x's dtype.
    """
    normed = F.layer_norm(x.float(), x.shape[-1:], eps=eps)
    if len(lengths) == 1:
        return (normed * (1 + scale) + shift).to(x.dtype)
    parts = [part * (1 + scale[:, u, None]) + shift[:, u, None] for u, part in enumerate(normed.split(lengths, dim=1))]
    return torch.cat(parts, dim=1).to(x.dtype)
