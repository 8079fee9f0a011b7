"""Tokens in pieces whose float32 copies stay in the cache."""

from __future__ import annotations

import torch
from torch import Tensor

CACHE = 2**18  # bytes of a float32 copy per thread: half of a common second-level cache


def pieces(x: Tensor) -> list[slice]:
    """Slices of the token axis. x: (B, L, C)."""
    batch, tokens, channels = x.shape
    some = max(1, CACHE * torch.get_num_threads() // (4 * batch * channels))
    return [slice(start, min(start + some, tokens)) for start in range(0, tokens, some)]
