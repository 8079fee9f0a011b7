"""The procedural world: what a scene is, how it moves, and how it is painted.

A scene is one cartoon object on a backdrop. Coordinates run from -1 to 1, x to the right and y
downwards, so one unit is half the frame. Captions for scenes live in ``captions.py``.
"""

from __future__ import annotations

import itertools
import math
import random
import zlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SIZE = 128  # pixels, both sides
FRAMES = 33  # 4n+1
FPS = 16

COLOURS = {
    "red": (228, 38, 40),
    "orange": (255, 138, 0),
    "yellow": (255, 226, 26),
    "green": (30, 200, 70),
    "cyan": (20, 214, 224),
    "blue": (36, 84, 240),
    "purple": (140, 50, 215),
    "pink": (255, 120, 190),
    "white": (248, 248, 250),
}
SHAPES = ("ball", "square", "triangle", "star", "heart", "ring")
MOTIONS = ("left", "right", "up", "down", "bounce", "spin", "circle", "grow", "shrink", "still")
BACKGROUNDS = ("black", "gray", "blue sky", "night sky", "grass", "desert")
SIZES = {"small": 0.31, "medium": 0.40, "big": 0.50}  # radius

JITTER = (0.08, 0.06)  # how far from where its motion looks best a path starts, at most
GROUNDED = ("grass", "desert")  # backdrops on which an object throws a shadow
FLOOR = 0.80  # y of the ground under the object


