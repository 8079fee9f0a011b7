"""Does the speaker speak? ``python -m assets.tiny.evaluate reference --count 50 --seed 1``.

People that training never saw say things it never heard. Clips are read back by ``detect.py``,
which knows nothing of the world. Every clip is also scored against someone else's voice.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch

import wan_core
from assets.tiny.speaker import captions, detect, voices, world
from assets.tiny.world import FPS, FRAMES
from wan_core.condition.sound import open_sound
from wan_core.pipeline import Pipeline

SECONDS = FRAMES / FPS
LINE_UP = 20  # people among whom the right one is to be found
FEW, COARSE = 8, 4  # every so many frames, and pixels between places, are enough to tell who it is


@dataclass(frozen=True)
class Job:
    """One clip to make: a scene, among which people its person is to be found, what is said, the words, the seed."""

    scene: world.Scene
    line_up: tuple[world.Person, ...]
    voice: np.ndarray
    prompt: str
    seed: int


@dataclass(frozen=True)
class Seen:
    """What was read off a clip.

    Attributes:
        height: (F,) of the mouth, in pixels.
        unlike: (people,) how unlike the clip is to each of the line-up.
        background: the backdrop's name.
        place: where the speaker is.
    """

    height: np.ndarray
    unlike: np.ndarray
    background: str
    place: str


@lru_cache(maxsize=1)
def pipeline(model: str) -> Pipeline:
    """The model under test, once per process."""
    return wan_core.load(model)


def make(model: str, job: Job) -> Seen:
    """Make a clip with the real pipeline and read it."""
    person = world.reference(job.scene.person).numpy()
    clip = pipeline(model)(prompt=job.prompt, seed=job.seed, reference_images=(person,), audio=(voices.RATE, job.voice))
    return read(clip.frames, job)


def read(frames: np.ndarray, job: Job) -> Seen:
    """Read a clip of somebody whose picture is known."""
    found = _mouth(frames, job.scene.person)
    unlike = [float(detect.find(frames[::FEW], face(p), COARSE)[1].mean()) for p in job.line_up]
    place, ground = detect.place(found, frames.shape[2]), detect.background(frames, found)
    return Seen(found.height.numpy(), np.array(unlike), ground, place)


def _mouth(frames: np.ndarray, person: world.Person) -> detect.Mouth:
    return detect.mouth(frames, detect.find(frames, face(person))[0])


@cache
def face(person: world.Person) -> detect.Face:
    """Somebody's picture, read once."""
    return detect.face(world.reference(person).numpy())


def draw(count: int, seed: int) -> list[Job]:
    """Held-out people with voices of their own; none of them silent."""
    rng, jobs = random.Random(f"speakers {seed}"), []
    line_up = people(seed)
    while len(jobs) < count:
        person = line_up[len(jobs) % LINE_UP]
        scene = replace(world.sample_scene(rng), person=person)
        voice = voices.sample(rng, SECONDS)
        if float(np.abs(voice).max()) > 0.01:
            jobs.append(Job(scene, tuple(line_up), voice, captions.plain(scene, rng, "en"), 1000 * seed + len(jobs)))
    return jobs


def people(seed: int) -> list[world.Person]:
    """The line-up: as many different people that training never saw."""
    rng, found = random.Random(f"people {seed}"), {}
    while len(found) < LINE_UP:
        person = world.sample_person(rng, held=True)
        found.setdefault(person, None)
    return list(found)


def score(jobs: list[Job], seen: list[Seen]) -> dict[str, float]:
    """The figures of the card."""
    heard = [loudness(job.voice, len(s.height)) for job, s in zip(jobs, seen, strict=True)]
    own = [detect.follows(torch.from_numpy(s.height), h) for s, h in zip(seen, heard, strict=True)]
    others = [detect.follows(torch.from_numpy(s.height), h) for s, h in zip(seen, heard[1:] + heard[:1], strict=True)]
    who = [j.line_up[int(s.unlike.argmin())] == j.scene.person for j, s in zip(jobs, seen, strict=True)]
    follows = sorted(r for r, _ in own)
    return {
        "sync_median": statistics.median(follows),
        "sync_lowest_decile": follows[len(follows) // 10],
        "offset_0_or_1": statistics.mean(abs(lag) <= 1 for _, lag in own),
        "sync_shuffled_median": statistics.median(r for r, _ in others),
        "person": statistics.mean(who),
        "background": statistics.mean(s.background == j.scene.background for j, s in zip(jobs, seen, strict=True)),
        "place": statistics.mean(s.place == j.scene.place for j, s in zip(jobs, seen, strict=True)),
    }


def loudness(voice: np.ndarray, frames: int) -> torch.Tensor:
    """What a mouth is measured against: decibels, down to where it is shut."""
    return voices.loudness(voice, frames).clamp(min=-voices.FLOOR_DB)


def ceiling(jobs: list[Job]) -> list[Seen]:
    """What the detectors read off the world itself."""
    return [read(world.render(j.scene, voices.mouth(j.voice, FRAMES)).numpy(), j) for j in jobs]


def recordings(model: str, files: list[Path]) -> dict[str, float]:
    """How well the mouth follows recorded speech, file by file."""
    figures = {}
    for i, file in enumerate(files):
        voice = open_sound(file).speech
        person = people(0)[i % LINE_UP]
        picture = world.reference(person).numpy()
        clip = pipeline(model)(prompt="someone talking", seed=i, reference_images=(picture,), audio=str(file))
        height = _mouth(clip.frames, person).height
        figures[file.name] = detect.follows(torch.as_tensor(height), loudness(voice, len(height)))[0]
    return figures
