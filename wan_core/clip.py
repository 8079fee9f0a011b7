"""A finished video in memory, and its frames as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wan_core.types import Settled


@dataclass(frozen=True)
class Clip:
    """A finished video in memory.

    Attributes:
        frames: (F, H, W, 3) uint8.
        settled: how it was made.
        sound: (m, 2) float32 at 48 kHz, or None.
    """

    frames: np.ndarray
    settled: Settled
    sound: np.ndarray | None = None

    def save(self, path: str | Path) -> Path:
        """Write an H.264 mp4; a failed write leaves nothing behind.

        Raises:
            OutputError: it cannot be written.
        """
        from wan_core.studio.media import VideoWriter

        height, width = self.frames.shape[1:3]
        recipe = self.settled.as_json()
        with VideoWriter(Path(path), width, height, self.settled.fps, recipe, self.sound) as writer:
            writer.write(self.frames)
        return Path(path)


def to_uint8(pixels: Tensor) -> np.ndarray:
    """(3, n, H, W) in [-1, 1] to (n, H, W, 3) uint8."""
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()
