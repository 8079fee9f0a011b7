"""Reading a clip back: colour, shape, motion and background, from its pixels alone.

Nothing here knows how clips are made. The backdrop is whatever the frame's left and right edges
show over time; the object is the largest thing unlike it; colours are named by common reference
values, shapes by plain templates, motion by the object's track.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

NAMES = {
    "red": (220, 25, 35), "orange": (255, 140, 0), "yellow": (255, 225, 20), "green": (20, 180, 60),
    "cyan": (0, 210, 220), "blue": (30, 70, 230), "purple": (130, 40, 200), "pink": (255, 120, 190),
    "white": (245, 245, 245),
}  # fmt: skip
TEMPLATE = 48


@dataclass(frozen=True)
class Seen:
    """What a clip shows; an empty string where nothing could be read.

    Attributes:
        colour: of the object.
        shape: likewise.
        motion: likewise.
        background: behind it.
        likeness: intersection over union of the object's outline and that shape's template, 0 to 1, mean of its frames.
    """

    colour: str
    shape: str
    motion: str
    background: str
    likeness: float = 0.0


def lab(rgb: Tensor) -> Tensor:
    """Convert sRGB in 0..255, last axis, to CIE L*a*b* (D65)."""
    c = rgb.float() / 255
    c = torch.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = c @ matrix.T / torch.tensor([0.9505, 1.0, 1.089])
    f = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def read(frames: np.ndarray) -> Seen:
    """Read a clip. frames: (F, H, W, 3) uint8."""
    clip = torch.from_numpy(np.ascontiguousarray(frames[::2])).float()
    edge = _edges(clip)
    away = _unlike(clip, edge)
    # a vivid object stands far above clouds and moons; a pale one leaves the bar low
    bar = float((0.4 * away.flatten()[::7].quantile(0.99)).clamp(11, 45))
    mask = filled(largest(away > bar))
    if (mask.sum((1, 2)) < 60).float().mean() > 0.5:
        return Seen("", "", "", background(edge))
    name, likeness = shape(mask)
    return Seen(colour(clip, mask), name, motion(clip, mask), background(edge), likeness)


# --- object and backdrop ------------------------------------------------------------------------


def _edges(clip: Tensor) -> Tensor:
    """What the left and right edges show over time: (H, 2, 3)."""
    left, right = clip[:, :, :4], clip[:, :, -4:]
    sides = [side.permute(1, 0, 2, 3).flatten(1, 2).median(1).values for side in (left, right)]
    return torch.stack(sides, 1)


def _unlike(clip: Tensor, edge: Tensor, reach: int = 8) -> Tensor:
    """How unlike the edges' colours at nearly its own height a pixel is: (F, H, W) in Lab units.

    What is merely a darker version of the ground, in the lower part, is a shadow and counts as 0.
    """
    height = clip.shape[1]
    pixels = lab(clip)
    nearest = torch.full(clip.shape[:3], 1e9)
    low = (torch.arange(height) > 0.6 * height)[None, :, None]
    for shift in range(-reach, reach + 1, 4):
        rows = (torch.arange(height) + shift).clamp(0, height - 1)
        for side in range(2):
            ground = edge[rows, side]  # (H, 3)
            away = (pixels - lab(ground)[None, :, None]).norm(dim=-1)
            share = (clip * ground[None, :, None]).sum(-1) / ground.square().sum(-1).clamp(min=1)[None, :, None]
            rest = (clip - share[..., None] * ground[None, :, None]).norm(dim=-1)
            shadow = (share > 0.3) & (share < 0.98) & (rest < 20) & (ground.sum(-1) > 150)[None, :, None] & low
            nearest = torch.minimum(nearest, torch.where(shadow, torch.zeros(()), away))
    return nearest


def largest(mask: Tensor) -> Tensor:
    """One connected part per frame, thin things removed: the largest of all, followed in time.

    Args:
        mask: (F, H, W) bool.
    """
    x = mask.float()[:, None]
    x = F.max_pool2d(-F.max_pool2d(-x, 3, 1, 1), 3, 1, 1)[:, 0] > 0.5  # an opening
    labels, out = numbered(x), torch.zeros_like(x)
    areas = [_sizes(frame) for frame in labels]
    start = max(range(len(areas)), key=lambda i: int(areas[i].max()))
    out[start] = labels[start] == areas[start].argmax()
    for order in (range(start + 1, len(out)), range(start - 1, -1, -1)):
        last = out[start]
        for i in order:
            near = F.max_pool2d(last.float()[None, None], 13, 1, 6)[0, 0] > 0.5
            sizes = _sizes(labels[i] * near)
            if int(sizes.max()) == 0:
                sizes = areas[i]
            if int(sizes.max()):
                out[i] = labels[i] == sizes.argmax()
                last = out[i]
    return out


def _sizes(labels: Tensor) -> Tensor:
    """Pixels of every numbered part; the outside counts as none."""
    sizes = torch.bincount(labels.flatten(), minlength=2)
    sizes[0] = 0
    return sizes


def filled(mask: Tensor) -> Tensor:
    """Fill holes that are highlights (small) or a pale inside behind a rim (larger than the rest)."""
    labels, out = numbered(~mask), mask.clone()
    for i, frame in enumerate(labels):
        sizes, whole = _sizes(frame), mask[i].sum()
        rim = torch.cat([frame[0], frame[-1], frame[:, 0], frame[:, -1]]).unique()
        fill = (sizes > 0) & ((sizes < 0.15 * whole) | (sizes > 0.8 * whole))
        fill[rim] = False
        out[i] |= fill[frame]
    return out


def numbered(mask: Tensor) -> Tensor:
    """Number the connected parts of every frame, diagonals included; 0 outside. mask: (F, H, W) bool."""
    return torch.from_numpy(np.stack([_numbered_frame(frame) for frame in mask.numpy()]))


def _numbered_frame(frame: np.ndarray) -> np.ndarray:
    """Connected parts by runs of pixels in a row, joined to the runs they touch in the row above."""
    edges = np.diff(np.pad(frame, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first = np.searchsorted(rows, np.arange(len(frame) + 1))
    for row in range(1, len(frame)):
        above, last = first[row - 1], first[row]
        for run in range(first[row], first[row + 1]):
            while above < last and ends[above] < starts[run]:
                above += 1
            touching = above
            while touching < last and starts[touching] <= ends[run]:
                parent[root(touching)] = root(run)
                touching += 1
    out = np.zeros(frame.shape, np.int64)
    for run, (row, start, end) in enumerate(zip(rows, starts, ends, strict=True)):
        out[row, start:end] = root(run) + 1
    return out


def background(edge: Tensor) -> str:
    """Name a backdrop by the colours at the top and at the bottom of its edges."""
    quarter = len(edge) // 4
    top, bottom = (lab(part.flatten(0, 1)).median(0).values for part in (edge[:quarter], edge[-quarter:]))
    chroma = [float(c[1:].norm()) for c in (top, bottom)]
    hue = math.degrees(math.atan2(float(bottom[2]), float(bottom[1]))) % 360
    if max(float(top[0]), float(bottom[0])) < 34:
        return "night sky" if max(chroma) > 10 and float(bottom[2]) < -6 else "black"
    if max(chroma) < 9:
        return "gray"
    if chroma[1] > 15 and 100 < hue < 170:
        return "grass"
    if chroma[1] > 15 and 40 < hue < 100:
        return "desert"
    if float(top[2]) < -10 and float(top[0]) > 50:
        return "blue sky"
    return ""


def colour(clip: Tensor, mask: Tensor) -> str:
    """The nearest named colour to the object's median, its rim left out."""
    inner = -F.max_pool2d(-mask.float()[:, None], 5, 1, 2)[:, 0] > 0.5
    pixels = clip[inner] if int(inner.sum()) > 50 else clip[mask]
    middle = lab(pixels.median(0).values)
    names = list(NAMES)
    away = (lab(torch.tensor([NAMES[n] for n in names])) - middle).norm(dim=-1)
    return names[int(away.argmin())]


