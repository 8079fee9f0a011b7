"""Layer norm, scale and shift in one pass."""

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
    x, shift, scale, out, first, count, tokens, channels, shift_step, scale_step, eps, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    batch = row // count
    start = (batch * tokens + first + row % count) * channels
    column = tl.arange(0, BLOCK)
    inside = column < channels
    value = tl.load(x + start + column, inside, 0.0).to(tl.float32)
    value = modulated(value, shift + batch * shift_step, scale + batch * scale_step, column, inside, channels, eps)
    tl.store(out + start + column, value, inside)


@torch.library.triton_op("wan::modulate", mutates_args=())
def _modulate(x: Tensor, shift: Tensor, scale: Tensor, lengths: list[int], eps: float) -> Tensor:
    batch, tokens, channels = x.shape
    x, out = x.contiguous(), torch.empty((batch, tokens, channels), dtype=x.dtype, device=x.device)
    kernel = wrap_triton(_kernel) if isinstance(_kernel, JITFunction) else _kernel
    for u, first, count in segments(lengths):
        (away, away_step), (wide, wide_step) = table_row(shift, u, batch), table_row(scale, u, batch)
        kernel[(batch * count,)](
            x, away, wide, out, first, count, tokens, channels, away_step, wide_step, eps, **layout(channels)
        )
    return out


def modulate(x: Tensor, shift: Tensor, scale: Tensor, lengths: tuple[int, ...], eps: float) -> Tensor:
    """As :func:`kernels.reference.modulate`; tables may be of any float type and shared by the batch."""
    return _modulate(x, shift, scale, list(lengths), eps)
