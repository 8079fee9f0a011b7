"""The shipped reference model through the real pipeline: who, what is heard, and when.

As in ``test_builtin.py`` these are floors; how good the model is stands in its ``CARD.md``.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

import wan_core
from assets.tiny.speaker import detect, evaluate, voices, world
from assets.tiny.world import FPS, FRAMES
from wan_core.condition.sound import open_sound
from wan_core.ui.inputs import CAST, SHELF

STEPS = 12


@pytest.fixture(scope="module")
def pipe() -> wan_core.Pipeline:
    return wan_core.load(wan_core.SPEAKER, "cpu")


def face(name: str) -> np.ndarray:
    return np.array(Image.open(SHELF / CAST[name][0]).convert("RGB"))


def mouth(frames: np.ndarray, name: str = "Pip") -> detect.Mouth:
    return detect.mouth(frames, detect.find(frames, detect.face(face(name)))[0])


def spoken(pipe: wan_core.Pipeline, voice: np.ndarray) -> np.ndarray:
    sound, who = (voices.RATE, voice), (face("Pip"),)
    clip = pipe(prompt="talking in the middle", reference_images=who, audio=sound, num_inference_steps=STEPS, seed=0)
    return clip.frames


@pytest.mark.parametrize("middle", [8, 16, 24])
def test_a_burst_opens_the_mouth_on_its_frame(pipe: wan_core.Pipeline, middle: int) -> None:
    """What audio frame k says, video frame k shows."""
    voice = np.zeros(round(FRAMES / FPS * voices.RATE), np.float32)
    burst = voices.sing(random.Random(4), 0.3)
    start = round((middle + 0.5) / FPS * voices.RATE) - len(burst) // 2
    voice[start : start + len(burst)] = burst * np.hanning(len(burst))
    heights = mouth(spoken(pipe, voice)).height
    assert abs(int(heights.argmax()) - middle) <= 1, heights.tolist()
    assert abs(detect.follows(heights, evaluate.loudness(voice, FRAMES))[1]) <= 1


def test_silence_keeps_the_mouth_shut_and_a_voice_does_not(pipe: wan_core.Pipeline) -> None:
    silent = mouth(spoken(pipe, np.zeros(round(FRAMES / FPS * voices.RATE), np.float32))).height
    loud = mouth(spoken(pipe, voices.sing(random.Random(1), FRAMES / FPS))).height
    assert float(silent.mean()) < 0.6 * float(loud.mean())


@pytest.mark.parametrize("name", list(CAST))
def test_a_person_says_a_recording(pipe: wan_core.Pipeline, name: str) -> None:
    """The examples on the page: a person never seen says a sentence never heard, in three languages."""
    _, voice, prompt = CAST[name]
    sound = open_sound(str(SHELF / voice))
    clip = pipe(
        prompt=prompt, reference_images=(face(name),), audio=str(SHELF / voice), num_inference_steps=STEPS, seed=1
    )
    found = mouth(clip.frames, name)
    follows, late = detect.follows(found.height, evaluate.loudness(sound.speech, len(clip.frames)))
    assert follows > 0.6
    assert abs(late) <= 1
    unlike = {other: float(detect.find(clip.frames[::8], detect.face(face(other)))[1].mean()) for other in CAST}
    assert min(unlike, key=lambda other: unlike[other]) == name
    assert detect.place(found, clip.frames.shape[2]) == {"Pip": "middle", "Rua": "left", "Lou": "right"}[name]


def test_nobody_is_needed(pipe: wan_core.Pipeline) -> None:
    """A voice alone is enough: somebody says it."""
    voice = voices.sing(random.Random(2), 1.0)
    clip = pipe(prompt="talking in the middle, on grass", audio=(voices.RATE, voice), num_inference_steps=6, seed=2)
    assert len(clip.frames) == FPS


def test_examples_on_the_page_are_people_that_training_never_saw() -> None:
    unseen = [world.reference(person).numpy() for person in everybody() if world.held_out(person)]
    for name in CAST:
        assert any((face(name) == other).all() for other in unseen)


def everybody() -> list[world.Person]:
    """The people of the examples, by what they wear."""
    return [
        world.Person("blue", "blond", "spiky", "yellow", "bow"),
        world.Person("dark", "red", "short", "purple", "glasses"),
        world.Person("pale", "blond", "long", "purple", "bow"),
    ]
