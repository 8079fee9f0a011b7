"""Steps that a schedule leaves out: which, by what curve, and how one is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.core import test_pipeline as checkpoints
from wan_core import Request, calibrate
from wan_core.errors import CheckpointError, RequestError
from wan_core.magnitude import left_out
from wan_core.pipeline import Pipeline
from wan_core.specs import SPECS, Limits, Recipe
from wan_core.weights.describe import own_recipe
from wan_core.weights.places import Root

FLAT = replace(SPECS["wan2.1-t2v-1.3b"].recipe, magnitudes=(1.0,) * 49, limits=Limits(0.1, 3, 0.2))


def as_published(recipe: Recipe, steps: int) -> set[int]:
    """The authors' rule, which multiplies factors as it goes, for a curve of as many steps."""
    found, scale, error, run = set(), 1.0, 0.0, 0
    for step in range(1, steps):
        scale *= recipe.magnitudes[step - 1]
        error += abs(1 - scale)
        run += 1
        if step >= int(steps * recipe.limits.first) and error < recipe.limits.error and run <= recipe.limits.longest:
            found.add(step)
        else:
            scale, error, run = 1.0, 0.0, 0
    return found


@pytest.mark.parametrize("name", [n for n, spec in SPECS.items() if spec.recipe.magnitudes])
def test_public_curves_give_the_authors_schedule_but_for_the_last_step(name: str) -> None:
    recipe = SPECS[name].recipe
    assert len(recipe.magnitudes) == recipe.steps - 1
    found = left_out(recipe, [0] * recipe.steps)
    assert found == as_published(recipe, recipe.steps) - {recipe.steps - 1}
    assert len(found) >= recipe.steps / 2


def test_a_flat_curve_leaves_out_as_many_in_a_row_as_may_be() -> None:
    found = left_out(FLAT, [0] * 50)
    assert [step for step in range(50) if step not in found] == [*range(10), *range(13, 49, 4), 49]


def test_steeper_curves_leave_out_less_and_nothing_is_left_out_without_one() -> None:
    counts = [len(left_out(replace(FLAT, magnitudes=(factor,) * 49), [0] * 50)) for factor in (1.0, 0.97, 0.95, 0.8)]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 4
    assert counts[-1] == 0
    assert not left_out(replace(FLAT, magnitudes=()), [0] * 50)


def test_of_fewer_steps_each_weighs_more() -> None:
    counts = {steps: left_out(SPECS["wan2.1-t2v-1.3b"].recipe, [0] * steps) for steps in (9, 16, 24, 50)}
    assert not any(found & {0, steps - 1} for steps, found in counts.items())
    shares = [len(found) / steps for steps, found in counts.items()]
    assert shares == sorted(shares)
    assert shares[0] < 0.4 < shares[-1]


def test_distilled_models_need_every_step() -> None:
    assert not left_out(FLAT, [0] * 8)


def test_the_first_step_of_another_kind_is_computed() -> None:
    kinds = [0] * 20 + [1] * 15 + [0] * 15
    assert not left_out(FLAT, kinds) & {20, 35}


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


def test_a_model_without_a_curve_has_no_such_tier(tmp_path: Path) -> None:
    peer = checkpoints.checkpoint("t2v", 2)
    mine = checkpoints.ours(peer, tmp_path)
    with pytest.raises(RequestError, match="no schedule") as caught:
        mine.plan(replace(checkpoints.request(peer), tier="scheduled"))
    assert "try fast" in str(caught.value)


def test_a_curve_is_measured_written_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, _ = scheduled(tmp_path, Limits())
    mine.parts.spec = replace(mine.spec, recipe=replace(mine.spec.recipe, size=(32, 32), frames=5))
    factors = calibrate.curve(mine, ("a", "b"), steps=5)
    assert "trunk" not in vars(mine.parts.experts[0])
    assert len(factors) == 4
    assert all(0 < factor < 10 for factor in factors)
    assert len(set(factors)) > 1
    own = {"fps": 8, "limits": [0.2, 5, 0.3], "size": [32, 32], "frames": 5}
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": own}))
    assert calibrate.main([str(tmp_path), "--steps", "5", "--write"]) == 0
    told = json.loads(capsys.readouterr().out)
    read = own_recipe(SPECS["wan2.1-t2v-1.3b"], Root(tmp_path)).recipe
    assert (list(read.magnitudes), read.fps, read.limits) == (told, 8, Limits(0.2, 5, 0.3))


def test_what_cannot_be_measured_or_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = checkpoints.ours(checkpoints.checkpoint("t2v", 2), tmp_path)
    with pytest.raises(CheckpointError, match="one expert"):
        calibrate.curve(mine)
    (tmp_path / "recipe.json").write_text("[]")
    with pytest.raises(CheckpointError, match=tmp_path.name):
        calibrate.write(tmp_path, [1.0])
    assert calibrate.main([str(tmp_path / "gone")]) == 1
    assert "gone" in capsys.readouterr().err


def test_a_recipe_is_made_where_there_is_none(tmp_path: Path) -> None:
    calibrate.write(tmp_path, [0.9, 0.8])
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
