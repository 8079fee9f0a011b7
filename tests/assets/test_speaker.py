"""The speakers' world: its detectors read it right, its voices move its mouths, its captions say what they say."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from assets.tiny.speaker import captions, detect, evaluate, voices, world
from assets.tiny.world import FPS, FRAMES, SIZE


def test_what_the_detectors_read_off_the_world_itself() -> None:
    jobs = evaluate.draw(12, seed=3)
    figures = evaluate.score(jobs, evaluate.ceiling(jobs))
    assert figures["sync_lowest_decile"] > 0.97
    assert figures["sync_shuffled_median"] < 0.3
    assert figures["offset_0_or_1"] == figures["person"] == figures["background"] == figures["place"] == 1


@pytest.mark.parametrize("late", [-3, 2])
def test_a_late_mouth_is_found_late(late: int) -> None:
    (job,) = evaluate.draw(1, seed=5)
    mouth = voices.mouth(job.voice, FRAMES).roll(late, 0)
    found = detect.mouth(world.render(job.scene, mouth).numpy())
    assert detect.follows(found.height, evaluate.loudness(job.voice, FRAMES))[1] == late


def test_the_mouth_opens_by_loudness_however_quiet_the_recording() -> None:
    wave = voices.sing(random.Random(0), 2.0)
    loud, quiet = voices.mouth(wave, FRAMES), voices.mouth(0.05 * wave, FRAMES)
    assert torch.allclose(loud, quiet, atol=0.02)
    assert float(loud[:, 0].min()) < 0.2
    assert float(loud[:, 0].max()) > 0.8
    assert not voices.mouth(np.zeros(2 * voices.RATE, np.float32), FRAMES)[:, 0].any()


def test_a_bright_voice_makes_a_wide_mouth_and_a_dark_one_a_round_one() -> None:
    t = np.arange(voices.RATE) / voices.RATE
    dark, bright = (
        voices.mouth(np.sin(2 * np.pi * f * t).astype(np.float32), FPS)[4:12, 1].mean() for f in (300, 2500)
    )
    assert dark > 0.9
    assert bright < 0.1


def test_a_sound_moves_the_frame_that_hears_it() -> None:
    wave = np.zeros(2 * voices.RATE, np.float32)
    middle = int(20.5 / FPS * voices.RATE)
    wave[middle - 400 : middle + 400] = 0.5
    assert int(voices.loudness(wave, FRAMES).argmax()) == 20


def test_held_out_people_are_never_drawn() -> None:
    rng = random.Random(1)
    assert not any(world.held_out(world.sample_scene(rng).person) for _ in range(300))
    assert all(world.held_out(world.sample_person(rng, held=True)) for _ in range(50))


def test_eyes_blink_and_references_look_ahead() -> None:
    scene = replace(world.sample_scene(random.Random(2)), motion="still", blink=0.2)
    lids = world.lids(scene)
    assert float(lids.min()) < 0.2
    assert float(lids.median()) > 0.9
    person = world.reference(scene.person)
    assert person.shape == (SIZE, SIZE, 3)
    assert (person[:4] == 255).all()


@pytest.mark.parametrize("language", captions.LANGUAGES)
def test_plain_captions_leave_nothing_out(language: str) -> None:
    rng = random.Random(3)
    for _ in range(50):
        scene = world.sample_scene(rng)
        text, said = captions.caption(scene, rng, language, forget=0.0)
        assert said == {n: getattr(scene, n) for n in captions.ATTRIBUTES}
        words = captions.WORDS[language]
        assert any(w in text.lower() for w in words["place"][scene.place])
        assert any(w in text.lower() for w in words["motion"][scene.motion])
