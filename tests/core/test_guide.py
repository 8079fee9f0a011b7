"""Guidance formulas against their text, on known vectors; long clips blended from stretches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from diffusers.guiders import ClassifierFreeZeroStarGuidance
from torch import Tensor

from tests.core.test_jobs import settled
from wan_core.condition import Conditioning
from wan_core.sample.guide import Between, ClassifierFree, HumoFour, HumoThree, ZeroStar, formula, guided
from wan_core.types import Branch
from wan_core.velocity import Overlapped, Span, spans

P = Branch


def vector(branch: Branch) -> Tensor:
    """A different velocity for every branch."""
    number = 4 * branch.text + 2 * branch.image + branch.audio
    return torch.randn(1, 2, 1, 2, 2, generator=torch.Generator().manual_seed(number))


class Known:
    """Answers with :func:`vector`, and notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[Branch] = []

    def __call__(self, latents: Tensor, timestep: Tensor, expert: int, branches: Sequence[Branch]) -> list[Tensor]:
        self.asked += branches
        return [vector(b) for b in branches]


def run(guide: object, t: float = 500.0) -> tuple[Tensor, int]:
    known = Known()
    out = guided(known, torch.zeros(1, 2, 1, 2, 2), torch.tensor(t), 0, guide)  # type: ignore[arg-type]
    return out, len(known.asked)


def p(text: int, image: int, audio: int) -> Tensor:
    return vector(Branch(bool(text), bool(image), bool(audio)))


def test_classifier_free() -> None:
    out, calls = run(ClassifierFree((4.5, 4.5)))
    assert calls == 2
    torch.testing.assert_close(out, p(0, 1, 1) + 4.5 * (p(1, 1, 1) - p(0, 1, 1)))
    assert run(ClassifierFree((1.0, 1.0)))[1] == 1


def test_cfg_zero_star_is_diffusers_own() -> None:
    theirs = ClassifierFreeZeroStarGuidance(4.5)
    theirs.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(900))
    expected = theirs.forward(p(1, 1, 1), p(0, 1, 1)).pred
    guide = ZeroStar((4.5, 1.0), first=1000.0)
    torch.testing.assert_close(run(guide, 900.0)[0], expected)
    still, calls = run(guide, 1000.0)
    assert calls == 0
    assert not still.any()


def test_cfg_zero_star_without_guidance_is_the_model_alone() -> None:
    out, calls = run(ZeroStar((1.0, 1.0), first=1000.0), 1000.0)
    assert calls == 1
    assert torch.equal(out, p(1, 1, 1))


@pytest.mark.parametrize(
    ("timesteps", "first"), [([999.0, 990.0], 999.0), ([999.0, 999.0], math.inf), ([999.0], math.inf)]
)
def test_cfg_zero_star_stands_still_for_one_step_at_most(timesteps: list[float], first: float) -> None:
    asked = replace(settled(), guidance_method="zero_star", guidance_scale=4.0)
    guide = formula(asked, None, timesteps, range(len(timesteps)))
    assert isinstance(guide, ZeroStar)
    assert guide.first == first


def test_guidance_between_two_timesteps() -> None:
    guide = Between(ClassifierFree((4.5, 4.5)), 800.0, 300.0)
    inside, beyond = [run(guide, t) for t in (800.0, 300.0)], [run(guide, t) for t in (801.0, 299.0)]
    assert [calls for _, calls in inside + beyond] == [2, 2, 1, 1]
    assert torch.equal(inside[0][0], run(ClassifierFree((4.5, 4.5)))[0])
    assert torch.equal(beyond[0][0], p(1, 1, 1))


def test_s2v_moves_away_from_the_negative_prompt_in_silence() -> None:
    out, _ = run(ClassifierFree((4.5, 4.5), Branch(text=False, audio=False)))
    torch.testing.assert_close(out, p(0, 1, 0) + 4.5 * (p(1, 1, 1) - p(0, 1, 0)))