@dataclass(frozen=True)
class Scene:
    """One clip's content: what the caption may say, and the jitter it does not.

    ``dx, dy`` move the whole path, ``pace`` scales how far it goes, ``tilt`` turns the object,
    ``shade`` brightens or darkens its paint.
    """

    colour: str
    shape: str
    motion: str
    background: str
    size: str = "medium"
    dx: float = 0.0
    dy: float = 0.0
    pace: float = 1.0
    tilt: float = 0.0
    shade: float = 1.0

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The combination that is either trained on or held out."""
        return self.colour, self.shape, self.motion, self.background


def held_out(key: tuple[str, str, str, str]) -> bool:
    """Whether a combination is kept from training: a fixed tenth of all of them."""
    return zlib.crc32("/".join(key).encode()) % 10 == 0


@lru_cache(maxsize=2)
def combinations(held: bool) -> tuple[tuple[str, str, str, str], ...]:
    """All (colour, shape, motion, background) on one side of the split."""
    every = itertools.product(COLOURS, SHAPES, MOTIONS, BACKGROUNDS)
    return tuple(k for k in every if held_out(k) == held)


def sample_scene(rng: random.Random, *, held: bool = False, wide: bool = False) -> Scene:
    """Draw a scene.

    Args:
        rng: source of randomness.
        held: draw from the held-out combinations instead of the training ones.
        wide: let the object start anywhere that leaves its motion room, as pictures that people
            upload do; otherwise it starts where its motion looks best, with a little jitter.

    Returns:
        The scene.
    """
    key = rng.choice(combinations(held))
    size = rng.choices(tuple(SIZES), weights=(1, 2, 1))[0]
    span_x, span_y = _room(key[2], wide)
    return Scene(
        *key,
        size=size,
        dx=rng.uniform(-span_x, span_x),
        dy=rng.uniform(-span_y, span_y),
        pace=rng.uniform(0.9, 1.1),
        tilt=rng.uniform(-0.12, 0.12),
        shade=rng.uniform(0.95, 1.04),
    )


def _room(motion: str, wide: bool) -> tuple[float, float]:
    """How far a path may be moved in x and y before the object would leave the frame."""
    if not wide:
        return JITTER
    return {
        "left": (0.16, 0.36), "right": (0.16, 0.36), "up": (0.36, 0.16), "down": (0.36, 0.16),
        "bounce": (0.36, 0.08), "circle": (0.16, 0.12),
    }.get(motion, (0.34, 0.30))  # fmt: skip


def is_wide(scene: Scene) -> bool:
    """Whether the scene starts somewhere that ``sample_scene`` only goes to when asked for ``wide``."""
    return abs(scene.dx) > JITTER[0] or abs(scene.dy) > JITTER[1]


def path(scene: Scene) -> Tensor:
    """The object's pose in every frame.

    Returns:
        (FRAMES, 4) float32: centre x, centre y, radius, angle in radians (clockwise on screen).
    """
    u = torch.linspace(0, 1, FRAMES)
    x, y = torch.full_like(u, scene.dx), torch.full_like(u, scene.dy)
    radius = torch.full_like(u, SIZES[scene.size])
    angle = torch.full_like(u, scene.tilt)
    reach = 0.5 * scene.pace
    match scene.motion:
        case "left":
            x = x + reach * (1 - 2 * u)
        case "right":
            x = x - reach * (1 - 2 * u)
        case "up":
            y = y + reach * (1 - 2 * u)
        case "down":
            y = y - reach * (1 - 2 * u)
        case "bounce":
            floor = FLOOR - SIZES[scene.size]
            height = (floor + 0.5) * scene.pace
            y = floor + 0.5 * scene.dy - height * torch.sin(math.pi * (2 * u)).abs()
        case "spin":
            angle = angle + 2 * math.pi * u * scene.pace
        case "circle":
            turn = 2 * math.pi * u - math.pi / 2
            x, y = x + 0.38 * scene.pace * torch.cos(turn), y + 0.38 * scene.pace * torch.sin(turn)
        case "grow":
            radius = radius * (0.55 + 0.85 * u * scene.pace)
        case "shrink":
            radius = radius * (1.40 - 0.85 * u * scene.pace)
    return torch.stack([x, y, radius, angle], dim=1)


# --- distance to a shape, in units of its radius ---------------------------------------------


def _polygon(px: Tensor, py: Tensor, points: list[tuple[float, float]]) -> Tensor:
    """Signed distance to a closed polygon: negative inside."""
    nearest = torch.full_like(px, 1e9)
    inside = torch.zeros_like(px, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        ex, ey = bx - ax, by - ay
        wx, wy = px - ax, py - ay
        t = ((wx * ex + wy * ey) / (ex * ex + ey * ey)).clamp_(0, 1)
        nearest = torch.minimum(nearest, (wx - ex * t) ** 2 + (wy - ey * t) ** 2)
        crosses = (ay > py) != (by > py)
        inside ^= crosses & (px < ex * (py - ay) / (ey if ey else 1e-9) + ax)
    distance = nearest.sqrt_()
    return torch.where(inside, -distance, distance)


def _spokes(count: int, outer: float, inner: float | None = None) -> list[tuple[float, float]]:
    """Corners of a regular polygon, or of a star when ``inner`` is given; one points up."""
    points = []
    for i in range(count):
        a = -math.pi / 2 + 2 * math.pi * i / count
        points.append((outer * math.cos(a), outer * math.sin(a)))
        if inner is not None:
            b = a + math.pi / count
            points.append((inner * math.cos(b), inner * math.sin(b)))
    return points


def _heart_points(count: int = 28) -> list[tuple[float, float]]:
    """A heart's outline from the classic sine curve, scaled to radius one."""
    points = []
    for i in range(count):
        t = 2 * math.pi * i / count
        hx = 16 * math.sin(t) ** 3
        hy = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((hx / 16.0, -(hy + 2.5) / 16.0))
    return points


