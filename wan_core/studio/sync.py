"""How well a picture follows its sound, measured on the finished frames.

Nothing is looked for, neither face nor mouth, so it works for cartoons and animals too: a linear
model predicts the loudness of every frame from small brightness changes anywhere in the picture,
is fitted on parts of the clip and judged on the others. Where nothing follows the sound the
correlation stays near nothing, however freely the model may choose where to look.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from wan_core.types import Sync

SOUND_RATE = 48000
GRID = 24  # cells a side
MOST_LAG = 4  # frames
FOLDS, COMPONENTS, RIDGE = 4, 12, 0.003
FLOOR_DB = 26.0  # quieter than this below the loudest counts as silence
SHORTEST = 1.2  # seconds that can be judged
LIVELY_DB = 2.0  # spread of the loudness below which there is nothing to follow


@dataclass
class SyncMeter:
    """Takes frames as they are written and measures when all are there.

    Args:
        sound: (m, 2) float32 at 48 kHz.
        fps: frames per second.
    """

    sound: np.ndarray
    fps: int
    cells: list[np.ndarray] = field(default_factory=list)

    def add(self, frames: np.ndarray) -> None:
        """Look at frames, (n, H, W, 3) uint8."""
        for frame in frames:
            small = Image.fromarray(frame).convert("L").resize((GRID, GRID), Image.Resampling.BOX)
            self.cells.append(np.asarray(small, np.float64).ravel())

    def measure(self) -> Sync | None:
        """The measurement; None for clips that are too short or have nothing to follow."""
        count = len(self.cells)
        if count < SHORTEST * self.fps:
            return None
        heard = loudness(self.sound.mean(1), SOUND_RATE, count, self.fps)
        if heard.std() < LIVELY_DB:
            return None
        span = self.fps | 1  # slow changes belong to motion and light
        picture, voice = _quick(np.stack(self.cells), span), _quick(heard[:, None], span)[:, 0]
        found = {lag: _told(*_moved(picture, voice, lag)) for lag in range(-MOST_LAG, MOST_LAG + 1)}
        best = max(found, key=lambda lag: (round(found[lag], 2), -abs(lag)))
        return Sync(found[best], best)


def loudness(wave: np.ndarray, rate: int, frames: int, fps: float) -> np.ndarray:
    """Decibels below the loudest frame, down to ``FLOOR_DB``.

    Args:
        wave: (n,) samples.
        rate: samples per second.
        frames: how many to tell of.
        fps: of the video; a frame hears one frame's time on either side of its middle.

    Returns:
        (frames,) float64.
    """
    reach = round(rate / fps)
    padded = np.pad(wave, (reach, 2 * reach))
    starts = ((np.arange(frames) + 0.5) / fps * rate).astype(int)
    index = np.minimum(starts[:, None] + np.arange(2 * reach), len(padded) - 1)
    power = np.square(padded[index] * np.hanning(2 * reach)).mean(1)
    return np.maximum(10 * np.log10(np.maximum(power, 1e-12) / max(power.max(), 1e-12)), -FLOOR_DB)


def _quick(signals: np.ndarray, span: int) -> np.ndarray:
    """Signals (F, n) without what changes over more than ``span`` frames."""
    padded = np.pad(signals, ((span // 2, span // 2), (0, 0)), "edge")
    sums = np.cumsum(np.concatenate([np.zeros_like(padded[:1]), padded]), axis=0)
    return signals - (sums[span:] - sums[:-span]) / span


def _moved(picture: np.ndarray, voice: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame k beside what was heard ``lag`` frames before."""
    count = len(voice)
    return picture[max(0, lag) : count + min(0, lag)], voice[max(0, -lag) : count - max(0, lag)]


def _told(picture: np.ndarray, voice: np.ndarray) -> float:
    """Correlation of a voice with its prediction from the other folds' pictures."""
    count = len(voice)
    centred = picture - picture.mean(0)
    axes, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    keep = min(COMPONENTS, count // 5)
    told = axes[:, :keep] * sizes[:keep]
    told /= told.std(0).mean() + 1e-6
    guess = np.empty(count)
    fold = np.arange(count) * FOLDS // count
    for number in range(FOLDS):
        known, asked = fold != number, fold == number
        rows, mean = told[known], voice[known].mean()
        normal = rows.T @ rows + RIDGE * len(rows) * np.eye(keep)
        guess[asked] = told[asked] @ np.linalg.solve(normal, rows.T @ (voice[known] - mean)) + mean
    spread = guess.std() * voice.std()
    return float(((guess - guess.mean()) * (voice - voice.mean())).mean() / spread) if spread > 1e-9 else 0.0
