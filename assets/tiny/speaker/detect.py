"""Reading a speaker's clip back: the mouth, who it is, and where, from pixels alone.

Nothing here knows how clips are made. A mouth is the largest dark red thing; how open it is, its
height tells; who somebody is, the colours around the mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from assets.tiny import detect as first

MOST_LAG = 4  # frames that sound and picture are moved against each other
REACH = (60, 42, 16)  # pixels above, below and beside the mouth that tell who it is


@dataclass(frozen=True)
class Mouth:
    """A mouth over time.

    Attributes:
        height: (F,) pixels; 0 where there is none.
        x: (F,) its middle, in pixels.
        y: (F,) likewise.
    """

    height: Tensor
    x: Tensor
    y: Tensor


def mouth(frames: np.ndarray) -> Mouth:
    """Find the mouth in every frame. frames: (F, H, W, 3) uint8."""
    light, red, yellow = first.lab(torch.from_numpy(np.ascontiguousarray(frames))).unbind(-1)
    strength = ((red - 12) / 10).clamp(0, 1) * ((44 - light) / 6).clamp(0, 1)
    strength = strength * ((34 - yellow) / 6).clamp(0, 1) * ((yellow + 12) / 6).clamp(0, 1)
    mask = _largest(strength > 0.4)
    inside = strength * F.max_pool2d(mask.float()[:, None], 3, 1, 1)[:, 0]
    total = inside.sum((1, 2))
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in inside.shape[1:])
    seen = total.clamp(min=1e-6)
    x, y = (inside.sum(1) * columns).sum(1) / seen, (inside.sum(2) * rows).sum(1) / seen
    wide = inside.sum(1).amax(1)  # the tallest column, in soft pixels: half a pixel counts as half
    return Mouth(torch.where(total > 3, wide, 0), _held(x, total > 3), _held(y, total > 3))


def _largest(mask: Tensor) -> Tensor:
    """The largest connected part of every frame."""
    labels = first.numbered(mask)
    sizes = [torch.bincount(frame.flatten(), minlength=2) for frame in labels]
    return torch.stack([frame == 1 + int(size[1:].argmax()) for frame, size in zip(labels, sizes, strict=True)])


def _held(values: Tensor, known: Tensor) -> Tensor:
    """Unknown places as the last known one."""
    out, last = values.clone(), values[known][0] if known.any() else values.mean()
    for i in range(len(out)):
        last = out[i] if known[i] else last
        out[i] = last
    return out


def follows(opened: Tensor, heard: Tensor) -> tuple[float, int]:
    """How well a mouth follows a sound.

    Args:
        opened: (F,) how open it is.
        heard: (F,) how loud it is, both per video frame.

    Returns:
        Pearson's correlation at no offset, and the offset in frames at which it is best: positive
        where the picture is late. (0, 0) where one of them does not change.
    """

    def at(lag: int) -> float:
        a = opened[max(0, lag) : len(opened) + min(0, lag)]
        b = heard[max(0, -lag) : len(heard) - max(0, lag)]
        if float(a.std()) < 1e-6 or float(b.std()) < 1e-6:
            return 0.0
        return float(torch.corrcoef(torch.stack([a, b]))[0, 1])

    found = {lag: at(lag) for lag in range(-MOST_LAG, MOST_LAG + 1)}
    return found[0], max(found, key=lambda lag: (found[lag], -abs(lag)))


def looks(frames: np.ndarray, found: Mouth | None = None) -> Tensor:
    """The colours around the mouth, over all frames: what tells people apart.

    Args:
        frames: (F, H, W, 3) uint8; a reference is one frame.
        found: its mouth, if it was looked for already.

    Returns:
        (rows, columns, 3) in Lab.
    """
    found = found or mouth(frames)
    up, down, side = REACH
    height, width = frames.shape[1:3]
    y = torch.arange(-up, down + 1, 3)[None, :, None] + found.y[:, None, None]
    x = torch.arange(-side, side + 1, 4)[None, None, :] + found.x[:, None, None]
    grid = torch.stack(torch.broadcast_tensors(x / (width - 1) * 2 - 1, y / (height - 1) * 2 - 1), -1)
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    patch = F.grid_sample(pixels, grid, align_corners=True, padding_mode="border")
    return first.lab(patch.median(0).values.permute(1, 2, 0))


def nearest(seen: Tensor, people: list[Tensor]) -> int:
    """Which of some people a clip shows, by their looks."""
    away = [float((seen - person).norm(dim=-1).clamp(max=40).mean()) for person in people]
    return away.index(min(away))


def background(frames: np.ndarray, found: Mouth | None = None) -> str:
    """Name the backdrop by the edge that is farther from the speaker."""
    found = found or mouth(frames)
    clip = torch.from_numpy(np.ascontiguousarray(frames[::2])).float()
    side = clip[:, :, -4:] if float(found.x.mean()) < frames.shape[2] / 2 else clip[:, :, :4]
    far = side.permute(1, 0, 2, 3).flatten(1, 2).median(1).values
    return first.background(torch.stack([far, far], 1))


def place(found: Mouth, width: int) -> str:
    """Where the speaker is."""
    x = float(found.x.mean()) / width * 2 - 1
    return "left" if x < -0.2 else "right" if x > 0.2 else "middle"