def distance(shape: str, px: Tensor, py: Tensor) -> Tensor:
    """Signed distance from points to a shape of radius one, negative inside."""
    match shape:
        case "ball":
            return (px * px + py * py).sqrt() - 0.95
        case "ring":
            return ((px * px + py * py).sqrt() - 0.74).abs() - 0.26
        case "square":
            qx, qy = px.abs() - 0.72, py.abs() - 0.72
            outside = (qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2).sqrt()
            return outside + torch.maximum(qx, qy).clamp(max=0) - 0.08
        case "triangle":
            return _polygon(px, py - 0.12, _spokes(3, 1.12)) - 0.03
        case "star":
            return _polygon(px, py - 0.04, _spokes(5, 1.12, 0.50)) - 0.02
        case "heart":
            return _polygon(px, py, _heart_points())
    raise ValueError(f"unknown shape {shape!r}")


# --- backdrops ---------------------------------------------------------------------------------


def _blend(low: Tensor, high: tuple[float, ...] | Tensor, alpha: Tensor) -> Tensor:
    """Lay a colour over a picture. low: (H, W, 3), alpha: (H, W)."""
    over = torch.as_tensor(high, dtype=low.dtype)
    return low + (over - low) * alpha[..., None]


def _ramp(top: tuple[int, ...], bottom: tuple[int, ...], v: Tensor) -> Tensor:
    """A vertical gradient. v: (H, W) from 0 at the top to 1 at the bottom."""
    a, b = torch.tensor(top, dtype=torch.float32), torch.tensor(bottom, dtype=torch.float32)
    return a + (b - a) * v.clamp(0, 1)[..., None]


def _spot(x: Tensor, y: Tensor, cx: float, cy: float, radius: float, soft: float) -> Tensor:
    """Coverage of a disc with a soft rim, 0 to 1."""
    d = ((x - cx) ** 2 + (y - cy) ** 2).sqrt()
    return ((radius - d) / soft + 0.5).clamp(0, 1)


@lru_cache(maxsize=16)
def backdrop(name: str, size: int = SIZE) -> Tensor:
    """Paint a backdrop.

    Returns:
        (size, size, 3) float32 in 0..255.
    """
    y, x = _grid(size)
    v = (y + 1) / 2
    if name == "black":
        return _ramp((10, 10, 12), (4, 4, 6), v)
    if name == "gray":
        return _ramp((142, 142, 144), (112, 112, 114), v)
    if name == "blue sky":
        picture = _ramp((92, 172, 255), (214, 236, 255), v)
        for cx, cy, r in ((-0.62, -0.66, 0.17), (-0.44, -0.62, 0.13), (0.62, -0.42, 0.15), (0.78, -0.38, 0.11)):
            picture = _blend(picture, (255.0, 255.0, 255.0), 0.8 * _spot(x, y, cx, cy, r, 0.12))
        return picture
    if name == "night sky":
        picture = _ramp((8, 10, 34), (34, 34, 86), v)
        stars = random.Random(7)
        for _ in range(16):
            sx, sy = stars.uniform(-0.95, 0.95), stars.uniform(-0.95, 0.75)
            picture = _blend(picture, (225.0, 228.0, 255.0), 0.8 * _spot(x, y, sx, sy, 0.016, 0.03))
        return _blend(picture, (236.0, 232.0, 205.0), _spot(x, y, 0.74, -0.74, 0.13, 0.03))
    if name == "grass":
        picture = _ramp((150, 208, 255), (222, 242, 255), v * 1.6)
        meadow = _ramp((104, 164, 62), (52, 104, 34), (v - 0.6) / 0.4)
        hill = ((y - (0.26 + 0.06 * torch.sin(2.4 * x + 0.6))) / 0.02 + 0.5).clamp(0, 1)
        return _blend(picture, meadow, hill)
    if name == "desert":
        picture = _ramp((255, 226, 178), (250, 204, 146), v * 1.5)
        picture = _blend(picture, (255.0, 246.0, 214.0), _spot(x, y, -0.7, -0.72, 0.15, 0.04))
        sand = _ramp((222, 172, 104), (184, 128, 70), (v - 0.6) / 0.4)
        dune = ((y - (0.30 - 0.09 * torch.sin(2.1 * x - 0.5))) / 0.02 + 0.5).clamp(0, 1)
        return _blend(picture, sand, dune)
    raise ValueError(f"unknown background {name!r}")


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[Tensor, Tensor]:
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y, x


