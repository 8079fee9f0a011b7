"""The sampling loop: pick an expert, guide, step; one event per step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wan_core.errors import Cancelled
from wan_core.sample import experts
from wan_core.sample.guide import Guide, Velocity, guided
from wan_core.sample.skip import Schedule, StepCache
from wan_core.types import CancelCheck, Kind


@dataclass(frozen=True)
class LatentState:
    """Latents between two solver steps.

    Attributes:
        latents: (B, C, T, h, w) float32.
        step: steps done.
        of: steps in all.
    """

    latents: Tensor
    step: int
    of: int


@torch.no_grad()
def denoise(
    velocity: Velocity,
    latents: Tensor,
    solver: Any,
    guide: Guide,
    boundary: float | None,
    cancelled: CancelCheck,
    cache: StepCache | Schedule | None = None,
) -> Iterator[LatentState]:
    """Run all steps.

    Args:
        velocity: the model.
        latents: (B, C, T, h, w) float32 noise.
        solver: from :func:`wan_core.sample.schedule.solver`.
        guide: the guidance formula.
        boundary: see :func:`wan_core.sample.experts.pick`.
        cancelled: asked before every step.
        cache: leaves steps out; None computes every one.

    Yields:
        The state after every step.

    Raises:
        Cancelled: as soon as ``cancelled`` says so.
    """
    total, turns = len(solver.timesteps), kinds(solver.timesteps, guide, boundary)
    for i, (t, kind) in enumerate(zip(solver.timesteps, turns, strict=True)):
        if cancelled():
            raise Cancelled(f"stopped after {i} of {total} steps")
        v = None if cache is None else cache.velocity(latents, i, kind)
        if v is None:
            v = guided(velocity, latents, t, kind[0], guide)
            if cache is not None:
                cache.keep(latents, v)
        latents = solver.step(v, t, latents, return_dict=False)[0]
        yield LatentState(latents, i + 1, total)


def kinds(timesteps: Tensor, guide: Guide, boundary: float | None) -> list[Kind]:
    """Every step's kind."""
    turns = [(float(t), experts.pick(float(t), boundary)) for t in timesteps]
    return [(expert, frozenset(guide.running(t, expert))) for t, expert in turns]


def one_of_each(timesteps: Tensor, guide: Guide, boundary: float | None) -> dict[Kind, Tensor]:
    """The first timestep of every kind of step."""
    found: dict[Kind, Tensor] = {}
    for t, kind in zip(timesteps, kinds(timesteps, guide, boundary), strict=True):
        found.setdefault(kind, t)
    return found
