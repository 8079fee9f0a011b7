"""Does the speaker speak? ``python -m assets.tiny.evaluate reference --count 50 --seed 1``.

People that training never saw say things it never heard. Clips are read back by ``detect.py``,
which knows nothing of the world. Every clip is also scored against someone else's voice.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass, replace
from functools import lru_cache
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


@dataclass(frozen=True)
class Job:
    """One clip to make: a scene, what is said, in which words it is asked for, and the seed."""

    scene: world.Scene
    voice: np.ndarray
    prompt: str
    seed: int


@dataclass(frozen=True)
class Seen:
    """What was read off a clip.

    Attributes:
        height: (F,) of the mouth, in pixels.
        looks: the colours around it.
        background: the backdrop's name.
        place: where the speaker is.
    """

    height: np.ndarray
    looks: np.ndarray
    background: str
    place: str


@lru_cache(maxsize=1)
def pipeline(model: str) -> Pipeline:
    """The model under test, once per process."""
    return wan_core.load(model)


def make(model: str, job: Job) -> Seen:
    """Make a clip with the real pipeline and read it."""
    person = world.reference(job.scene.person).numpy()
    clip = pipeline(model)(prompt=job.prompt, seed=job.seed, references=(person,), audio=(voices.RATE, job.voice))
    return read(clip.frames)


def read(frames: np.ndarray) -> Seen:
    """Read a clip."""
    found = detect.mouth(frames)
    looks = detect.looks(frames, found).numpy()
    return Seen(found.height.numpy(), looks, detect.background(frames, found), detect.place(found, frames.shape[2]))


def draw(count: int, seed: int) -> list[Job]:
    """Held-out people with voices of their own; none of them silent."""
    rng, jobs = random.Random(f"speakers {seed}"), []
    line_up = people(seed)
    while len(jobs) < count:
        person = line_up[len(jobs) % LINE_UP]
        scene = replace(world.sample_scene(rng), person=person)
        voice = voices.sample(rng, SECONDS)
        if float(np.abs(voice).max()) > 0.01:
            jobs.append(Job(scene, voice, captions.plain(scene, rng, "en"), 1000 * seed + len(jobs)))
    return jobs


def people(seed: int) -> list[world.Person]:
    """The line-up: as many different people that training never saw."""
    rng, found = random.Random(f"people {seed}"), {}
    while len(found) < LINE_UP:
        person = world.sample_person(rng, held=True)
        found.setdefault(person, None)
    return list(found)


def score(jobs: list[Job], seen: list[Seen], seed: int) -> dict[str, float]:
    """The figures of the card."""
    line_up = [detect.looks(world.reference(p)[None].numpy()) for p in people(seed)]
    heard = [loudness(job.voice, len(s.height)) for job, s in zip(jobs, seen, strict=True)]
    own = [detect.follows(torch.from_numpy(s.height), h) for s, h in zip(seen, heard, strict=True)]
    others = [detect.follows(torch.from_numpy(s.height), h) for s, h in zip(seen, heard[1:] + heard[:1], strict=True)]
    who = [detect.nearest(torch.from_numpy(s.looks), line_up) == i % LINE_UP for i, s in enumerate(seen)]
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
    return [read(world.render(j.scene, voices.mouth(j.voice, FRAMES)).numpy()) for j in jobs]


def recordings(model: str, files: list[Path]) -> dict[str, float]:
    """How well the mouth follows recorded speech, file by file."""
    figures = {}
    for i, file in enumerate(files):
        voice = open_sound(file).speech
        person = world.reference(people(0)[i % LINE_UP]).numpy()
        clip = pipeline(model)(prompt="someone talking", seed=i, references=(person,), audio=str(file))
        height = detect.mouth(clip.frames).height
        figures[file.name] = detect.follows(torch.as_tensor(height), loudness(voice, len(height)))[0]
    return figures
