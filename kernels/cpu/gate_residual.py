"""The gated residual in one fused multiply and add."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu.modulate import modulate
from kernels.cpu.pieces import pieces
from kernels.segments import segments


def gate_residual(x: Tensor, branch: Tensor, gate: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """As :func:`kernels.reference.gate_residual`."""
    if lengths == (x.shape[1],) and len(pieces(x)) == 1:
        return torch.addcmul(x.float(), branch.float(), gate).to(x.dtype)
    out = torch.empty_like(x)
    for u, first, count in segments(lengths):
        some = slice(first, first + count)
        row, stream, more, to = gate[:, u, None], x[:, some], branch[:, some], out[:, some]
        if x.dtype == branch.dtype == torch.float32:
            torch.addcmul(stream, more, row, out=to)
            continue
        for few in pieces(stream):
            to[:, few] = torch.addcmul(stream[:, few].float(), more[:, few].float(), row)
    return out


def residual_modulate(
    x: Tensor, branch: Tensor, gate: Tensor | None, shift: Tensor, scale: Tensor, lengths: tuple[int, ...], eps: float
) -> tuple[Tensor, Tensor]:
    """As :func:`kernels.reference.residual_modulate`."""
    x = x + branch if gate is None else gate_residual(x, branch, gate, lengths)
    return x, modulate(x, shift, scale, lengths, eps)
