"""Sound files to waveforms: anything the bundled ffmpeg reads, decoded and resampled by it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

from wan_core.errors import MediaError

SPEECH_RATE = 16000  # what speech encoders listen at
FILE_RATE = 48000  # what goes into the video
LONGEST = 600.0  # seconds
KINDS = "wav, mp3, m4a, flac, ogg or a video with sound"


@dataclass(frozen=True)
class Sound:
    """A sound, decoded.

    Attributes:
        speech: (n,) float32 in [-1, 1], mono at 16 kHz: what the model hears.
        stereo: (m, 2) float32 in [-1, 1] at 48 kHz: what goes into the file.
    """

    speech: np.ndarray
    stereo: np.ndarray

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.stereo) / FILE_RATE

    def part(self, start: float, seconds: float) -> Sound:
        """A stretch of it, silence where it has ended."""
        return Sound(
            _stretch(self.speech, start * SPEECH_RATE, seconds * SPEECH_RATE),
            _stretch(self.stereo, start * FILE_RATE, seconds * FILE_RATE),
        )


def open_sound(source: Any, field: str = "audio") -> Sound:
    """Decode a sound.

    Args:
        source: a path, or (rate, samples) as Gradio and scipy hand it over: int16, int32 or float
            samples, (n,) or (n, channels).
        field: the request's field, for messages.

    Returns:
        The sound.

    Raises:
        MediaError: not a sound, damaged, empty, or longer than ten minutes.
    """
    if isinstance(source, tuple):
        return _from_samples(source, field)
    path = Path(source)
    if not path.is_file():
        raise MediaError(field, path.name, "there is no such file", "check its name")
    sides = _decode(path, FILE_RATE, field)
    if len(sides) > LONGEST * FILE_RATE:
        rule = f"lasts longer than {LONGEST:.0f} seconds"
        raise MediaError(field, path.name, rule, "cut it into parts")
    return Sound(_decode(path, SPEECH_RATE, field).mean(1), _two(sides))


def _decode(path: Path, rate: int, field: str) -> np.ndarray:
    """Samples of the file's first sound track in its own channels, (n, channels)."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe",
        "-i", f"file:{path}", "-map", "0:a:0", "-t", str(LONGEST + 1),
        "-c:a", "pcm_f32le", "-ar", str(rate), "-f", "wav", "pipe:1",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired as error:
        raise MediaError(field, path.name, "takes too long to read", f"try {KINDS}") from error
    channels, data = _unwrap(done.stdout)
    samples = np.frombuffer(data[: len(data) // (4 * channels) * 4 * channels], np.float32)
    if len(samples) == 0:
        raise MediaError(field, path.name, "holds no sound that can be read", f"try {KINDS}")
    if not np.isfinite(samples).all():
        raise MediaError(field, path.name, "holds samples that are not numbers", "export it again")
    return np.clip(samples, -1, 1).reshape(-1, channels)


def _unwrap(wav: bytes) -> tuple[int, bytes]:
    """Channels and samples of a WAV stream; its own channels keep their levels, which mixing changes."""
    channels, place = 1, 12
    while place + 8 <= len(wav):
        name, size = wav[place : place + 4], int.from_bytes(wav[place + 4 : place + 8], "little")
        if name == b"fmt ":
            channels = int.from_bytes(wav[place + 10 : place + 12], "little")
        if name == b"data":  # its size is not known to a stream's writer
            return max(1, channels), wav[place + 8 :]
        place += 8 + size
    return 1, b""


def _two(sides: np.ndarray) -> np.ndarray:
    """One channel to two, many to their average on both sides, two as they are. (n, c) to (n, 2)."""
    if sides.shape[1] == 2:
        return sides
    return np.repeat(sides.mean(1, keepdims=True), 2, axis=1)


def _from_samples(source: tuple[Any, Any], field: str) -> Sound:
    rate, samples = source
    samples = np.asarray(samples)
    if samples.size == 0 or samples.ndim not in (1, 2) or not 1000 <= rate <= 400_000:
        raise MediaError(field, f"{samples.shape} at {rate}", "is not a sound", "give (rate, samples)")
    if samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise MediaError(field, "samples", "are not all numbers", "record it again")
    if len(samples) > LONGEST * rate:
        raise MediaError(field, f"{len(samples) / rate:.0f} s", f"lasts longer than {LONGEST:.0f} seconds")
    columns = samples[:, None] if samples.ndim == 1 else samples
    stereo = np.concatenate([_resampled(c[:, None], rate, FILE_RATE) for c in _two(columns).T], axis=1)
    speech = _resampled(columns.mean(1, keepdims=True), rate, SPEECH_RATE)[:, 0]
    return Sound(np.clip(speech, -1, 1), np.clip(stereo, -1, 1))


def _resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Through ffmpeg, like files: its resampler filters what the new rate cannot hold. (n, 1) to (m, 1)."""
    if rate == to:
        return samples
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "f32le", "-ac", "1", "-ar", str(rate), "-i", "pipe:0",
        "-f", "f32le", "-ac", "1", "-ar", str(to), "pipe:1",
    ]  # fmt: skip
    data = np.ascontiguousarray(samples, np.float32).tobytes()
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32).reshape(-1, 1)


def _stretch(samples: np.ndarray, start: float, count: float) -> np.ndarray:
    first, number = round(start), round(count)
    some = samples[first : first + number]
    return np.concatenate([some, np.zeros((number - len(some), *samples.shape[1:]), samples.dtype)])
