"""RMS norm and SiLU in one pass, written to behind the frames that stand before."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.fused.rows import launcher, layout
from kernels.reference.norm_silu import FLOOR


@triton.jit
def _kernel(x, weight, out, count, past, channels, floor, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    batch = row // count
    column = tl.arange(0, BLOCK)
    inside = column < channels
    value = tl.load(x + row * channels + column, inside, 0.0).to(tl.float32)
    length = tl.maximum(tl.sqrt(tl.sum(value * value)), floor)
    value *= tl.sqrt(channels.to(tl.float32)) / length * tl.load(weight + column, inside, 0.0).to(tl.float32)
    value *= tl.sigmoid(value)
    tl.store(out + (row + (batch + 1) * past) * channels + column, value, inside)


@torch.library.triton_op("wan::norm_silu", mutates_args=())
def _norm_silu(x: Tensor, weight: Tensor, before: Tensor | None) -> Tensor:
    batch, frames, high, wide, channels = x.shape
    past = 0 if before is None else before.shape[1]
    out = torch.empty((batch, past + frames, high, wide, channels), dtype=x.dtype, device=x.device)
    if before is not None:
        out[:, :past].copy_(before)
    one = high * wide
    launcher(_kernel)[(batch * frames * one,)](
        x.contiguous(), weight, out, frames * one, past * one, channels, FLOOR, **layout(channels)
    )
    return out


def norm_silu(x: Tensor, weight: Tensor, before: Tensor | None = None) -> Tensor:
    """As :func:`kernels.reference.norm_silu`."""
    return _norm_silu(x, weight.contiguous(), before)
