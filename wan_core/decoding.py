"""One shot, from finished latents to frames: while some are written to a file, the next ones are decoded."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from wan_core.clip import to_uint8
from wan_core.errors import Cancelled
from wan_core.model.adapters.s2v import MOTION_FRAMES, MOTION_LATENTS
from wan_core.model.codec import Codec
from wan_core.parts import Shot
from wan_core.types import CancelCheck, Event, Frames, Progress

T = TypeVar("T")


def decode(codec: Codec, shot: Shot, latents: Tensor, cancelled: CancelCheck) -> Generator[Event, None, Tensor | None]:
    """Decode a shot.

    Args:
        codec: the VAE.
        shot: what of it is seen.
        latents: (1, C, T, h, w), denoised.
        cancelled: asked between groups of frames.

    Yields:
        ``Frames`` and ``Progress``.

    Returns:
        The last frames, (1, 3, n, H, W), if another shot follows that must be told them.

    Raises:
        Cancelled: when ``cancelled`` says so.
    """
    if shot.before is not None:
        latents = torch.cat([shot.before.to(latents), latents], dim=2)
    total, skip, left, recent = latents.shape[2], shot.skip, shot.take, []
    groups = ahead(_groups(codec, latents))
    try:
        for i, (pixels, frames) in enumerate(groups):
            if cancelled():
                raise Cancelled(f"stopped after {i} of {total} decoded groups")
            fresh, skip = frames[skip : skip + left], max(0, skip - len(frames))
            if shot.clip + 1 < shot.clips:
                recent = [*recent, pixels][-MOTION_LATENTS - 1 :]
            if len(fresh):
                left -= len(fresh)
                yield Frames(fresh)
            yield Progress("decode", i + 1, total, shot.clip, shot.clips)
    finally:
        groups.close()
    return torch.cat(recent, dim=2)[:, :, -MOTION_FRAMES:] if recent else None


def _groups(codec: Codec, latents: Tensor) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Groups of frames as they are decoded, and as they are shown; from a device, they have come over."""
    for pixels in codec.stream(latents):
        yield pixels, to_uint8(pixels[0])


def ahead(source: Iterator[T]) -> Generator[T]:
    """What an iterator gives, each item made in another thread while the one before is used.

    Closing it waits for the item that is being made. The thread is a daemon, as whoever asks may be: neither holds up
    the end of the process.
    """
    wanted: SimpleQueue[bool] = SimpleQueue()
    made: SimpleQueue[tuple[list[T], BaseException | None]] = SimpleQueue()

    def work() -> None:
        while wanted.get():
            try:
                made.put((list(islice(source, 1)), None))
            except BaseException as error:  # raised where the item is asked for
                made.put(([], error))

    worker = Thread(target=work, name="ahead", daemon=True)
    worker.start()
    try:
        wanted.put(True)
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if not item:
                return
            wanted.put(True)
            yield item[0]
    finally:
        error = None  # its traceback holds this frame, and would keep all that the source had in memory
        wanted.put(False)
        worker.join()
