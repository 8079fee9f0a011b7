"""What requests cost, against figures worked out by hand for the public models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.test_jobs import settled
from wan_core.magnitude import left_out
from wan_core.plan import price
from wan_core.specs import SPECS
from wan_core.types import Branch, Geometry, Kind

SMALL = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
MIDDLE = {"num_attention_heads": 24, "attention_head_dim": 128, "ffn_dim": 14336, "num_layers": 30}
LARGE = {"num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40}
SPEC = SPECS["wan2.1-t2v-1.3b"]
OLD, NEW = Geometry(8, 4, (1, 2, 2), 16), Geometry(16, 4, (1, 2, 2), 48)


def steps(count: int, branches: int) -> list[Kind]:
    return [(0, frozenset([Branch(), Branch(text=False)][:branches]))] * count


@pytest.mark.parametrize(("config", "geometry", "size", "frames", "tokens", "teraflops"), [
    (SMALL, OLD, (832, 480), 81, 32_760, 283.0),
    (LARGE, OLD, (832, 480), 81, 32_760, 1678.4),
    (LARGE, OLD, (1280, 720), 81, 75_600, 6523.4),
    (MIDDLE, NEW, (1280, 704), 121, 27_280, 517.0),
])  # fmt: skip
def test_forward_passes_of_the_public_models(config, geometry, size, frames, tokens, teraflops) -> None:
    asked = replace(settled(), width=size[0], height=size[1], num_frames=frames)
    made = price(asked, SPEC, geometry, config, [geometry.latent_frames(frames)], steps(1, 1))
    assert (made.tokens, made.passes) == (tokens, 1)
    assert made.flops / 1e12 == pytest.approx(teraflops, rel=2e-3)


def test_guidance_steps_and_stretches_multiply() -> None:
    asked = replace(settled(), width=64, height=64, num_frames=81)
    assert price(asked, SPEC, OLD, SMALL, [21], steps(10, 2)).passes == 20
    assert price(asked, SPEC, OLD, SMALL, [7] * 8, steps(10, 2)).passes == 160
    assert price(asked, SPEC, OLD, SMALL, [7] * 8, steps(10, 2)).tokens == 7 * 16


def test_a_schedule_is_priced_by_the_steps_that_it_computes() -> None:
    asked = replace(settled(), width=64, height=64, num_frames=81, tier="scheduled")
    skipped = left_out(SPEC.recipe, steps(50, 2))
    assert 20 <= len(skipped) <= 35
    assert price(asked, SPEC, OLD, SMALL, [21], steps(50, 2)).passes == 2 * (50 - len(skipped))
    half = [*steps(25, 2), *steps(25, 1)]
    assert 50 - len(skipped) < price(asked, SPEC, OLD, SMALL, [21], half).passes < 2 * (50 - len(skipped))
