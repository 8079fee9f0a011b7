"""Steps that a schedule leaves out: which, by what curve, and how one is measured."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core import test_pipeline as checkpoints
from tests.core.tiny import counted
from wan_core import Request, calibrate
from wan_core.errors import CheckpointError, RequestError
from wan_core.magnitude import left_out
from wan_core.pipeline import Pipeline
from wan_core.sample.experts import pick
from wan_core.sample.schedule import solver
from wan_core.specs import SPECS, Limits
from wan_core.types import Branch, Kind
from wan_core.weights.describe import own_recipe
from wan_core.weights.places import Root

FLAT = replace(SPECS["wan2.1-t2v-1.3b"].recipe, magnitudes=(1.0,) * 49, limits=Limits(0.1, 3, 0.2))


def turns(*lengths: int) -> list[Kind]:
    """So many steps of the first expert, then so many of the second, with one pass each."""
    return [(expert, frozenset({Branch()})) for expert, length in enumerate(lengths) for _ in range(length)]


def as_published(factors: Sequence[float], limits: Limits, asked: Container[int]) -> set[int]:
    """The authors' rule, which multiplies factors as it goes; ``asked``: the steps at which it is asked at all."""
    found, scale, error, run = set(), 1.0, 0.0, 0
    for step, factor in enumerate(factors, 1):
        if step not in asked:  # what has added up waits until it is asked again, over a change of experts too
            continue
        scale *= factor
        error += abs(1 - scale)
        run += 1
        if error < limits.error and run <= limits.longest:
            found.add(step)
        else:
            scale, error, run = 1.0, 0.0, 0
    return found


@pytest.mark.parametrize("name", [n for n, spec in SPECS.items() if spec.recipe.magnitudes and spec.boundary is None])
def test_public_curves_give_the_authors_schedule_but_for_the_last_step(name: str) -> None:
    recipe = SPECS[name].recipe
    assert len(recipe.magnitudes) == recipe.steps - 1
    found = left_out(recipe, turns(recipe.steps))
    asked = range(int(recipe.steps * recipe.limits.first), recipe.steps)
    assert found == as_published(recipe.magnitudes, recipe.limits, asked) - {recipe.steps - 1}
    assert len(found) >= 0.4 * recipe.steps


def test_two_experts_public_curves_likewise() -> None:
    """In the authors' code what has added up at the end of one turn counts in the next, so they may differ there."""
    text, image = (SPECS[name].recipe for name in ("wan2.2-t2v-a14b", "wan2.2-i2v-a14b"))
    assert [len(c) + 1 for c in (text.magnitudes, text.magnitudes_low)] == experts_turns("wan2.2-t2v-a14b") == [26, 14]
    assert [15, len(image.magnitudes_low) + 1] == experts_turns("wan2.2-i2v-a14b") == [15, 25]
    found = left_out(text, turns(26, 14))
    factors = (*text.magnitudes, 0.6539, *text.magnitudes_low)
    theirs = as_published(factors, text.limits, {*range(10, 26), *range(32, 40)}) - {39}
    assert {s for s in found if s < 26} == {s for s in theirs if s < 26}
    assert len(found ^ theirs) <= 2
    found = left_out(image, turns(15, 25))
    theirs = as_published((*[1.0] * 14, 0.9106, *image.magnitudes_low), image.limits, range(18, 40)) - {39}
    assert found == theirs
    assert min(found) >= 18


def experts_turns(name: str) -> list[int]:
    """How many of a recipe's steps each expert has."""
    spec = SPECS[name]
    steps = solver(spec.recipe.sampler, spec.recipe.steps, spec.recipe.shift, torch.device("cpu")).timesteps
    owners = [pick(float(t), spec.boundary) for t in steps]
    return [owners.count(0), owners.count(1)]


def test_an_expert_without_a_curve_computes_all_of_its_turn() -> None:
    recipe = replace(FLAT, magnitudes=(), magnitudes_low=(1.0,) * 9)
    found = left_out(recipe, turns(20, 10))
    assert found
    assert min(found) >= 22
    assert left_out(replace(FLAT, magnitudes=(1.0,) * 9), turns(20, 10)) == left_out(FLAT, turns(20, 10))
    assert max(left_out(FLAT, turns(20, 10))) < 20
    assert not left_out(recipe, turns(29, 1))
    alone = replace(SPECS["wan2.2-i2v-a14b"], boundary=None)  # a file of one expert
    assert not alone.scheduled
    assert SPECS["wan2.2-i2v-a14b"].scheduled


