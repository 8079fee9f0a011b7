"""Steps that are left out: which, by what, and that nothing is where they are not asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.core import test_pipeline as checkpoints
from wan_core.sample.skip import SETTLING, Schedule, StepCache


def walk(cache: StepCache, kinds: Sequence[object], speed: float = 0.01) -> list[bool]:
    """Which steps are computed on a straight path through latents, by a network that follows them closely."""
    latents, done = torch.ones(1, 2, 1, 2, 2), []
    for step, kind in enumerate(kinds):
        latents = latents + speed
        found = cache.velocity(latents, step, kind)
        done.append(found is None)
        if found is None:
            cache.keep(latents, 2 * latents)  # moves twice as much as its input
        else:
            assert torch.allclose(found, 2 * latents, rtol=cache.tolerance)
    return done


def test_the_start_the_end_and_what_adds_up_are_computed() -> None:
    cache = StepCache(50, 0.05)
    done = walk(cache, [0] * 50)
    assert all(done[:10])
    assert done[-1]
    # each step adds 0.01 / 1.1 at first and 0.01 / 1.5 at the end: every sixth to every eighth passes the tolerance
    assert not any(done[10:15])
    assert 39 / 8 - 1 < sum(done[10:-1]) < 39 / 6 + 1
    assert cache.computed == sum(done)


def test_a_faster_path_leaves_out_less_and_no_tolerance_nothing() -> None:
    slow, fast = (sum(walk(StepCache(50, 0.05), [0] * 50, speed)) for speed in (0.005, 0.05))
    assert slow < fast
    assert all(walk(StepCache(50, 0.0), [0] * 50))


def test_another_expert_starts_afresh() -> None:
    done = walk(StepCache(50, 0.2), [0] * 30 + [1] * 20)
    assert all(done[30 : 30 + SETTLING])
    assert not all(done[30 + SETTLING : -1])


def test_steps_with_and_without_guidance_do_not_compare() -> None:
    done = walk(StepCache(50, 0.2), [(0, True)] * 30 + [(0, False)] * 20)
    assert all(done[30 : 30 + SETTLING])
    assert not all(done[30 + SETTLING : -1])


def test_distilled_models_need_every_step() -> None:
    assert all(walk(StepCache(4, 1.0), [0] * 4))
    assert all(walk(StepCache(8, 1.0), [0] * 8))


@pytest.mark.parametrize("experts", [1, 2])
def test_the_exact_tier_is_as_if_there_were_no_cache(experts: int, tmp_path: Path) -> None:
    peer = checkpoints.checkpoint("t2v", experts)
    mine = checkpoints.ours(peer, tmp_path)
    asked = replace(checkpoints.request(peer), num_inference_steps=12)
    plain = mine.latents(asked)
    assert torch.equal(mine.latents(replace(asked, tier="exact")), plain)
    strict, wide = (replace(mine.spec, recipe=replace(mine.spec.recipe, tolerance=t)) for t in (0.0, 5.0))
    mine.parts.spec = strict  # a cache that leaves nothing out is no cache either
    assert torch.equal(mine.latents(replace(asked, tier="fast")), plain)
    mine.parts.spec = wide
    assert not torch.equal(mine.latents(replace(asked, tier="fast")), plain)


def test_a_schedule_keeps_nothing_of_an_expert_whose_turn_is_over() -> None:
    schedule, tokens = Schedule(frozenset({1, 3})), torch.ones(1, 2, 3)
    seen = []
    for step, kind in enumerate((0, 0, 1, 1)):
        assert schedule.velocity(tokens, step, kind) is None
        seen.append(schedule.trunk((kind, "told"), tokens, lambda step=step: tokens + 5 + step))
    assert [float(out.mean()) for out in seen] == [6.0, 6.0, 8.0, 8.0]
    assert list(schedule._added) == [(1, "told")]
