"""Pictures as people have them, to the frame a model sees."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from wan_core.errors import MediaError
from wan_core.framing import crop_box, padded
from wan_core.types import ImageInput

MOST_MEGAPIXELS = 50
FITS = ("crop", "pad")


def open_picture(source: ImageInput, field: str) -> Image.Image:
    """Open and check a picture.

    Args:
        source: a path, a PIL image, or an (H, W, 3) uint8 array.
        field: the request's field, for the message.

    Returns:
        An RGB image, turned upright.

    Raises:
        MediaError: it is not a picture, damaged, or too large.
    """
    if isinstance(source, Image.Image):
        return _upright(source, field, "picture")
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise MediaError(field, f"array {source.shape} {source.dtype}", "must be (H, W, 3) uint8")
        return _upright(Image.fromarray(source), field, "array")
    if not isinstance(source, str | Path):
        raise MediaError(field, type(source).__name__, "must be a path, a PIL image or a uint8 array")
    path = Path(source)
    if not path.is_file():
        raise MediaError(field, path.name, "there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _upright(image, field, path.name)
    except UnidentifiedImageError as error:
        raise MediaError(field, path.name, "this file is not a picture", "use PNG, JPEG or WebP") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(field, path.name, _size_rule(), "scale it down first") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(field, path.name, "this picture is damaged or cut short", "save it again") from error


def _size_rule() -> str:
    return f"a picture may have at most {MOST_MEGAPIXELS} megapixels"


def _upright(image: Image.Image, field: str, name: str) -> Image.Image:
    megapixels = image.width * image.height / 1e6
    if megapixels > MOST_MEGAPIXELS:  # known from the header, before any pixel is decoded
        size = f"{name}, {image.width}x{image.height}"
        raise MediaError(field, size, _size_rule(), "scale it down first")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return image.convert("RGB")


def fit(image: Image.Image, size: tuple[int, int], how: str, focal: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    """Bring a picture to a frame's size.

    Args:
        image: an RGB picture.
        size: width and height.
        how: "crop" fills the frame, "pad" shows everything on white.
        focal: point that a crop keeps in view.

    Returns:
        A picture of exactly that size.
    """
    if image.size == size:
        return image
    if how == "pad":
        inner, corner = padded(image.size, size)
        canvas = Image.new("RGB", size, "white")
        canvas.paste(image.resize(inner, Image.Resampling.LANCZOS), corner)
        return canvas
    box = crop_box(image.size, size, focal)
    return image.resize(size, Image.Resampling.LANCZOS, box=box)


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture to (1, 3, H, W) float32 in [-1, 1]."""
    array = np.asarray(image, dtype=np.float32) / 255.0
    return torch.from_numpy(array).permute(2, 0, 1)[None] * 2 - 1
