"""Rotary positions on the (time, height, width) grid of patches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

Rope = tuple[Tensor, Tensor]


def split(head_dim: int) -> tuple[int, int, int]:
    """Channels of one head given to time, height and width: 128 is 44, 42, 42."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def _angles(positions: Tensor, channels: int, theta: float) -> Tensor:
    """Angles for one axis, (n, channels / 2), in float64 as both reference codes build them."""
    powers = torch.arange(0, channels, 2, dtype=torch.float64)[: channels // 2] / channels
    return torch.outer(positions.double(), theta**-powers)


@lru_cache(maxsize=16)
def tables(head_dim: int, grid: tuple[int, int, int], device: str, theta: float = 10000.0) -> Rope:
    """Cosines and sines for every token of a grid, in token order.

    Args:
        head_dim: channels of one head, D.
        grid: patches in time, height and width.
        device: where the tables go.
        theta: base of the frequencies.

    Returns:
        cos and sin, each (L, D/2) float32, L the product of the grid.

    Source: Wan-Video/Wan2.1 wan/modules/model.py (rope_params, rope_apply).
    """
    return at(head_dim, *(range(n) for n in grid), device=device, theta=theta)


def at(
    head_dim: int,
    times: Sequence[int],
    rows: Sequence[int],
    columns: Sequence[int],
    device: str,
    theta: float = 10000.0,
) -> Rope:
    """Cosines and sines for a grid at any positions, negative times included.

    Args:
        head_dim: channels of one head, D.
        times: positions on the time axis.
        rows: positions on the height axis.
        columns: positions on the width axis.
        device: where the tables go.
        theta: base of the frequencies.

    Returns:
        cos and sin, each (len(times) * len(rows) * len(columns), D/2) float32.
    """
    places = (times, rows, columns)
    grid = tuple(len(p) for p in places)
    axes = []
    for axis, (positions, channels) in enumerate(zip(places, split(head_dim), strict=True)):
        shape = [1, 1, 1, channels // 2]
        shape[axis] = len(positions)
        axes.append(_angles(torch.tensor(list(positions)), channels, theta).view(shape).expand(*grid, -1))
    angles = torch.cat(axes, dim=-1).flatten(0, 2)
    return angles.cos().float().to(device), angles.sin().float().to(device)
