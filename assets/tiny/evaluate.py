"""Does the built-in model make what it is asked for? ``python -m assets.tiny.evaluate --count 200 --seed 1``.

Prompts describe combinations that training never saw; clips are read back by ``detect.py``, which
knows nothing of the world. Every clip is also scored against someone else's prompt: near chance, or
the detectors are guessing.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch

import wan_core
from assets.tiny import detect, world
from assets.tiny.captions import LANGUAGES, plain, scene_from
from assets.tiny.world import Scene
from wan_core.pipeline import Pipeline
from wan_core.plan import TIERS
from wan_core.weights.describe import describe

T = TypeVar("T")
FIELDS = ("colour", "shape", "motion", "background")
#: Prompts that no caption is like; unknown words do no harm if what they are read as is what their clips show.
ODD = (
    "a photorealistic dragon over Lisbon at dawn", "the quick brown fox jumps over the lazy dog", "asdf qwer zxcv",
    "42", "?!", "cinematic, 8k, masterpiece, trending", "an astronaut rides a horse", "my grandmother's kitchen",
    "Ein Schiff auf hoher See", "un chat qui danse sous la pluie", "сова летит над лесом", "고양이가 춤을 춘다",
    "富士山の前を走る新幹線", "桜の木の下で本を読む女の子", "一个女孩在雨中奔跑", "长城上的日落", "🎉🎉🎉",
    "SELECT * FROM videos",
    "a red", "something blue that is not there", "no star, no ball, nothing at all", "two cats and three dogs fighting",
    "slow dolly shot through a neon city", "the sound of one hand clapping", "lorem ipsum dolor sit amet",
    "a glass of water falling in reverse", "e = mc^2", "portrait of a woman, oil on canvas", "timelapse of clouds",
    "hello", "a purple elephant swimming", "an explosion", "close-up of an eye opening", "make it better",
    "a very very very very very very big thing", "stars and stripes", "heartbreak hotel", "ring ring",
    "squaring the circle", "under the sea",
)  # fmt: skip
#: Prompts that leave most of it open.
HALF = (
    "a star", "a red ball", "something bouncing", "a heart in the sky", "blue", "spinning", "a ring on sand",
    "growing triangle", "a square at night", "a pink star", "it jumps to the left", "a yellow sun over the beach",
    "赤い星", "ボールが跳んでいる", "夜空", "ハートが大きくなっていく", "红色的球", "星星", "在草地上跳",
    "一个气球升起来",
)  # fmt: skip
Scores = dict[str, list[float]]
How = tuple[tuple[str, Any], ...]


def score(scores: Scores, scene: Scene, seen: detect.Seen, fields: tuple[str, ...] = FIELDS) -> None:
    """Note which of a scene's attributes were seen, and whether all of them were."""
    hits = [getattr(seen, f) == getattr(scene, f) for f in fields]
    for field, hit in zip(fields, hits, strict=True):
        scores[field].append(hit)
    scores["all"].append(all(hits))


@dataclass(frozen=True)
class Job:
    """One clip to make and read back.

    Attributes:
        scene: what it should show; in image mode its first frame is given.
        prompt: the words.
        seed: of the noise.
        image: image mode.
        how: fields of the request that differ from the recipe.
    """

    scene: Scene
    prompt: str
    seed: int
    image: bool = False
    how: How = ()


@lru_cache(maxsize=1)
def pipeline(model: str) -> Pipeline:
    """The model under test, once per process."""
    return wan_core.load(model)


def make(model: str, job: Job) -> tuple[detect.Seen, float]:
    """Make a clip with the real pipeline; what it shows, and its first frame's fidelity in decibels."""
    first = world.render(job.scene)[0][0]
    picture = {"image": first.numpy()} if job.image else {}
    clip = pipeline(model)(prompt=job.prompt, seed=job.seed, **picture, **dict(job.how))
    return detect.read(clip.frames), psnr(torch.from_numpy(clip.frames[0]), first)


