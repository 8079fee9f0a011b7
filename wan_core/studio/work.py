"""One job from its folder to its video, whatever happens on the way."""

from __future__ import annotations

import errno
import io
import logging
import time
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from filelock import Timeout
from PIL import Image

from wan_core.errors import Cancelled, DeviceError, FaultError, OutputError, RequestError, WanError
from wan_core.studio.jobs import Jobs, Status, failed, replaced
from wan_core.types import CancelCheck, Denoised, Done, Event, Frames, Kept, Preview, Progress, Request

log = logging.getLogger(__name__)

NO_ROOM = "There is no room left to write this video; free some space and try again."
TOO_MUCH = "Work on this broke off {tries} times, probably for want of memory; ask for less, or for fewer frames."
TRIES = 3
POSTER = 96  # pixels, the longer side
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Produce(Protocol):
    """Makes one video at a path: see :func:`wan_core.studio.produce.produce`."""

    def __call__(
        self, request: Request, path: Path, cancelled: CancelCheck, kept: Kept
    ) -> Generator[Event, None, None]:
        """Make it; frames are yielded after they were written."""
        ...


def carry_out(jobs: Jobs, job: str, produce: Produce) -> None:
    """Do one job, unless it has ended or somebody else is at it.

    However it ends is written to its status; a queue could do nothing about it.

    Args:
        jobs: where it lies.
        job: its id.
        produce: makes the video.
    """
    with suppress(Timeout, RequestError), jobs.claim(job):  # somebody has it, or it was swept
        status = jobs.status(job)
        if status.ended:
            return
        bench = _Bench(jobs, job, Status(phase="encode", of=1, tries=status.tries + 1))
        if status.tries >= TRIES:  # it took the server down with it, and would again
            bench.fail(DeviceError(TOO_MUCH.format(tries=status.tries)))
            return
        try:
            bench.report()
            line = bench.work(produce)
        except WanError as error:
            bench.fail(error)
        except Exception as error:
            log.error("job %s failed", job, exc_info=error)
            full = isinstance(error, OSError) and error.errno in _FULL
            bench.fail(OutputError(NO_ROOM) if full else FaultError())
        else:
            if bench.end(replace(bench.status, phase="done", message=line, seconds_left=None)):
                jobs.drop_latents(job)


class _Bench:
    """Where one job lies while it is worked on."""

    def __init__(self, jobs: Jobs, job: str, status: Status) -> None:
        self.jobs, self.job, self.status = jobs, job, status
        self.folder = jobs.folder(job)
        self._begin: tuple[float, float] | None = None  # when the first step was done, and how much then was
        self._poster: np.ndarray | None = None
        self._last: np.ndarray | None = None

    def report(self) -> None:
        self.jobs.report(self.job, self.status)

    def fail(self, error: WanError) -> None:
        """Write why there is no video."""
        self.end(failed(self.status, error))

    def end(self, status: Status) -> bool:
        """Write how it ended; if even that finds no room, the preview makes some."""
        self.status = status
        for last in (False, True):
            try:
                self.report()
            except OSError as error:
                log.error("job %s: its end could not be written", self.job, exc_info=error)
                if not last:
                    (self.folder / "preview.webp").unlink(missing_ok=True)
            else:
                return True
        return False

    def work(self, produce: Produce) -> str:
        """Make the video; a line on what was made."""
        cancelled = self.jobs.cancelled(self.job)
        if cancelled():
            raise Cancelled("stopped before it began")
        request, path = self.jobs.request(self.job), self.folder / "video.mp4"
        done: Done | None = None
        with closing(produce(request, path, cancelled, self.jobs.kept(self.job))) as events:
            for event in events:
                if isinstance(event, Done):
                    done = event
                else:
                    self._note(event)
        if done is None:
            raise Cancelled("stopped")
        if self._poster is not None and self._last is not None:
            self._extra("poster.webp", webp([self._poster], POSTER))
            self._extra("last.png", _png(self._last))
        made = done.settled
        self.status = replace(self.status, share=1.0, seed=made.seed, seconds=done.seconds)
        line = f"{made.width}x{made.height}, {made.frames} frames, seed {made.seed}, {done.seconds:.1f} s"
        line += f" · read as: {made.read_as}" if made.read_as else ""
        return line if done.sync is None else f"{line} · {done.sync}"

    def _note(self, event: Event) -> None:
        match event:
            case Progress():
                self.status = replace(
                    self.status, phase=event.phase, step=event.step, of=event.of, share=event.share,
                    seconds_left=self._left(event),
                )  # fmt: skip
                self.report()
            case Preview(frames):
                if self._extra("preview.webp", webp(list(frames))):
                    self.status = replace(self.status, previews=self.status.previews + 1)
            case Denoised(latents, clip):
                try:
                    self.jobs.keep(self.job, clip, latents)
                except OSError as error:  # the video itself may still fit
                    log.warning("job %s: its latents could not be kept (%s)", self.job, error.strerror)
            case Frames(pixels):
                if self._poster is None or len(pixels) > 1:
                    self._poster = pixels[len(pixels) // 2]
                self._last = pixels[-1]

    def _extra(self, name: str, content: bytes) -> bool:
        """Write what a job can do without."""
        try:
            replaced(self.folder / name, content)
        except OSError as error:
            log.warning("job %s: no %s (%s)", self.job, name, error.strerror)
            return False
        return True

    def _left(self, event: Progress) -> float | None:
        """Seconds until the video stands, all of its clips, by the pace since the first step."""
        now = time.monotonic(), event.share
        if self._begin is None:
            if event.phase != "denoise":
                return None  # nothing to go by yet
            self._begin = now
        seconds, done = (b - a for a, b in zip(self._begin, now, strict=True))
        return seconds / done * (1 - event.share) if done > 0 else None


def _png(frame: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG")
    return out.getvalue()


def webp(frames: list[np.ndarray], longest: int | None = None) -> bytes:
    """A picture that moves, if there are several.

    Args:
        frames: (H, W, 3) uint8 each.
        longest: shrink so that neither side is longer.
    """
    pictures = [Image.fromarray(np.asarray(frame)) for frame in frames]
    if longest is not None:
        for picture in pictures:
            picture.thumbnail((longest, longest))
    out, more = io.BytesIO(), pictures[1:]
    moving = {"save_all": True, "append_images": more, "duration": 240, "loop": 0} if more else {}
    pictures[0].save(out, "WEBP", quality=80, **moving)
    return out.getvalue()