# --- shape --------------------------------------------------------------------------------------


def _outline(name: str, turn: float) -> np.ndarray:
    """A plain template, of unit area more or less, turned by degrees."""
    side, big = 4 * TEMPLATE, Image.new("L", (4 * TEMPLATE,) * 2)
    pen, mid, r = ImageDraw.Draw(big), 2 * TEMPLATE, 1.3 * TEMPLATE

    def ring_of(n: int, inner: float | None = None) -> list[tuple[float, float]]:
        points = []
        for i in range(n):
            for radius, offset in ((1.0, 0.0), (inner, 0.5)):
                if radius is not None:
                    a = 2 * math.pi * (i + offset) / n - math.pi / 2
                    points.append((mid + r * radius * math.cos(a), mid + r * radius * math.sin(a)))
        return points

    match name:
        case "ball":
            pen.ellipse((mid - r, mid - r, mid + r, mid + r), fill=255)
        case "ring":
            pen.ellipse((mid - r, mid - r, mid + r, mid + r), fill=255)
            pen.ellipse((mid - r / 2, mid - r / 2, mid + r / 2, mid + r / 2), fill=0)
        case "square":
            pen.polygon(ring_of(4), fill=255)
        case "triangle":
            pen.polygon(ring_of(3), fill=255)
        case "star":
            pen.polygon(ring_of(5, 0.45), fill=255)
        case "heart":
            lobe = r * 0.52
            for x in (mid - lobe, mid + lobe):
                pen.ellipse((x - lobe, mid - r * 0.8, x + lobe, mid - r * 0.8 + 2 * lobe), fill=255)
            pen.polygon([(mid - r * 0.98, mid - r * 0.1), (mid + r * 0.98, mid - r * 0.1), (mid, mid + r)], fill=255)
    turned = big.rotate(turn)
    return np.asarray(turned.resize((side // 2, side // 2)), dtype=np.float32) / 255


def _normal(mask: Tensor) -> Tensor:
    """A mask centred and scaled to a fixed area, (TEMPLATE, TEMPLATE), 0 to 1."""
    mask = mask.float()
    area = mask.sum().clamp(min=1)
    h, w = mask.shape
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    cy, cx = (mask * y).sum() / area, (mask * x).sum() / area
    half = 0.95 * area.sqrt()  # half a side of the window, in pixels
    axis = (torch.arange(TEMPLATE) + 0.5) / TEMPLATE * 2 - 1
    gy, gx = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([(cx + gx * half) / w * 2 - 1, (cy + gy * half) / h * 2 - 1], -1)
    return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]


@lru_cache(maxsize=1)
def _templates() -> tuple[list[str], Tensor]:
    names, pictures = [], []
    for name in ("ball", "square", "triangle", "star", "heart", "ring"):
        for turn in range(0, 360, 12):
            names.append(name)
            pictures.append(_normal(torch.from_numpy(_outline(name, turn)) > 0.5).flatten())
            if name in ("ball", "ring"):
                break
    return names, torch.stack(pictures)


def shape(mask: Tensor) -> tuple[str, float]:
    """The template that fits best over all frames in which the object is whole, and how well it does."""
    names, templates = _templates()
    votes: dict[str, float] = {}
    total = 0.0
    for frame in mask[::2]:
        touches = frame[0].any() or frame[-1].any() or frame[:, 0].any() or frame[:, -1].any()
        if touches or int(frame.sum()) < 120:
            continue
        x = _normal(frame).flatten()
        overlap = torch.minimum(x, templates).sum(1) / torch.maximum(x, templates).sum(1)
        weight = float(frame.sum()) ** 0.5
        total += weight
        for name in set(names):
            fit = max(float(o) for o, n in zip(overlap, names, strict=True) if n == name)
            votes[name] = votes.get(name, 0.0) + weight * fit
    best = max(votes, key=lambda n: votes[n], default="")
    return best, votes.get(best, 0.0) / max(total, 1e-9)


# --- motion -------------------------------------------------------------------------------------


def motion(clip: Tensor, mask: Tensor) -> str:
    """Name a motion by the object's track, size and turning."""
    area = mask.float().sum((1, 2))
    seen = area > 40
    if int(seen.sum()) < 8:
        return ""
    h, w = mask.shape[1:]
    y, x = (torch.arange(n) + 0.5 for n in (h, w))
    m = mask.float()[seen]
    size = area[seen]
    cx = (m.sum(1) * x).sum(1) / size / w * 2 - 1
    cy = (m.sum(2) * y).sum(1) / size / h * 2 - 1
    third = max(2, len(size) // 8)
    growth = float((size[-third:].mean() / size[:third].mean()).sqrt())
    dx, dy = (float(c[-third:].mean() - c[:third].mean()) for c in (cx, cy))
    wide, tall = (float(c.max() - c.min()) for c in (cx, cy))
    if wide < 0.3 and tall < 0.35 and (growth > 1.35 or growth < 0.74):
        return "grow" if growth > 1 else "shrink"
    if wide > 0.4 and tall > 0.4 and math.hypot(dx, dy) < 0.7 * min(wide, tall):
        return "circle"
    if max(abs(dx), abs(dy)) > 0.35:
        if abs(dx) > 1.5 * abs(dy):
            return "right" if dx > 0 else "left"
        if abs(dy) > 1.5 * abs(dx):
            return "down" if dy > 0 else "up"
        return ""
    if tall > 0.3 and wide < 0.3:
        return "bounce"
    if wide > 0.3 or tall > 0.3:
        return ""
    return "spin" if abs(_turning(clip[seen], mask[seen])) > math.pi else "still"


def _turning(clip: Tensor, mask: Tensor) -> float:
    """How far the pattern inside the object turns, in radians: its odd spot is followed."""
    luma = clip @ torch.tensor([0.299, 0.587, 0.114])
    closed = -F.max_pool2d(-F.max_pool2d(mask.float()[:, None], 11, 1, 5), 11, 1, 5)  # a spot may cut the rim
    inner = -F.max_pool2d(-closed, 5, 1, 2)[:, 0]
    angles = []
    y, x = torch.meshgrid(torch.arange(mask.shape[1]) + 0.5, torch.arange(mask.shape[2]) + 0.5, indexing="ij")
    for frame, core, whole in zip(luma, inner, mask.float(), strict=True):
        if core.sum() < 30:
            continue
        middle = frame[core > 0.5].median()
        odd = (frame - middle).abs() * core
        odd = odd * (odd > 0.5 * odd.max())
        ox, oy = ((odd * a).sum() / odd.sum().clamp(min=1e-6) for a in (x, y))
        cx, cy = ((whole * a).sum() / whole.sum() for a in (x, y))
        angles.append(math.atan2(float(oy - cy), float(ox - cx)))
    return float(np.unwrap(angles)[-1] - angles[0]) if len(angles) > 4 else 0.0
