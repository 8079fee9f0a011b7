"""How a picture of any shape meets a frame: arithmetic only."""

from __future__ import annotations

import math

Size = tuple[int, int]  # width, height
SHAPES = {"16:9": 16 / 9, "4:3": 4 / 3, "1:1": 1.0, "3:4": 3 / 4, "9:16": 9 / 16}
GRID = 32  # pixels that sides of most models may be a multiple of


def crop_box(source: Size, target: Size, focal: tuple[float, float]) -> tuple[float, float, float, float]:
    """The part of a picture that fills a frame, as near to the focal point as the edges allow.

    Args:
        source: the picture's width and height.
        target: the frame's width and height.
        focal: point to keep in the middle, each 0 to 1.

    Returns:
        left, top, right, bottom in the picture's pixels.
    """
    scale = min(source[0] / target[0], source[1] / target[1])
    width, height = target[0] * scale, target[1] * scale
    left = min(max(focal[0] * source[0] - width / 2, 0), source[0] - width)
    top = min(max(focal[1] * source[1] - height / 2, 0), source[1] - height)
    return left, top, left + width, top + height


def padded(source: Size, target: Size) -> tuple[Size, tuple[int, int]]:
    """The size of a picture that is shown whole in a frame, and where its left upper corner goes.

    Args:
        source: the picture's width and height.
        target: the frame's width and height.
    """
    scale = min(target[0] / source[0], target[1] / source[1])
    inner = max(1, round(source[0] * scale)), max(1, round(source[1] * scale))
    return inner, ((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2)


def sizes(usual: Size, longest: int, grid: int = GRID) -> dict[str, Size]:
    """Frame sizes of common shapes, as many pixels as a model's usual size has, or a little fewer.

    Args:
        usual: the model's usual width and height.
        longest: its longest side.
        grid: what sides must be a multiple of.
    """
    area = usual[0] * usual[1]
    found = {}
    for name, aspect in SHAPES.items():
        width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        found[name] = tuple(min(max(grid, int(side // grid) * grid), longest) for side in (width, height))
    return found