def test_a_flat_curve_leaves_out_as_many_in_a_row_as_may_be() -> None:
    found = left_out(FLAT, turns(50))
    assert [step for step in range(50) if step not in found] == [*range(10), *range(13, 49, 4), 49]


def test_steeper_curves_leave_out_less_and_nothing_is_left_out_without_one() -> None:
    counts = [len(left_out(replace(FLAT, magnitudes=(factor,) * 49), turns(50))) for factor in (1.0, 0.97, 0.95, 0.8)]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 4
    assert counts[-1] == 0
    assert not left_out(replace(FLAT, magnitudes=()), turns(50))


def test_of_fewer_steps_each_weighs_more() -> None:
    counts = {steps: left_out(SPECS["wan2.1-t2v-1.3b"].recipe, turns(steps)) for steps in (9, 16, 24, 50)}
    assert not any(found & {0, steps - 1} for steps, found in counts.items())
    shares = [len(found) / steps for steps, found in counts.items()]
    assert shares == sorted(shares)
    assert shares[0] < 0.4 < shares[-1]


def test_distilled_models_need_every_step() -> None:
    assert not left_out(FLAT, turns(8))


def test_the_first_step_of_another_kind_is_computed() -> None:
    other = (0, frozenset({Branch(), Branch(text=False)}))
    kinds = [*turns(20), *[other] * 15, *turns(15)]
    assert not left_out(FLAT, kinds) & {20, 35}
    both = replace(FLAT, magnitudes_low=FLAT.magnitudes)
    assert 20 not in left_out(both, turns(20, 30))


def scheduled(folder: Path, limits: Limits, branches: int = 2) -> tuple[Pipeline, Request]:
    peer = checkpoints.checkpoint("t2v", 1)
    mine = checkpoints.ours(peer, folder)
    recipe = replace(mine.spec.recipe, magnitudes=(1.0,) * 11, limits=limits)
    mine.parts.spec = replace(mine.spec, recipe=recipe)
    return mine, replace(checkpoints.request(peer), num_inference_steps=12, guidance_scale=2.0 * branches - 1)


@pytest.mark.parametrize("branches", [1, 2])
def test_what_is_left_out_is_not_computed_and_no_limit_is_no_cache(branches: int, tmp_path: Path) -> None:
    mine, asked = scheduled(tmp_path, Limits(0.0, 3, 0.2), branches)
    plain = mine.latents(asked)
    assert torch.equal(mine.latents(replace(asked, tier="scheduled")), plain)
    mine.parts.spec = replace(mine.spec, recipe=replace(mine.spec.recipe, limits=Limits(0.1, 3, 0.2)))
    passes: list[int] = []
    hook = mine.parts.experts[0].blocks[0].ffn.register_forward_hook(lambda *_: passes.append(1))
    other = mine.latents(replace(asked, tier="scheduled"))
    hook.remove()
    assert branches * len(passes) == mine.plan(replace(asked, tier="scheduled")).passes == branches * 5
    assert not torch.equal(other, plain)
    assert (other - plain).abs().mean() < 0.5 * plain.abs().mean()


@pytest.mark.parametrize("extra", [
    {}, {"guidance_scale_2": 1.0}, {"guidance_method": "zero_star"}, {"guidance_start": 0.3, "guidance_stop": 0.7},
    {"tier": "scheduled"}, {"tier": "scheduled", "guidance_scale_2": 1.0, "flow_shift": 3.0, "sampler": "euler"},
])  # fmt: skip
def test_two_experts_run_as_many_passes_as_the_plan_says(extra: dict[str, Any], tmp_path: Path) -> None:
    peer = checkpoints.checkpoint("t2v", 2)
    mine = checkpoints.ours(peer, tmp_path)
    flat = replace(mine.spec.recipe, magnitudes=(1.0,) * 9, magnitudes_low=(1.0,) * 9, limits=Limits(0.1, 2, 0.2))
    mine.parts.spec = replace(mine.spec, recipe=flat)
    asked = replace(checkpoints.request(peer), num_inference_steps=20, **extra)
    with counted(mine) as rows:
        mine.latents(asked)
    assert all(rows)
    assert sum(map(sum, rows)) == mine.plan(asked).passes
    if asked.tier == "scheduled":
        with counted(mine) as all_rows:
            mine.latents(replace(asked, tier="exact"))
        assert all(len(some) < len(every) for some, every in zip(rows, all_rows, strict=True))


