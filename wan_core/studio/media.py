"""Frames and sound to an mp4 that browsers play, written frame by frame through the bundled ffmpeg."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import imageio_ffmpeg
import numpy as np

from wan_core.errors import OutputError
from wan_core.studio.credentials import Signing, sign
from wan_core.studio.provenance import mark, source_type

SUFFIXES = (".mp4",)
SOUND_RATE = 48000


class VideoWriter:
    """Writes H.264 into an mp4 as frames arrive.

    The file appears under its name only once it is whole; on any error nothing is left behind.

    Args:
        path: where the video goes; the name must end in .mp4.
        width: pixels, even.
        height: pixels, even.
        fps: frames per second.
        recipe: how the video was made, stored in its metadata.
        sound: (m, 2) float32 in [-1, 1] at 48 kHz, as long as the video, for an AAC track; or None.
        signing: who signs its manifest; None leaves it unsigned.

    Raises:
        OutputError: the place cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: int,
        recipe: dict[str, Any] | None = None,
        sound: np.ndarray | None = None,
        signing: Signing | None = None,
    ) -> None:
        check_output(path)
        self.path = path
        self._signing = signing
        self._part = path.with_name(f".{path.stem}.part.mp4")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._size = (height, width)
        self._mode = (recipe or {}).get("mode", "text")
        self._sound = path.with_name(f".{path.stem}.part.f32")
        self._signed = path.with_name(f".{path.stem}.signed.mp4")
        track: list[str] = []
        if sound is not None:
            self._put(np.ascontiguousarray(sound, np.float32))
            track = ["-f", "f32le", "-ac", "2", "-ar", str(SOUND_RATE), "-i", str(self._sound)]
        metadata = ["-metadata", f"comment={json.dumps(recipe, ensure_ascii=False)}"] if recipe else []
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0", *track,
            "-c:v", "libx264", "-preset", "veryfast", "-crf", "14", "-pix_fmt", "yuv420p",
            *(["-c:a", "aac", "-b:a", "160k"] if track else []),
            "-movflags", "+faststart", *metadata, str(self._part),
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log)

    def _put(self, sound: np.ndarray) -> None:
        """Lay the sound beside the video for as long as it is written."""
        try:
            sound.tofile(self._sound)
        except OSError as error:
            self._sound.unlink(missing_ok=True)
            self._log.close()
            raise OutputError(f"{self.path.name}: there is no room left to write it; free some space") from error

    def write(self, frames: np.ndarray) -> None:
        """Append frames, (n, H, W, 3) uint8.

        Raises:
            OutputError: the disk is full or the encoder failed.
        """
        if frames.dtype != np.uint8 or frames.shape[1:] != (*self._size, 3):
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, must be uint8 (n, {self._size}, 3)")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frames).data)
        except (BrokenPipeError, OSError) as error:
            raise self._failure() from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self._process.kill()
            self._close_pipe()
            if kind is None:
                if self._process.returncode != 0:
                    raise self._failure()
                self._finish()
        finally:
            self._part.unlink(missing_ok=True)
            self._signed.unlink(missing_ok=True)
            self._sound.unlink(missing_ok=True)
            self._log.close()

    def _finish(self) -> None:
        try:
            mark(self._part, self._mode)
            if self._signing is not None:
                sign(self._part, self._signed, self._signing, source_type(self._mode))
                self._signed.replace(self._part)
            self._part.replace(self.path)
        except OSError as error:
            raise OutputError(f"{self.path.name}: there is no room left to write it; free some space") from error

    def _close_pipe(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except (BrokenPipeError, OSError):
            self._process.kill()
        self._process.wait()

    def _failure(self) -> OutputError:
        self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").lower()
        if "no space" in said or "file too large" in said or self._process.returncode < 0:
            return OutputError(f"{self.path.name}: there is no room left to write it; free some space and try again")
        return OutputError(f"{self.path.name}: the video could not be written here; try another folder")


def check_output(path: Path) -> None:
    """Find out before any work whether a video can be put somewhere.

    Raises:
        OutputError: wrong kind of name, or a folder that is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path.name}: videos are written as .mp4; try {path.stem or 'video'}.mp4")
    if not path.parent.is_dir():
        raise OutputError(f"{path.name}: its folder does not exist; make the folder {path.parent.name!r} first")
    if path.is_dir():
        raise OutputError(f"{path.name}: this is a folder; give the name of a file")
