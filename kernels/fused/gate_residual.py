"""Add a gated branch to the residual stream and, in the same pass, norm and modulate what comes of it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton
from triton.runtime.jit import JITFunction

from kernels.fused.rows import layout, modulated, table_row
from kernels.segments import segments


@triton.jit
def _kernel(
    x, branch, gate, shift, scale, out, normed, first, count, tokens, channels, gate_step, shift_step, scale_step, eps,
    GATED: tl.constexpr, NORMED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    batch = row // count
    start = (batch * tokens + first + row % count) * channels
    column = tl.arange(0, BLOCK)
    inside = column < channels
    more = tl.load(branch + start + column, inside, 0.0).to(tl.float32)
    if GATED:
        more *= tl.load(gate + batch * gate_step + column, inside, 0.0).to(tl.float32)
    value = tl.load(x + start + column, inside, 0.0).to(tl.float32) + more
    stream = value.to(out.dtype.element_ty)
    tl.store(out + start + column, stream, inside)
    if NORMED:
        value = stream.to(tl.float32)  # what the stream is rounded to is what the plain form norms
        value = modulated(value, shift + batch * shift_step, scale + batch * scale_step, column, inside, channels, eps)
        tl.store(normed + start + column, value, inside)


@torch.library.triton_op("wan::gate_residual", mutates_args=())
def _gate_residual(x: Tensor, branch: Tensor, gate: Tensor, lengths: list[int]) -> Tensor:
    x, branch = x.contiguous(), branch.contiguous()
    batch, tokens, channels = x.shape
    out = torch.empty_like(x)
    kernel = wrap_triton(_kernel) if isinstance(_kernel, JITFunction) else _kernel
    for u, first, count in segments(lengths):
        row, step = table_row(gate, u, batch)
        kernel[(batch * count,)](
            x, branch, row, row, row, out, out, first, count, tokens, channels, step, 0, 0, 0.0,
            GATED=True, NORMED=False, **layout(channels),
        )  # fmt: skip
    return out


@torch.library.triton_op("wan::residual_modulate", mutates_args=())
def _residual_modulate(
    x: Tensor, branch: Tensor, gate: Tensor | None, shift: Tensor, scale: Tensor, lengths: list[int], eps: float
) -> tuple[Tensor, Tensor]:
    x, branch = x.contiguous(), branch.contiguous()
    batch, tokens, channels = x.shape
    out, normed = torch.empty_like(x), torch.empty_like(x)
    kernel = wrap_triton(_kernel) if isinstance(_kernel, JITFunction) else _kernel
    for u, first, count in segments(lengths):
        (away, away_step), (wide, wide_step) = table_row(shift, u, batch), table_row(scale, u, batch)
        row, step = (wide, 0) if gate is None else table_row(gate, u, batch)
        kernel[(batch * count,)](
            x, branch, row, away, wide, out, normed, first, count, tokens, channels, step, away_step, wide_step, eps,
            GATED=gate is not None, NORMED=True, **layout(channels),
        )  # fmt: skip
    return out, normed


def gate_residual(x: Tensor, branch: Tensor, gate: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """As :func:`kernels.reference.gate_residual`; the gate may be of any float type and shared by the batch."""
    return _gate_residual(x, branch, gate, list(lengths))


def residual_modulate(
    x: Tensor, branch: Tensor, gate: Tensor | None, shift: Tensor, scale: Tensor, lengths: tuple[int, ...], eps: float
) -> tuple[Tensor, Tensor]:
    """As :func:`kernels.reference.residual_modulate`."""
    return _residual_modulate(x, branch, gate, shift, scale, list(lengths), eps)