@pytest.mark.parametrize(
    ("t", "text", "empty"), [(990.0, 5.0, (0, 1, 0)), (980.0, 3.0, (0, 0, 0)), (10.0, 3.0, (0, 0, 0))]
)
def test_humo_17b(t: float, text: float, empty: tuple[int, int, int]) -> None:
    out, calls = run(HumoThree(5.0, 5.5), t)
    n = p(*empty)
    assert calls == 3
    torch.testing.assert_close(out, 5.5 * (p(1, 1, 1) - p(1, 1, 0)) + text * (p(1, 1, 0) - n) + n)


def test_humo_17b_without_references() -> None:
    out, calls = run(HumoThree(5.0, 5.5, references=False))
    n = p(0, 0, 0)
    assert calls == 3
    torch.testing.assert_close(out, 5.5 * (p(1, 0, 1) - p(1, 0, 0)) + 5.0 * (p(1, 0, 0) - n) + n)


@pytest.mark.parametrize(("text", "forwards"), [(7.0, 4), (7.5, 3)])
def test_humo_1_7b(text: float, forwards: int) -> None:
    out, calls = run(HumoFour(text, 7.5, 4.0))
    n = p(0, 0, 0)
    wanted = 4.0 * (p(1, 1, 1) - p(1, 0, 1)) + 7.5 * (p(1, 0, 1) - p(1, 0, 0)) + text * (p(1, 0, 0) - n) + n
    torch.testing.assert_close(out, wanted)
    assert calls == forwards  # equal scales cancel a branch, which is then not run


def test_humo_1_7b_without_references() -> None:
    out, _ = run(HumoFour(7.0, 7.5, 4.0, references=False))
    n = p(0, 0, 0)
    torch.testing.assert_close(out, 7.5 * (p(1, 0, 1) - p(1, 0, 0)) + 7.0 * (p(1, 0, 0) - n) + n)


@pytest.mark.parametrize(("frames", "longest", "overlap"), [(5, 9, 3), (9, 9, 3), (10, 9, 3), (40, 9, 3), (151, 25, 5)])
def test_stretches_cover_the_clip_and_overlap(frames: int, longest: int, overlap: int) -> None:
    found = spans(frames, longest, overlap)
    assert found[0].start == 0
    assert found[-1].stop == frames
    assert all(s.stop - s.start == min(frames, longest) for s in found)
    assert all(a.stop - b.start >= overlap for a, b in itertools.pairwise(found))


def test_where_stretches_agree_blending_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A velocity that depends on each frame alone comes out as if the clip were one stretch."""
    rows = torch.zeros(1, 1, 4)
    overlapped = Overlapped([], Conditioning(rows, behind=2), spans(20, 8, 3))
    for part in overlapped.parts:
        monkeypatch.setattr(part, "_run", None)
    overlapped.parts = [lambda x, t, e, b: [x * 3 + 1 for _ in b] for _ in overlapped.parts]  # type: ignore[misc]
    x = torch.randn(1, 2, 22, 2, 2)
    (out,) = overlapped(x, torch.tensor(1.0), 0, (P(),))
    torch.testing.assert_close(out, x * 3 + 1)


def test_what_many_stretches_are_told_is_not_kept() -> None:
    """Each would hold keys and values of its own over all steps: for a minute of sound more than the model."""
    told = Conditioning(torch.zeros(1, 1, 4), behind=2)
    few, many = (Overlapped([], told, spans(frames, 8, 3)) for frames in (12, 20))
    assert all(part.keep for part in few.parts)
    assert not any(part.keep for part in many.parts)


def test_a_span_keeps_what_stands_behind_the_video() -> None:
    audio = torch.arange(12.0).view(1, 12, 1, 1, 1)
    told = Conditioning(torch.zeros(1, 1, 4), heard={"audio": audio}, behind=2)
    cut = told.span(3, 7)
    assert cut.heard["audio"].flatten().tolist() == [3, 4, 5, 6, 10, 11]
    assert Span(3, 7).stop == 7
