"""Add a branch to the residual stream, gated by timestep; and then norm it for the next branch."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.reference.modulate import modulate


def gate_residual(x: Tensor, branch: Tensor, gate: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """X + gate * branch, in float32 inside.

    Args:
        x: (B, L, C), the residual stream.
        branch: (B, L, C).
        gate: (B, U, C) float32.
        lengths: U token counts that sum to L: segment u of the sequence takes row u.

    Returns:
        (B, L, C) in x's dtype.
    """
    if len(lengths) == 1:
        return (x.float() + branch.float() * gate).to(x.dtype)
    parts = [
        some.float() + more.float() * gate[:, u, None]
        for u, (some, more) in enumerate(zip(x.split(lengths, dim=1), branch.split(lengths, dim=1), strict=True))
    ]
    return torch.cat(parts, dim=1).to(x.dtype)


def residual_modulate(
    x: Tensor, branch: Tensor, gate: Tensor | None, shift: Tensor, scale: Tensor, lengths: tuple[int, ...], eps: float
) -> tuple[Tensor, Tensor]:
    """The stream with a branch added, and its layer norm, scaled and shifted, for the branch after it.

    Args:
        x: (B, L, C), the residual stream.
        branch: (B, L, C).
        gate: (B, U, C) float32, or None for a gate of one.
        shift: (B, U, C) float32.
        scale: (B, U, C) float32.
        lengths: U token counts that sum to L: segment u of the sequence takes row u.
        eps: the norm's floor.

    Returns:
        The stream and its norm, both (B, L, C) in x's dtype.
    """
    x = x + branch if gate is None else gate_residual(x, branch, gate, lengths)
    return x, modulate(x, shift, scale, lengths, eps)
