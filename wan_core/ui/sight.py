"""What the model sees of an uploaded picture: what a crop leaves out is dimmed, padding is shown."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from wan_core.framing import crop_box, padded
from wan_core.types import Settled

LONGEST = 420  # pixels of the preview
DIM = 0.32  # how much is left of what is cut away


def sight(path: Path, settled: Settled) -> Image.Image:
    """Draw a picture as the model will see it.

    Args:
        path: a picture that has been checked.
        settled: the frame, and how the picture meets it.

    Returns:
        RGB, at most ``LONGEST`` pixels long.
    """
    with Image.open(path) as file:
        file.draft("RGB", (2 * LONGEST, 2 * LONGEST))  # large JPEGs need not be read whole
        picture = ImageOps.exif_transpose(file).convert("RGBA")
    picture.thumbnail((LONGEST, LONGEST))
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    frame = settled.width, settled.height
    if settled.image_fit == "pad":
        scale = LONGEST / max(frame)
        canvas = Image.new("RGB", (round(frame[0] * scale), round(frame[1] * scale)), "white")
        inner, corner = padded(picture.size, canvas.size)
        canvas.paste(picture.resize(inner), corner)
        return canvas
    box = crop_box(picture.size, frame, settled.focal_point)
    edges = round(box[0]), round(box[1]), round(box[2]), round(box[3])
    dimmed = ImageEnhance.Brightness(picture).enhance(DIM)
    dimmed.paste(picture.crop(edges), edges[:2])
    return dimmed
