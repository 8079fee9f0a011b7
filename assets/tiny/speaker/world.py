"""The speakers' world: who a cartoon person is, how it moves and speaks, and how it is painted.

Coordinates run from -1 to 1, x to the right and y downwards, as in the first world, whose backdrops
serve here too. A reference shows a person on white, mouth closed, looking ahead; a clip shows the
same person somewhere, moving, its mouth opened by the voice's loudness and rounded by its darkness.
"""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from assets.tiny.world import BACKGROUNDS, COLOURS, FPS, FRAMES, SIZE, backdrop

Colour = tuple[int, int, int]
SKINS: dict[str, Colour] = {
    "pale": (255, 224, 196), "tan": (226, 170, 122), "brown": (160, 104, 66), "dark": (96, 62, 42),
    "blue": (120, 176, 240),
}  # fmt: skip
HAIR: dict[str, Colour] = {
    "black": (36, 32, 34), "brown": (110, 66, 34), "blond": (240, 200, 96), "red": (206, 84, 30),
    "white": (236, 236, 240), "pink": (246, 120, 180),
}  # fmt: skip
CLOTHES: dict[str, Colour] = {k: COLOURS[k] for k in ("red", "orange", "yellow", "green", "blue", "purple", "white")}
STYLES = ("short", "long", "bald", "spiky", "bun")
EXTRAS = ("none", "glasses", "hat", "bow")
PLACES = {"left": -0.40, "middle": 0.0, "right": 0.40}
MOTIONS = ("still", "swaying", "nodding", "hopping")
EYE_WHITE, PUPIL, LIPS, THROAT = (250, 250, 250), (40, 36, 44), (150, 40, 52), (60, 12, 22)
HAT, BOW, RIM = (60, 70, 150), (230, 50, 90), (30, 30, 40)

SCALE = 1.15  # of everything below, in units of half the frame
HEAD = (0.36, 0.42)  # radii
MOUTH_Y, EYE_X, EYE_Y = 0.21, 0.14, -0.02  # from the head's centre
MOUTH_WIDE, MOUTH_ROUND = 0.155, 0.090  # half widths
MOUTH_SHUT, MOUTH_OPEN = 0.020, 0.150  # half heights


@dataclass(frozen=True)
class Person:
    """Who is shown: what a reference tells and a prompt does not."""

    skin: str
    hair: str
    style: str
    clothes: str
    extra: str


@dataclass(frozen=True)
class Scene:
    """What a prompt tells, and the jitter it does not."""

    person: Person
    background: str
    place: str
    motion: str
    phase: float = 0.0
    blink: float = 0.5
    dy: float = 0.0


def held_out(person: Person) -> bool:
    """Whether a person is kept from training: a fixed tenth of all."""
    return zlib.crc32(repr(person).encode()) % 10 == 0


def sample_person(rng: random.Random, held: bool = False) -> Person:
    """Draw somebody from one side of the split."""
    while True:
        person = Person(*(rng.choice(tuple(x)) for x in (SKINS, HAIR, STYLES, CLOTHES, EXTRAS)))
        if held_out(person) == held:
            return person


def sample_scene(rng: random.Random, held: bool = False) -> Scene:
    """Draw a scene with somebody in it."""
    return Scene(
        sample_person(rng, held),
        rng.choice(BACKGROUNDS),
        rng.choice(tuple(PLACES)),
        rng.choice(MOTIONS),
        phase=rng.random(),
        blink=rng.random(),
        dy=rng.uniform(-0.04, 0.04),
    )


def path(scene: Scene, frames: int = FRAMES) -> Tensor:
    """The head's centre in every frame, (frames, 2)."""
    t = torch.arange(frames) / FPS
    x, y = torch.full((frames,), PLACES[scene.place]), torch.full((frames,), 0.04 + scene.dy)
    turn = 2 * math.pi * (t + scene.phase)
    match scene.motion:
        case "swaying":
            x = x + 0.11 * torch.sin(0.8 * turn)
        case "nodding":
            y = y + 0.07 * torch.sin(1.2 * turn)
        case "hopping":
            y = y - 0.17 * torch.sin(turn).abs()
    return torch.stack([x, y], 1)


def lids(scene: Scene, frames: int = FRAMES) -> Tensor:
    """How open the eyes are, (frames,): a blink every other second."""
    t = torch.arange(frames) / FPS
    away = (t - 0.3 - 1.4 * scene.blink + 1.0) % 2.0 - 1.0
    return 1 - torch.exp(-((away / 0.07) ** 2))


def render(scene: Scene, mouth: Tensor) -> Tensor:
    """Paint a clip.

    Args:
        scene: who, where, and what they do.
        mouth: (F, 2) openness and roundness, 0 to 1, from :func:`assets.tiny.speaker.voices.mouth`.

    Returns:
        (F, SIZE, SIZE, 3) uint8.
    """
    frames = len(mouth)
    picture = backdrop(scene.background).expand(frames, SIZE, SIZE, 3)
    return _rounded(_paint(scene.person, picture, path(scene, frames), mouth, lids(scene, frames)))


