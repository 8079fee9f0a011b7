"""RMS norm, and rotary position as one product of complex numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu.pieces import pieces


def norm_rope(x: Tensor, weight: Tensor, eps: float, heads: int, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    """As :func:`kernels.reference.norm_rope`."""
    gain = weight.to(x.dtype)
    turns = None if rope is None else torch.complex(*rope)[:, None]  # (L, 1, D/2)
    several = pieces(x)
    if len(several) == 1:
        return _few(x, gain, eps, heads, turns)
    out = torch.empty((*x.shape[:2], heads, x.shape[2] // heads), dtype=x.dtype, device=x.device)
    for some in several:
        out[:, some] = _few(x[:, some], gain, eps, heads, None if turns is None else turns[some])
    return out


def _few(x: Tensor, gain: Tensor, eps: float, heads: int, turns: Tensor | None) -> Tensor:
    """The same for tokens whose copies fit the cache."""
    wide = x.float()
    size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
    normed = wide.mul(size.div_(x.shape[-1]).add_(eps).rsqrt_()).to(x.dtype).mul_(gain).unflatten(-1, (heads, -1))
    if turns is None:
        return normed
    pairs = torch.view_as_complex(normed.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs.mul_(turns)).flatten(-2).to(x.dtype)