# --- painting ------------------------------------------------------------------------------------


def render(scene: Scene, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Paint a scene.

    Args:
        scene: what to paint.
        size: side of the picture in pixels.

    Returns:
        The clip, (FRAMES, size, size, 3) uint8, and the object's coverage,
        (FRAMES, size, size) float32 in 0..1.
    """
    pose = path(scene)
    y, x = _grid(size)
    cx, cy, radius, angle = (pose[:, i, None, None] for i in range(4))
    picture = backdrop(scene.background, size).expand(FRAMES, size, size, 3)
    if scene.background in GROUNDED:
        picture = _cast_shadow(picture, x, y, pose)

    clip = picture.clone()
    cover = torch.zeros(FRAMES, size, size)
    window, rows, columns = _windows(pose, size)
    index = (torch.arange(FRAMES)[:, None, None], rows[:, :, None], columns[:, None, :])
    wx, wy = x[0][columns][:, None, :], y[:, 0][rows][:, :, None]
    px, py = ((wx - cx) / radius).expand(window), ((wy - cy) / radius).expand(window)
    cos, sin = torch.cos(angle), torch.sin(angle)
    qx, qy = px * cos + py * sin, py * cos - px * sin  # the object's own axes
    depth = distance(scene.shape, qx, qy)
    alpha = (0.5 - depth * radius * size / 2).clamp_(0, 1)
    below = clip[index]
    clip[index] = below + (_paint(scene, qx, qy, py, depth) - below) * alpha[..., None]
    cover[index] = alpha
    return clip.round_().clamp_(0, 255).to(torch.uint8), cover


def _windows(pose: Tensor, size: int) -> tuple[tuple[int, int, int], Tensor, Tensor]:
    """Per frame, the rows and columns around the object: painting only those is much cheaper."""
    side = min(size, math.ceil(1.25 * float(pose[:, 2].max()) * size) + 4)
    centre = (pose[:, :2] + 1) / 2 * size
    corner = (centre - side / 2).round().long().clamp(0, size - side)
    span = torch.arange(side)
    return (FRAMES, side, side), corner[:, 1, None] + span, corner[:, 0, None] + span


def _paint(scene: Scene, qx: Tensor, qy: Tensor, py: Tensor, depth: Tensor) -> Tensor:
    """The object's colours: light from above, a darker rim, and a pale spot that shows turning."""
    base = torch.tensor(COLOURS[scene.colour], dtype=torch.float32)
    light = scene.shade * (1.02 - 0.10 * py.clamp(-1, 1))
    light = light * (1 - 0.30 * ((depth + 0.16) / 0.10).clamp(0, 1))
    paint = base * light[..., None]
    at = (-0.52, -0.52) if scene.shape == "ring" else (-0.24, -0.30)
    reach = 0.20 if scene.shape == "ring" else 0.22
    spot = _spot(qx, qy, *at, reach, 0.10) * 0.75
    tint = (70.0, 74.0, 90.0) if scene.colour == "white" else (255.0, 255.0, 255.0)
    return paint + (torch.tensor(tint) - paint) * spot[..., None]


def _cast_shadow(picture: Tensor, x: Tensor, y: Tensor, pose: Tensor) -> Tensor:
    """A soft ellipse on the ground, smaller and fainter the higher the object is."""
    cx, cy, radius, _ = (pose[:, i, None, None] for i in range(4))
    height = (FLOOR - cy - radius).clamp(min=0)
    width = radius * (1 - 0.25 * height)
    d = (((x - cx) / width) ** 2 + ((y - FLOOR - 0.04) / (0.28 * width)) ** 2).sqrt()
    strength = 0.45 * (1 - 0.45 * height).clamp(0, 1)
    return picture * (1 - strength * ((1.1 - d) / 0.5).clamp(0, 1))[..., None]
