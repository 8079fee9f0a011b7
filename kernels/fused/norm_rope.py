"""RMS norm over all heads and rotary position in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton
from triton.runtime.jit import JITFunction

from kernels.fused.rows import layout


@triton.jit
def _kernel(
    x, weight, cos, sin, out, tokens, channels, half, eps, TURN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < channels
    kind = out.dtype.element_ty
    value = tl.load(x + row * channels + column, inside, 0.0).to(tl.float32)
    value /= tl.sqrt(tl.sum(value * value) / channels + eps)
    gain = tl.load(weight + column, inside, 0.0).to(kind).to(tl.float32)
    value = (value.to(kind).to(tl.float32) * gain).to(kind)  # rounded where the plain form rounds
    if TURN:
        even, odd = tl.split(tl.reshape(value.to(tl.float32), (BLOCK // 2, 2)))
        pair = tl.arange(0, BLOCK // 2)
        angle = (row % tokens) * half + pair % half
        c = tl.load(cos + angle, 2 * pair < channels, 0.0)
        s = tl.load(sin + angle, 2 * pair < channels, 0.0)
        value = tl.interleave(even * c - odd * s, even * s + odd * c).to(kind)
    tl.store(out + row * channels + column, value, inside)


@torch.library.triton_op("wan::norm_rope", mutates_args=())
def _norm_rope(x: Tensor, weight: Tensor, eps: float, heads: int, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    x = x.contiguous()
    batch, tokens, channels = x.shape
    out = torch.empty((batch, tokens, heads, channels // heads), dtype=x.dtype, device=x.device)
    c, s = (weight if table is None else table.contiguous() for table in (cos, sin))
    kernel = wrap_triton(_kernel) if isinstance(_kernel, JITFunction) else _kernel
    kernel[(batch * tokens,)](
        x, weight, c, s, out, tokens, channels, channels // heads // 2, eps, TURN=cos is not None, **layout(channels)
    )
    return out


def norm_rope(x: Tensor, weight: Tensor, eps: float, heads: int, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    """As :func:`kernels.reference.norm_rope`."""
    cos, sin = rope if rope is not None else (None, None)
    return _norm_rope(x, weight, eps, heads, cos, sin)
