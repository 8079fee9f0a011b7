"""What the model sees of an uploaded picture: the part that a crop keeps, to be dragged, or the padding."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps

from wan_core.framing import crop_box, padded
from wan_core.types import Settled
from wan_core.ui.stage import data_uri
from wan_core.ui.words import say

LONGEST = 420  # pixels of the preview

#: Dragging the frame, or pressing beside it, says where its middle is to be; letting go tells the server.
DRAG = """
element.addEventListener('pointerdown', (down) => {
  const view = down.target.closest('.sight .whole'), box = view && view.querySelector('.box')
  if (!box || !down.isPrimary || down.button !== 0) return
  down.preventDefault()
  const area = view.getBoundingClientRect(), was = box.getBoundingClientRect()
  const size = [was.width / area.width, was.height / area.height]
  const grip = down.target === box
    ? [(down.clientX - was.left) / area.width, (down.clientY - was.top) / area.height]
    : [size[0] / 2, size[1] / 2]
  const before = [box.style.left, box.style.top]
  let middle
  const move = (event) => {
    const at = [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height]
    const corner = at.map((place, axis) => Math.min(Math.max(place - grip[axis], 0), 1 - size[axis]))
    box.style.left = `${100 * corner[0]}%`
    box.style.top = `${100 * corner[1]}%`
    middle = corner.map((place, axis) => place + size[axis] / 2)
  }
  const drop = (event) => {
    for (const [name, does] of heard) view.removeEventListener(name, does)
    if (event.type === 'pointerup') trigger('select', {x: middle[0], y: middle[1]})
    else [box.style.left, box.style.top] = before  // the browser took the gesture
  }
  const heard = [['pointermove', move], ['pointerup', drop], ['pointercancel', drop]]
  move(down)
  view.setPointerCapture(down.pointerId)
  for (const [name, does] of heard) view.addEventListener(name, does)
})
"""


def sight(path: Path, settled: Settled, language: str) -> str:
    """Draw a picture as the model will see it, as a piece of the page.

    Args:
        path: a picture that has been checked.
        settled: the frame, and how the picture meets it.
        language: of the words.
    """
    picture = _small(path)
    if settled.image_fit == "pad":
        words, view = "What the model sees", f'<img src="{_uri(_in_frame(picture, settled))}" alt="">'
    else:
        words = "What the model sees: drag the frame to what matters"
        left, top, right, bottom = crop_box(picture.size, (settled.width, settled.height), settled.focal_point)
        style = (
            f"left:{100 * left / picture.width:.2f}%;width:{100 * (right - left) / picture.width:.2f}%;"
            f"top:{100 * top / picture.height:.2f}%;height:{100 * (bottom - top) / picture.height:.2f}%"
        )
        view = f'<img src="{_uri(picture)}" alt=""><div class="box" style="{style}"></div>'
    return f'<div class="sight"><span>{say(language, words)}</span><div class="whole">{view}</div></div>'


def _small(path: Path) -> Image.Image:
    with Image.open(path) as file:
        file.draft("RGB", (2 * LONGEST, 2 * LONGEST))  # large JPEGs need not be read whole
        picture = ImageOps.exif_transpose(file).convert("RGBA")
    picture.thumbnail((LONGEST, LONGEST))
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _in_frame(picture: Image.Image, settled: Settled) -> Image.Image:
    """The picture whole, on white."""
    scale = LONGEST / max(settled.width, settled.height)
    canvas = Image.new("RGB", (round(settled.width * scale), round(settled.height * scale)), "white")
    inner, corner = padded(picture.size, canvas.size)
    canvas.paste(picture.resize(inner), corner)
    return canvas


def _uri(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=90)
    return data_uri(out.getvalue())
