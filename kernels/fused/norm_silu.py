"""RMS norm and SiLU in one pass, written to behind the frames that stand before."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton
from triton.runtime.jit import JITFunction

from kernels.reference.norm_silu import FLOOR

TILE = 2048  # numbers that a program takes: rows are narrow here, and many


@triton.jit
def _kernel(x, weight, out, rows, count, past, channels, floor, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (column < channels)[None, :]
    value = tl.load(x + row[:, None] * channels + column[None, :], inside, 0.0).to(tl.float32)
    length = tl.maximum(tl.sqrt(tl.sum(value * value, 1)), floor)
    gain = tl.load(weight + column, column < channels, 0.0).to(tl.float32)
    value *= (tl.sqrt(channels.to(tl.float32)) / length)[:, None] * gain[None, :]
    value *= tl.sigmoid(value)
    place = row + (row // count + 1) * past
    tl.store(out + place[:, None] * channels + column[None, :], value, inside)


@torch.library.triton_op("wan::norm_silu", mutates_args=())
def _norm_silu(x: Tensor, weight: Tensor, before: Tensor | None) -> Tensor:
    batch, frames, high, wide, channels = x.shape
    past = 0 if before is None else before.shape[1]
    out = torch.empty((batch, past + frames, high, wide, channels), dtype=x.dtype, device=x.device)
    if before is not None:
        out[:, :past].copy_(before)
    one, block = high * wide, triton.next_power_of_2(int(channels))
    total, each = batch * frames * one, max(1, TILE // block)
    kernel = wrap_triton(_kernel) if isinstance(_kernel, JITFunction) else _kernel
    kernel[(triton.cdiv(total, each),)](
        x.contiguous(), weight, out, total, frames * one, past * one, channels, FLOOR, ROWS=each, BLOCK=block,
        num_warps=4,
    )  # fmt: skip
    return out


def norm_silu(x: Tensor, weight: Tensor, before: Tensor | None = None) -> Tensor:
    """As :func:`kernels.reference.norm_silu`."""
    return _norm_silu(x, weight.contiguous(), before)