class Team:
    """Processes that make clips side by side, one thread each: small models gain little from threads.

    Args:
        model: the checkpoint.
        workers: processes; 1 works in this one.
    """

    def __init__(self, model: str, workers: int) -> None:
        self.model, self.workers = model, workers

    def make_all(self, jobs: list[Any], what: str, make: Callable[[str, Any], T]) -> list[T]:
        """Results of ``make(model, job)`` in the order of the jobs."""
        work, results = partial(make, self.model), []
        with ExitStack() as stack:
            if self.workers > 1:
                context = multiprocessing.get_context("spawn")
                pool = stack.enter_context(context.Pool(self.workers, torch.set_num_threads, (1,)))
                made = pool.imap(work, jobs, chunksize=4)
            else:
                made = map(work, jobs)
            for result in made:
                results.append(result)
                tick(what, len(results), len(jobs))
        return results


def text_mode(team: Team, scenes: list[Scene], language: str, seed: int, how: How = ()) -> tuple[Scores, Scores]:
    """Scores for the right prompts, and for the same clips under shuffled ones."""
    rng = random.Random(seed)
    jobs = [Job(s, plain(s, rng, language), 1000 * seed + i, how=how) for i, s in enumerate(scenes)]
    seen = [s for s, _ in team.make_all(jobs, f"text {language}", make)]
    right: Scores = defaultdict(list)
    shuffled: Scores = defaultdict(list)
    for scene, own, other in zip(scenes, seen, seen[1:] + seen[:1], strict=True):
        score(right, scene, own)
        right["likeness"].append(own.likeness)
        score(shuffled, scene, other)
    return right, shuffled


def image_mode(team: Team, scenes: list[Scene], seed: int) -> Scores:
    """First-frame fidelity, the object kept, and the prompted motion from any starting place."""
    rng, scores = random.Random(seed + 1), defaultdict(list)
    jobs = [Job(s, plain(s, rng, "en"), 1000 * seed + i, image=True) for i, s in enumerate(scenes)]
    for job, (seen, fidelity) in zip(jobs, team.make_all(jobs, "image", make), strict=True):
        scores["first_frame_psnr"].append(fidelity)
        score(scores, job.scene, seen, ("colour", "shape", "motion"))
    return scores


def open_prompts(team: Team, prompts: tuple[str, ...], seed: int) -> Scores:
    """Whether clips of prompts that leave something open show what those are read as; how like shapes outlines are."""
    scores: Scores = defaultdict(list)
    vocabulary, jobs = describe(team.model).vocabulary, []
    for i, text in enumerate(prompts):
        number = 1000 * seed + i
        said = vocabulary.understood(vocabulary.read(text, number, pictured=False) or text) if vocabulary else {}
        jobs.append(Job(scene_from(said, world.sample_scene(random.Random(i))), text, number))
    for job, (seen, _) in zip(jobs, team.make_all(jobs, "open", make), strict=True):
        if vocabulary:
            score(scores, job.scene, seen)
        scores["backdrop"].append(bool(seen.background))
        scores["likeness"].append(seen.likeness)
    return scores


def vae_quality(pipe: Pipeline, scenes: list[Scene]) -> Scores:
    """How well held-out clips survive the VAE, and how true the object's colour stays."""
    scores: Scores = defaultdict(list)
    codec = pipe.parts.codec
    for i, scene in enumerate(scenes):
        clip, cover = world.render(scene)
        video = clip.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        back = torch.cat(list(codec.stream(codec.encode(video))), 2)[0].permute(1, 2, 3, 0)
        back = ((back + 1) * 127.5).round().clamp(0, 255)
        scores["psnr"].append(psnr(back, clip))
        inside = cover > 0.5
        away = detect.lab(back[inside].mean(0)) - detect.lab(clip[inside].float().mean(0))
        scores["object_colour_error"].append(float(away.norm()))
        tick("vae", i + 1, len(scenes))
    return scores


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of two pictures in 0..255, in decibels."""
    mse = float((a.float() - b.float()).square().mean())
    return 10 * math.log10(255**2 / max(mse, 1e-9))


def ceiling(scenes: list[Scene]) -> Scores:
    """What the detectors read off the world itself: no model can score above it."""
    scores: Scores = defaultdict(list)
    for scene in scenes:
        score(scores, scene, detect.read(world.render(scene)[0].numpy()))
    return scores


def draw_scenes(count: int, seed: int, wide: bool) -> list[Scene]:
    """Held-out scenes, each combination at most once."""
    rng, scenes = random.Random(seed), {}
    while len(scenes) < min(count, len(world.combinations(True))):
        scene = world.sample_scene(rng, held=True, wide=wide)
        scenes.setdefault(scene.key, scene)
    return list(scenes.values())


def tick(what: str, done: int, of: int) -> None:
    """Progress on standard error."""
    if done % 10 == 0 or done == of:
        sys.stderr.write(f"\r{what}: {done}/{of}   ")


def means(scores: Scores) -> dict[str, float]:
    """Every score's mean, rounded."""
    return {k: round(sum(v) / len(v), 4) for k, v in scores.items()}


