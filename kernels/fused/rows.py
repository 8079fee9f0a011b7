"""How kernels that take a whole row of channels per program are laid out and launched."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import triton
from torch import Tensor
from torch.library import wrap_triton
from triton.runtime.jit import JITFunction


def launcher(kernel: Any) -> Any:
    """A kernel as a registered operation launches it; the interpreter's have nothing to see through."""
    return wrap_triton(kernel) if isinstance(kernel, JITFunction) else kernel


def layout(channels: int) -> dict[str, int]:
    """The block that holds a row of so many channels, and how many warps share it."""
    block = triton.next_power_of_2(int(channels))
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 512))}


def segments(lengths: list[int]) -> Iterator[tuple[int, int, int]]:
    """Number, first token and token count of every segment that is not empty."""
    starts = accumulate(lengths, initial=0)
    return ((u, start, count) for u, (start, count) in enumerate(zip(starts, lengths, strict=False)) if count)


def table_row(table: Tensor, u: int, batch: int) -> tuple[Tensor, int]:
    """Row u of a table for every batch entry, and how far apart in memory those are. table: (1 or B, U, C)."""
    row = table[:, u]
    return row, 0 if len(row) == 1 and batch > 1 else row.stride(0)
