"""Voices to train on, and what a mouth does with them.

Most are sung by a small formant synthesiser of many pitches and rhythms; some are spoken by
espeak-ng, if the machine has it. The mouth opens by loudness, measured against the loudest part of
the sound, so a quiet recording moves it as far as a loud one; it rounds where the voice is dark.
"""

from __future__ import annotations

import io
import math
import random
import shutil
import subprocess
import wave
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from assets.tiny.world import FPS

RATE = 16000
FLOOR_DB = 26.0  # below the loudest part by so much, the mouth is shut
DARK, BRIGHT = 450.0, 1500.0  # spectral centroids of a round and of a wide mouth, in hertz
#: First two formants of some vowels, in hertz (Peterson and Barney 1952, rounded).
VOWELS = ((270, 2290), (390, 1990), (530, 1840), (660, 1720), (730, 1090), (570, 840), (440, 1020), (300, 870))
WORDS = (
    "the quick brown fox jumps over the lazy dog", "hello how are you today", "one two three four five six seven",
    "once upon a time there was a small red star", "please call me when you arrive", "what a wonderful morning",
    "we are going to the market to buy apples and bread", "my name is nobody and I live by the sea",
    "open the window it is warm in here", "she sells sea shells by the sea shore", "ladies and gentlemen welcome",
    "no I do not think so", "look at that bird over there", "rain falls softly on the roof tonight",
)  # fmt: skip
SPEAKERS = ("en-us", "en-gb", "en-us+f2", "en-us+f4", "en-us+m3", "en-gb+m7", "de", "fr", "es", "it")


def sing(rng: random.Random, seconds: float) -> np.ndarray:
    """Syllables with pauses: harmonics of a gliding pitch, shaped by two formants each.

    Returns:
        (seconds * RATE,) float32 in [-1, 1].
    """
    count = round(seconds * RATE)
    t = np.arange(count) / RATE
    pitch = _pitch(rng, t)
    phase = 2 * math.pi * np.cumsum(pitch) / RATE
    loud, formants = _syllables(rng, count)
    out = np.zeros(count)
    for k in range(1, int(4000 / pitch.min())):
        hertz = k * pitch
        low, high = np.exp(-(((hertz - formants[0]) / 130) ** 2)), np.exp(-(((hertz - formants[1]) / 220) ** 2))
        shape = low + 0.5 * high
        out += np.sin(k * phase) * (shape + 0.02) / k**0.3 * (hertz < 7000)
    noise = np.random.default_rng(rng.randrange(2**31)).standard_normal(count)
    out = out / (np.abs(out).max() + 1e-9) * loud + rng.choice((0.0, 0.002, 0.01)) * noise
    return (out / (np.abs(out).max() + 1e-9) * rng.uniform(0.15, 0.95)).astype(np.float32)


def _pitch(rng: random.Random, t: np.ndarray) -> np.ndarray:
    base, swing, rate = math.exp(rng.uniform(math.log(85), math.log(340))), rng.uniform(0.0, 0.2), rng.uniform(0.3, 1.5)
    vibrato = rng.choice((0.0, 0.01, 0.03))
    turn = 2 * math.pi * (rate * t + rng.random())
    return base * (1 + swing * np.sin(turn)) * (1 + vibrato * np.sin(2 * math.pi * 5.5 * t))