def main() -> None:
    """Run everything and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m assets.tiny.evaluate", description=__doc__)
    parser.add_argument("world", nargs="?", choices=("objects", "reference"), default="objects")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", help="default: the built-in model")
    parser.add_argument("--only", choices=("vae", "text", "image", "odd", "ceiling"))
    parser.add_argument("--languages", nargs="*", default=list(LANGUAGES), choices=LANGUAGES)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes, one thread each")
    parser.add_argument("--recordings", nargs="*", type=Path, default=[], help="speech for the reference model")
    parser.add_argument("--steps", type=int, help="of text mode; default: the recipe's")
    parser.add_argument("--tier", default="exact", choices=TIERS, help="of text mode")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    begin = time.monotonic()
    if args.world == "reference":
        result = speakers(args.model or str(wan_core.BUILT_IN / "speaker"), args)
    else:
        args.model = args.model or str(wan_core.BUILT_IN)
        result = objects(args)
    result |= {"seed": args.seed, "minutes": round((time.monotonic() - begin) / 60, 1)}
    text = json.dumps(result, indent=2)
    sys.stderr.write("\n")
    sys.stdout.write(text + "\n")
    if args.out:
        args.out.write_text(text + "\n")


def speakers(model: str, args: argparse.Namespace) -> dict[str, Any]:
    """The reference model's figures; see ``assets.tiny.speaker.evaluate``."""
    from assets.tiny.speaker import evaluate as speaker

    jobs = speaker.draw(args.count, args.seed)
    result: dict[str, Any] = {"count": len(jobs)}
    if args.only in (None, "ceiling"):
        result["detectors_on_the_world"] = speaker.score(jobs, speaker.ceiling(jobs))
    if args.only in (None, "text"):
        seen = Team(model, args.workers).make_all(jobs, "reference", speaker.make)
        result["reference"] = speaker.score(jobs, seen)
        result["recordings"] = speaker.recordings(model, sorted(args.recordings))
    return result


def objects(args: argparse.Namespace) -> dict[str, Any]:
    """The first model's figures."""
    result: dict[str, Any] = {}
    team = Team(args.model, args.workers)
    how = (("num_inference_steps", args.steps), ("tier", args.tier))
    scenes = draw_scenes(args.count, args.seed, wide=False)
    if args.only in (None, "ceiling"):
        result["detectors_on_the_world"] = means(ceiling(scenes))
    if args.only in (None, "vae"):
        result["vae"] = means(vae_quality(pipeline(args.model), scenes[: min(40, len(scenes))]))
    if args.only in (None, "text"):
        for language in args.languages:
            right, shuffled = text_mode(team, scenes, language, args.seed, how)
            result[f"text_{language}"] = means(right)
            result.setdefault("text_shuffled", means(shuffled))
    if args.only in (None, "image"):
        result["image"] = means(image_mode(team, draw_scenes(args.count, args.seed, wide=True), args.seed))
    if args.only in (None, "odd"):
        result["odd_prompts"] = means(open_prompts(team, ODD, args.seed))
        result["half_told_prompts"] = means(open_prompts(team, HALF, args.seed))
    return result | {"count": len(ODD) + len(HALF) if args.only == "odd" else len(scenes)}


if __name__ == "__main__":
    main()
