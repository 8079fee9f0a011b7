"""Videos as people have them, to the frames and masks a model reads: decoded by the bundled ffmpeg.

Where a mask is white, frames are to be changed; where it is black they are kept. What a video does
not show, after its end or around it, is always to be made: those frames are grey under a white mask.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wan_core.condition.picture import open_picture
from wan_core.errors import MediaError
from wan_core.framing import crop_box, padded
from wan_core.types import VideoInput

KINDS = "mp4, webm, mov or gif"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_ALLOWED = ["-protocol_whitelist", "file,pipe"]  # a playlist must not fetch anything


@dataclass(frozen=True)
class Look:
    """What is known of a video before its frames are decoded.

    Attributes:
        size: width and height.
        frames: how many there are at the model's frame rate; None where the file does not say, as recordings
            of browsers.
    """

    size: tuple[int, int]
    frames: int | None


LONGEST = 60.0  # seconds of a video that another goes on from
MOST_MEGAPIXELS = 9  # of a frame: 4K, and a little more


@dataclass(frozen=True)
class Footage:
    """A video and its mask, as a model reads them.

    Attributes:
        pixels: (1, 3, F, H, W) in [-1, 1], 0 where nothing is known.
        mask: (1, 1, F, H, W), 1 where it is to be made or changed.
    """

    pixels: Tensor
    mask: Tensor


def look(source: VideoInput, field: str, fps: float) -> Look:
    """Open a video far enough to know its size and length.

    Args:
        source: a path, or (F, H, W, 3) uint8 at the model's frame rate.
        field: the request's field, for messages.
        fps: the model's frame rate.

    Raises:
        MediaError: it is no video that can be read, or its frames are too large.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 4 or source.shape[3] != 3 or not len(source):
            raise MediaError(field, f"array {source.shape} {source.dtype}", "must be (F, H, W, 3) uint8")
        return _within(field, Look((source.shape[2], source.shape[1]), len(source)))
    with closing(_decoded(_path(source, field), field, [])) as frames:
        facts: Any = next(frames)
    width, height = facts["size"]
    return _within(field, Look((width, height), max(1, round(facts["duration"] * fps)) if facts["duration"] else None))


def _within(field: str, seen: Look) -> Look:
    width, height = seen.size
    if width * height > MOST_MEGAPIXELS * 1e6:
        rule = f"a video may have at most {MOST_MEGAPIXELS} megapixels a frame"
        raise MediaError(field, f"{width}x{height}", rule, "scale it down first")
    return seen


def preceding(source: VideoInput, field: str, fps: float) -> Look:
    """Look at a video that another goes on from.

    Args:
        source: as for :func:`look`.
        field: the request's field, for messages.
        fps: the model's frame rate.

    Returns:
        What is known of it, the number of its frames too.

    Raises:
        MediaError: it cannot be read, does not say how long it is, or lasts longer than :data:`LONGEST`.
    """
    seen = look(source, field, fps)
    if seen.frames is None:
        raise MediaError(field, "this video", "does not say how long it is", "save it as mp4")
    if seen.frames > LONGEST * fps:
        raise MediaError(field, "this video", f"lasts longer than {LONGEST:.0f} seconds", "cut it into parts")
    return seen


def played(source: VideoInput, field: str, fps: float) -> Iterator[np.ndarray]:
    """A video's frames one after another, (H, W, 3) uint8, as large as they are.

    Args:
        source: as for :func:`look`.
        field: the request's field, for messages.
        fps: the model's frame rate.

    Raises:
        MediaError: as for :func:`preceding`.
    """
    size = preceding(source, field, fps).size
    number = 0
    for frame in _frames(source, field, (0.0, 0.0, float(size[0]), float(size[1])), size, fps):
        number += 1
        yield frame
    if not number:
        raise MediaError(field, "this video", "holds no frames that can be read", f"try {KINDS}")


def footage(
    video: VideoInput, mask: VideoInput | None, size: tuple[int, int], frames: int, fps: float, how: str,
    focal: tuple[float, float],
) -> Footage:  # fmt: skip
    """Read a video and its mask.

    Args:
        video: as for :func:`look`.
        mask: likewise, or a picture that holds for all frames. Without one, all that the video shows may
            change if it fills the frame, and is kept if it stands in a larger one.
        size: the frame's width and height.
        frames: pixel frames F.
        fps: the model's frame rate.
        how: "crop" fills the frame, "pad" shows the whole video in it.
        focal: point that a crop keeps in view.

    Raises:
        MediaError: one of them cannot be read.
    """
    shown = _fitted(video, "video", size, frames, fps, how, focal)
    pixels = torch.from_numpy(shown.colours).permute(3, 0, 1, 2).float() / 127.5 - 1  # (3, F, H, W)
    known = torch.from_numpy(shown.known)  # (F, H, W)
    if mask is None:
        change = torch.full_like(known, fill_value=how == "crop")
    else:
        change = _mask(mask, size, frames, fps, how, focal)
    pixels = pixels * known
    return Footage(pixels[None], (change | ~known).float()[None, None])


