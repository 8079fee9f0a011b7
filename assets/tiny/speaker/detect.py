"""Reading a speaker's clip back: the mouth, who it is, and where, from pixels alone.

Nothing here knows how clips are made. A person is found, and told from others, by laying a picture of
them over a frame wherever it fits best. A mouth is the largest dark red thing where the picture has
one; how open it is, its height tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from assets.tiny import detect as first

MOST_LAG = 4  # frames that sound and picture are moved against each other
REACH = (62, 44, 30)  # pixels above, below and beside the mouth of a picture that is laid over
GRAIN, STRIDE = (4, 5), 2  # pixels between the points that are compared, and between places that are tried
UNLIKE, UNKNOWN = 40.0, 20.0  # the most that a point can differ, and what one counts that says nothing
LIPS, AROUND = (10, 16), (13, 16)  # half height and width: what moves while speaking, and where a mouth may be


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


@dataclass(frozen=True)
class Face:
    """A picture of somebody, as it is laid over frames.

    Attributes:
        offsets: (P, 2) of its points from its mouth, down and across, in pixels.
        colours: (P, 3) in Lab.
        told: (P,) whether a point tells something: neither the ground nor the lips.
    """

    offsets: Tensor
    colours: Tensor
    told: Tensor


def face(picture: np.ndarray) -> Face:
    """Read a picture of somebody on white. picture: (H, W, 3) uint8."""
    found = mouth(picture[None])
    up, down, side = REACH
    y, x = torch.arange(-up, down + 1, GRAIN[0]), torch.arange(-side, side + 1, GRAIN[1])
    offsets = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flatten(0, 1)
    middle = torch.tensor([round(float(found.y)), round(float(found.x))])
    at, inside = _inside(offsets + middle, picture.shape[:2])
    colours = _lab(picture).flatten(0, 1)[at]
    ground = (colours - torch.tensor([100.0, 0.0, 0.0])).norm(dim=-1) < 3
    lips = (offsets[:, 0].abs() <= LIPS[0]) & (offsets[:, 1].abs() <= LIPS[1])
    return Face(offsets, colours, inside & ~ground & ~lips)


def find(frames: np.ndarray, who: Face, stride: int = STRIDE) -> tuple[Tensor, Tensor]:
    """Where somebody is, and how unlike the frames are to them there.

    Args:
        frames: (F, H, W, 3) uint8.
        who: looked for.
        stride: pixels between the places that are tried.

    Returns:
        (F, 2) of the mouth, down and across, and (F,) the mean difference over the picture's points.
    """
    height, width = frames.shape[1:3]
    y, x = torch.arange(height // 3, height - 12, stride), torch.arange(12, width - 12, stride)
    places = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flatten(0, 1)
    offsets, colours = who.offsets[who.told], who.colours[who.told]
    at, inside = _inside(places[:, None] + offsets, (height, width))  # (places, P)
    where, unlike = [], []
    for frame in frames:
        away = (_lab(frame).flatten(0, 1)[at] - colours).norm(dim=-1).clamp(max=UNLIKE)
        cost = torch.where(inside, away, UNKNOWN).sum(1) + UNKNOWN * int((~who.told).sum())
        best = int(cost.argmin())
        where.append(places[best])
        unlike.append(cost[best] / len(who.told))
    return torch.stack(where), torch.stack(unlike)


def _lab(frame: np.ndarray) -> Tensor:
    return first.lab(torch.from_numpy(np.ascontiguousarray(frame)))


def _inside(at: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Points, down and across, as indices of a picture's pixels, and which of them are in it at all."""
    kept = at.clamp(min=torch.zeros(2, dtype=at.dtype), max=torch.tensor(size[:2]) - 1)
    return kept[..., 0] * size[1] + kept[..., 1], (kept == at).all(-1)


def mouth(frames: np.ndarray, near: Tensor | None = None) -> Mouth:
    """Find the mouth in every frame.

    Args:
        frames: (F, H, W, 3) uint8.
        near: (F, 2) where the mouth of the person is, down and across, if that is known: hair and
            shadows may be dark and red too.
    """
    light, red, yellow = first.lab(torch.from_numpy(np.ascontiguousarray(frames))).unbind(-1)
    strength = ((red - 12) / 10).clamp(0, 1) * ((44 - light) / 6).clamp(0, 1)
    strength = strength * ((34 - yellow) / 6).clamp(0, 1) * ((yellow + 12) / 6).clamp(0, 1)
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in strength.shape[1:])
    if near is not None:
        high = (rows - near[:, :1]).abs() <= AROUND[0]
        wide = (columns - near[:, 1:]).abs() <= AROUND[1]
        strength = strength * (high[:, :, None] & wide[:, None, :])
    mask = _largest(strength > 0.4)
    inside = strength * F.max_pool2d(mask.float()[:, None], 3, 1, 1)[:, 0]
    total = inside.sum((1, 2))
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