def test_both_experts_curves_are_measured(tmp_path: Path) -> None:
    mine = checkpoints.ours(checkpoints.checkpoint("t2v", 2), tmp_path)
    mine.parts.spec = replace(mine.spec, recipe=replace(mine.spec.recipe, size=(32, 32), frames=5))
    found = calibrate.curves(mine, ("a",), steps=10)
    plan = mine.plan(Request("a", num_inference_steps=10, guidance_scale=1.0, guidance_scale_2=1.0))
    assert list(found) == ["magnitudes", "magnitudes_low"]
    assert sum(len(factors) + 1 for factors in found.values()) == plan.passes == 10
    with pytest.raises(CheckpointError, match="take more"):
        calibrate.curves(mine, ("a",), steps=2)
    calibrate.write(tmp_path, found)
    read = own_recipe(SPECS["wan2.2-t2v-a14b"], Root(tmp_path)).recipe
    assert (list(read.magnitudes), list(read.magnitudes_low)) == tuple(found.values())


def test_a_model_without_a_curve_has_no_such_tier(tmp_path: Path) -> None:
    peer = checkpoints.checkpoint("t2v")
    mine = checkpoints.ours(peer, tmp_path)
    mine.parts.spec = replace(mine.spec, recipe=replace(mine.spec.recipe, magnitudes=()))
    with pytest.raises(RequestError, match="no schedule") as caught:
        mine.plan(replace(checkpoints.request(peer), tier="scheduled"))
    assert "try fast" in str(caught.value)


def test_a_curve_is_measured_written_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, _ = scheduled(tmp_path, Limits())
    mine.parts.spec = replace(mine.spec, recipe=replace(mine.spec.recipe, size=(32, 32), frames=5))
    found = calibrate.curves(mine, ("a", "b"), steps=5)
    assert "trunk" not in vars(mine.parts.experts[0])
    (factors,) = found.values()
    assert len(factors) == 4
    assert all(0 < factor < 10 for factor in factors)
    assert len(set(factors)) > 1
    own = {"fps": 8, "limits": [0.2, 5, 0.3], "size": [32, 32], "frames": 5}
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": own}))
    assert calibrate.main([str(tmp_path), "--steps", "5", "--write"]) == 0
    told = json.loads(capsys.readouterr().out)
    read = own_recipe(SPECS["wan2.1-t2v-1.3b"], Root(tmp_path)).recipe
    assert {"magnitudes": list(read.magnitudes)} == told
    assert (read.fps, read.limits) == (8, Limits(0.2, 5, 0.3))


def test_what_cannot_be_measured_or_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = checkpoints.ours(checkpoints.checkpoint("i2v36"), tmp_path)
    with pytest.raises(CheckpointError, match="text mode"):
        calibrate.curves(mine)
    (tmp_path / "recipe.json").write_text("[]")
    with pytest.raises(CheckpointError, match=tmp_path.name):
        calibrate.write(tmp_path, {"magnitudes": [1.0]})
    assert calibrate.main([str(tmp_path / "gone")]) == 1
    assert "gone" in capsys.readouterr().err


def test_a_recipe_is_made_where_there_is_none(tmp_path: Path) -> None:
    calibrate.write(tmp_path, {"magnitudes": [0.9, 0.8]})
    assert own_recipe(SPECS["wan2.1-t2v-1.3b"], Root(tmp_path)).recipe.magnitudes == (0.9, 0.8)


@pytest.mark.parametrize("said", ['"magnitudes": [1, 0]', '"magnitudes": ["a"]', '"limits": [1]', '"limits": {"a": 1}'])
def test_a_curve_that_is_none_is_refused(said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(f'{{"recipe": {{{said}}}}}')
    with pytest.raises(CheckpointError, match=r"recipe\.json"):
        own_recipe(SPECS["wan2.1-t2v-1.3b"], Root(tmp_path))


def test_two_schedules_are_told_apart(tmp_path: Path) -> None:
    """A finished video is only handed out again for what was made in the same way."""
    mine, asked = scheduled(tmp_path, Limits())
    before = mine.plan(replace(asked, tier="scheduled")).backend
    mine.parts.spec = replace(mine.spec, recipe=replace(mine.spec.recipe, limits=Limits(0.1, 3, 0.2)))
    assert before != mine.plan(replace(asked, tier="scheduled")).backend
    assert "MagCache" in before
    assert "MagCache" not in mine.plan(asked).backend


def test_the_plan_knows_what_is_left_out_without_guidance_too(tmp_path: Path) -> None:
    mine, asked = scheduled(tmp_path, Limits(0.1, 3, 0.2), branches=1)
    half = replace(asked, tier="scheduled", guidance_stop=0.5)
    passes: list[int] = []
    hook = mine.parts.experts[0].blocks[0].ffn.register_forward_hook(lambda *_: passes.append(1))
    mine.latents(half)
    hook.remove()
    assert len(passes) == mine.plan(half).passes