def _mask(
    mask: VideoInput, size: tuple[int, int], frames: int, fps: float, how: str, focal: tuple[float, float]
) -> Tensor:
    """(F, H, W), where a mask is white; its last frame holds to the end."""
    if _is_picture(mask):
        mask = np.asarray(open_picture(mask, "mask"))[None]
        frames, count = 1, frames
    else:
        count = frames
    fitted = _fitted(mask, "mask", size, frames, fps, how, focal)
    white = torch.from_numpy(fitted.colours[..., 0] > 127)
    seen = int(fitted.known.any((1, 2)).sum())  # frames of it
    return torch.cat([white[:seen], white[seen - 1 : seen].expand(count - seen, -1, -1)])


def of_frames(given: dict[int, Tensor], frames: int) -> Footage:
    """A video of which only some frames are known, and kept.

    Args:
        given: (1, 3, H, W) in [-1, 1] by frame number.
        frames: pixel frames F.
    """
    some = next(iter(given.values()))
    pixels, mask = some.new_zeros(1, 3, frames, *some.shape[2:]), some.new_ones(1, 1, frames, *some.shape[2:])
    for number, picture in given.items():
        pixels[:, :, number], mask[:, :, number] = picture, 0
    return Footage(pixels, mask)


def nothing(frames: int, height: int, width: int) -> Footage:
    """A video of which nothing is known."""
    return Footage(torch.zeros(1, 3, frames, height, width), torch.ones(1, 1, frames, height, width))


@dataclass(frozen=True)
class _Fitted:
    """(F, H, W, 3) uint8, and (F, H, W) where there is something to see."""

    colours: np.ndarray
    known: np.ndarray


def _fitted(
    source: VideoInput, field: str, size: tuple[int, int], frames: int, fps: float, how: str, focal: tuple[float, float]
) -> _Fitted:
    seen = look(source, field, fps)
    if how == "pad":
        inner, (left, top) = padded(seen.size, size)
        box = (0.0, 0.0, float(seen.size[0]), float(seen.size[1]))
    else:
        inner, (left, top) = size, (0, 0)
        box = crop_box(seen.size, size, focal)
    canvas = np.zeros((frames, size[1], size[0], 3), np.uint8)
    known = np.zeros(canvas.shape[:3], bool)
    rows, columns = slice(top, top + inner[1]), slice(left, left + inner[0])
    for number, frame in enumerate(_frames(source, field, box, inner, fps)):
        if number == frames:
            break
        canvas[number, rows, columns], known[number, rows, columns] = frame, True
    if not known.any():
        raise MediaError(field, "this video", "holds no frames that can be read", f"try {KINDS}")
    return _Fitted(canvas, known)


def _frames(
    source: VideoInput, field: str, box: tuple[float, float, float, float], size: tuple[int, int], fps: float
) -> Iterator[np.ndarray]:
    """Frames at the model's rate, cut and scaled, (H, W, 3) uint8."""
    if isinstance(source, np.ndarray):
        for frame in source:
            if size == (frame.shape[1], frame.shape[0]):
                yield frame
            else:
                yield np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS, box=box))
        return
    left, top, right, bottom = (round(side) for side in box)
    cut = f"fps={fps},crop={right - left}:{bottom - top}:{left}:{top},scale={size[0]}:{size[1]}:flags=lanczos"
    with closing(_decoded(_path(source, field), field, ["-vf", cut])) as frames:
        next(frames)
        for data in frames:
            yield np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3)


def _decoded(path: Path, field: str, options: list[str]) -> Generator[Any, None, None]:
    """Ffmpeg's facts about a video, then its frames."""
    frames = imageio_ffmpeg.read_frames(f"file:{path}", input_params=_ALLOWED, output_params=options)
    try:
        yield from frames
    except (OSError, RuntimeError, KeyError, ValueError, IndexError) as error:
        raise MediaError(field, path.name, "is not a video that can be read", f"try {KINDS}") from error
    finally:
        with suppress(OSError, ValueError):  # ffmpeg has ended by itself
            frames.close()


def _path(source: Any, field: str) -> Path:
    if not isinstance(source, str | Path):
        raise MediaError(field, type(source).__name__, "must be a path or an (F, H, W, 3) uint8 array")
    if not Path(source).is_file():
        raise MediaError(field, Path(source).name, "there is no such file", "check its name")
    return Path(source)


def _is_picture(source: Any) -> bool:
    if isinstance(source, str | Path):
        return Path(source).suffix.lower() in PICTURES
    return isinstance(source, Image.Image) or (isinstance(source, np.ndarray) and source.ndim == 3)
