"""Which tokens hold which row of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate


def segments(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Number, first token and token count of every segment that is not empty."""
    starts = accumulate(lengths, initial=0)
    return ((u, start, count) for u, (start, count) in enumerate(zip(starts, lengths, strict=False)) if count)
