"""How kernels that take a whole row of channels per program are laid out.

Every registered operation wraps its kernel by name, in its own body: torch reads that, and so knows which kernels a
compiled graph depends on. The interpreter's kernels are no ``JITFunction`` and have nothing to see through.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor


def layout(channels: int) -> dict[str, int]:
    """The block that holds a row of so many channels, and how many warps share it."""
    block = triton.next_power_of_2(int(channels))
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 512))}


@triton.jit
def modulated(value, shift, scale, column, inside, channels, eps):
    """A row normed, scaled and shifted, in float32; shift and scale point at its row of the table."""
    value = tl.where(inside, value - tl.sum(value) / channels, 0.0)
    value /= tl.sqrt(tl.sum(value * value) / channels + eps)
    wide = 1 + tl.load(scale + column, inside, 0.0).to(tl.float32)
    return value * wide + tl.load(shift + column, inside, 0.0).to(tl.float32)


def table_row(table: Tensor, u: int, batch: int) -> tuple[Tensor, int]:
    """Row u of a table for every batch entry, and how far apart in memory those are. table: (1 or B, U, C)."""
    row = table[:, u]
    return row, 0 if len(row) == 1 and batch > 1 else row.stride(0)