def reference(person: Person) -> Tensor:
    """A person on white, mouth closed, (SIZE, SIZE, 3) uint8."""
    white = torch.full((1, SIZE, SIZE, 3), 255.0)
    return _rounded(_paint(person, white, torch.tensor([[0.0, 0.04]]), torch.zeros(1, 2), torch.ones(1)))[0]


def _rounded(picture: Tensor) -> Tensor:
    return picture.round().clamp(0, 255).to(torch.uint8)


# --- painting -----------------------------------------------------------------------------------


class _Canvas:
    """Frames to paint on, in the head's own units and place."""

    def __init__(self, picture: Tensor, head: Tensor) -> None:
        self.picture = picture.clone()
        axis = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
        self.x = (axis[None, None, :] - head[:, 0, None, None]) / SCALE  # (F, 1, S)
        self.y = (axis[None, :, None] - head[:, 1, None, None]) / SCALE  # (F, S, 1)

    def fill(self, colour: Colour, distance: Tensor, where: Tensor | float = 1.0) -> None:
        """Lay a colour over all points with a negative distance, with a soft edge."""
        alpha = (0.5 - distance * SCALE * SIZE / 2).clamp(0, 1) * where
        over = torch.tensor(colour, dtype=torch.float32)
        self.picture += (over - self.picture) * alpha[..., None]

    def ellipse(self, x: float, y: float, rx: Tensor | float, ry: Tensor | float) -> Tensor:
        """Signed distance to an ellipse's rim, right near the rim, which is all that a soft edge needs."""
        nx, ny = (self.x - x) / rx, (self.y - y) / ry
        radius = (nx * nx + ny * ny).sqrt()
        slope = ((nx / rx) ** 2 + (ny / ry) ** 2).sqrt() / radius.clamp(min=1e-4)
        return (radius - 1) / slope.clamp(min=1e-4)

    def box(self, x: float, y: float, rx: float, ry: float) -> Tensor:
        """Signed distance to a box, inside or beside it."""
        return torch.maximum((self.x - x).abs() - rx, (self.y - y).abs() - ry)


def _paint(person: Person, picture: Tensor, head: Tensor, mouth: Tensor, lids: Tensor) -> Tensor:
    canvas = _Canvas(picture, head)
    skin, hair = SKINS[person.skin], HAIR[person.hair]
    shade = tuple(round(0.72 * c) for c in skin)
    if person.style == "long":
        canvas.fill(hair, canvas.ellipse(0, 0.14, 0.44, 0.56))
    canvas.fill(CLOTHES[person.clothes], canvas.ellipse(0, 0.94, 0.50, 0.50))
    canvas.fill((shade[0], shade[1], shade[2]), canvas.ellipse(0, 0.40, 0.13, 0.16))
    canvas.fill(skin, canvas.ellipse(0, 0, *HEAD))
    _hair(canvas, person.style, hair)
    _face(canvas, mouth, lids)
    _extra(canvas, person.extra)
    return canvas.picture


def _hair(canvas: _Canvas, style: str, hair: Colour) -> None:
    if style == "bald":
        return
    brow = canvas.y + 0.17 - 0.58 * canvas.x**2
    canvas.fill(hair, torch.maximum(canvas.ellipse(0, -0.02, 0.39, 0.45), brow))
    if style == "spiky":
        for k in range(5):
            canvas.fill(hair, canvas.ellipse(-0.28 + 0.14 * k, -0.40, 0.06, 0.14))
    if style == "bun":
        canvas.fill(hair, canvas.ellipse(0, -0.50, 0.15, 0.13))


def _face(canvas: _Canvas, mouth: Tensor, lids: Tensor) -> None:
    lift = lids[:, None, None].clamp(min=0.12)
    for side in (-EYE_X, EYE_X):
        canvas.fill(EYE_WHITE, canvas.ellipse(side, EYE_Y, 0.075, 0.085 * lift))
        canvas.fill(PUPIL, canvas.ellipse(side, EYE_Y, 0.040, 0.050 * lift))
    opened, rounded = mouth[:, 0, None, None], mouth[:, 1, None, None]
    rx = MOUTH_WIDE + (MOUTH_ROUND - MOUTH_WIDE) * rounded * opened
    ry = MOUTH_SHUT + (MOUTH_OPEN - MOUTH_SHUT) * opened
    canvas.fill(LIPS, canvas.ellipse(0, MOUTH_Y, rx, ry))
    inside = canvas.ellipse(0, MOUTH_Y, rx - 0.025, (ry - 0.025).clamp(min=0.004))
    canvas.fill(THROAT, inside, ((opened - 0.03) / 0.05).clamp(0, 1))


def _extra(canvas: _Canvas, extra: str) -> None:
    match extra:
        case "glasses":
            for side in (-EYE_X, EYE_X):
                canvas.fill(RIM, canvas.ellipse(side, EYE_Y, 0.115, 0.115).abs() - 0.014)
            canvas.fill(RIM, canvas.box(0, EYE_Y, 0.03, 0.012))
        case "hat":
            canvas.fill(HAT, canvas.ellipse(0, -0.34, 0.47, 0.06))
            canvas.fill(HAT, canvas.box(0, -0.48, 0.27, 0.15))
        case "bow":
            for side in (-0.09, 0.09):
                canvas.fill(BOW, canvas.ellipse(side, 0.53, 0.085, 0.06))
