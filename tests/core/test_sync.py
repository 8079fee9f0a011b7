"""The lip-sync measure, on cartoon people whose mouths are known to follow, to lag, or not to care."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from assets.tiny.speaker import voices, world
from assets.tiny.world import FPS
from wan_core.studio.sync import SyncMeter
from wan_core.types import Sync

SECONDS = 4.0
FRAMES = round(SECONDS * FPS)


def stereo(wave: np.ndarray) -> np.ndarray:
    """16 kHz mono to 48 kHz stereo."""
    return np.repeat(np.repeat(wave, 3)[:, None], 2, axis=1)


def spoken(seed: int) -> np.ndarray:
    return voices.sing(random.Random(seed), SECONDS)


def measured(motion: str, seen: np.ndarray, heard: np.ndarray, late: int = 0) -> Sync | None:
    scene = replace(world.sample_scene(random.Random(7)), motion=motion)
    mouth = voices.mouth(seen, FRAMES).roll(late, 0)
    meter = SyncMeter(stereo(heard), FPS)
    for part in np.array_split(world.render(scene, mouth).numpy(), 5):
        meter.add(part)
    return meter.measure()


@pytest.mark.parametrize("motion", world.MOTIONS)
def test_a_mouth_that_follows(motion: str) -> None:
    found = measured(motion, spoken(1), spoken(1))
    assert found is not None
    assert found.correlation > 0.8
    assert found.offset == 0


@pytest.mark.parametrize("late", [-2, 1, 3])
def test_a_mouth_that_is_late_or_early(late: int) -> None:
    found = measured("still", spoken(2), spoken(2), late)
    assert found is not None
    assert found.offset == late
    assert str(found).startswith(f"lip sync: {abs(late)} frame")


def test_somebody_elses_voice() -> None:
    strengths = []
    for seed in range(6):
        found = measured("swaying", spoken(seed), spoken(seed + 50))
        assert found is not None
        strengths.append(found.correlation)
    assert np.median(strengths) < 0.5  # the best of nine offsets, so not quite nothing


def test_nothing_to_measure() -> None:
    assert measured("still", spoken(3), np.zeros(round(SECONDS * voices.RATE), np.float32)) is None
    assert SyncMeter(stereo(spoken(3)), FPS).measure() is None


def test_words() -> None:
    assert str(Sync(0.913, 0)) == "lip sync: 0 frames off, r = 0.91"
    assert str(Sync(0.5, -1)) == "lip sync: 1 frame early, r = 0.50"