def _syllables(rng: random.Random, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Loudness (count,) and formants (2, count) of a train of syllables."""
    loud, formants = np.zeros(count), np.zeros((2, count))
    pace, tall = rng.uniform(2.0, 6.0), rng.uniform(0.85, 1.2)
    place, vowel = int(rng.uniform(0, 0.3) * RATE), rng.choice(VOWELS)
    formants[:] = np.array(vowel)[:, None] * tall
    while place < count:
        length = max(800, int(RATE / pace * rng.uniform(0.6, 1.5)))
        vowel = rng.choice(VOWELS)
        some = np.arange(min(length, count - place))
        bump = np.sin(np.pi * np.minimum(1, some / length)) ** rng.choice((0.5, 1.0))
        loud[place : place + length] = rng.uniform(0.25, 1.0) * bump
        formants[:, place:] = np.array(vowel)[:, None] * tall
        place += length
        if rng.random() < 0.25:
            place += int(rng.uniform(0.1, 0.6) * RATE)
    smooth = np.hanning(801)
    smooth /= smooth.sum()
    padded = np.pad(formants, ((0, 0), (400, 400)), "edge")
    return loud, np.stack([np.convolve(f, smooth, "valid") for f in padded])


@lru_cache(maxsize=256)
def speak(words: str, speaker: str, pitch: int = 50, speed: int = 160) -> np.ndarray | None:
    """Speech from espeak-ng; None if the machine has none.

    Returns:
        (n,) float32 at ``RATE``.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        return None
    command = [program, "--stdout", "-v", speaker, "-p", str(pitch), "-s", str(speed), words]
    done = subprocess.run(command, capture_output=True, check=True)
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate = file.getframerate()
    samples = np.frombuffer(done.stdout[44:], np.int16).astype(np.float32) / 32768
    return _resampled(samples, rate)


def _resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """Linear interpolation: enough for a mouth."""
    count = int(len(samples) * RATE / rate)
    return np.interp(np.arange(count) * rate / RATE, np.arange(len(samples)), samples).astype(np.float32)


def sample(rng: random.Random, seconds: float, spoken: float = 0.4) -> np.ndarray:
    """A stretch of some voice; one in sixteen is silence.

    Args:
        rng: source of randomness.
        seconds: how long.
        spoken: share that espeak-ng speaks, where there is one.
    """
    if rng.random() < 1 / 16:
        return np.zeros(round(seconds * RATE), np.float32)
    if rng.random() < spoken:
        heard = speak(rng.choice(WORDS), rng.choice(SPEAKERS), rng.choice((30, 50, 70)), rng.choice((130, 160, 190)))
        if heard is not None:
            return _cut(heard * rng.uniform(0.2, 1.0), rng, round(seconds * RATE))
    return sing(rng, seconds)


def talk(rng: random.Random, seconds: float, longest: float = 9.0) -> np.ndarray:
    """Several voices one after another, (seconds * RATE,)."""
    count, parts, have = round(seconds * RATE), [], 0
    while have < count:
        parts.append(sample(rng, rng.uniform(1.5, longest)))
        have += len(parts[-1])
    return np.concatenate(parts)[:count]


def _cut(wave: np.ndarray, rng: random.Random, count: int) -> np.ndarray:
    start = rng.randrange(max(1, len(wave) - count // 2))
    some = wave[start : start + count]
    return np.pad(some, (0, count - len(some)))


REACH = RATE // FPS  # samples before and after a frame's middle that it hears


def loudness(wave: np.ndarray, frames: int, fps: float = FPS) -> Tensor:
    """Decibels of every video frame below the sound's loudest, (frames,); -99 for silence."""
    power = _heard(wave, frames, fps).square().mean(1)
    top = power.max()
    if float(top) < 1e-9:
        return torch.full((frames,), -99.0)
    return 10 * (power / top).clamp(min=1e-9).log10()


def _heard(wave: np.ndarray, frames: int, fps: float) -> Tensor:
    """The sound around every frame's middle, (frames, 2 * REACH), faded at both ends."""
    padded = torch.from_numpy(np.pad(wave, (REACH, 2 * REACH))).float()
    starts = ((torch.arange(frames) + 0.5) / fps * RATE).long()  # the padding moves them one reach ahead
    rows = padded[(starts[:, None] + torch.arange(2 * REACH)).clamp(max=len(padded) - 1)]
    return rows * torch.hann_window(2 * REACH)


def mouth(wave: np.ndarray, frames: int, fps: float = FPS) -> Tensor:
    """What the mouth does: (frames, 2) openness and roundness, 0 to 1."""
    opened = (1 + loudness(wave, frames, fps) / FLOOR_DB).clamp(0, 1)
    power = torch.fft.rfft(_heard(wave, frames, fps)).abs().square()
    hertz = torch.linspace(0, RATE / 2, power.shape[1])
    band = hertz < 4000
    centroid = (power * hertz * band).sum(1) / (power * band).sum(1).clamp(min=1e-9)
    rounded = 1 - ((centroid.clamp(min=1).log() - math.log(DARK)) / math.log(BRIGHT / DARK)).clamp(0, 1)
    rounded = F.avg_pool1d(F.pad(rounded[None], (1, 1), "replicate"), 3, 1)[0]
    return torch.stack([opened, rounded], 1)
