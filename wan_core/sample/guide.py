"""Guidance: which branches of the model a step runs, and how their velocities add up.

Published formulas are weighted sums of a few predictions that differ in what the model is told, so a guide is a
table from branches to weights. CFG-Zero* alone fits one prediction to the other before it adds them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wan_core.types import Branch, Settled

NEGATIVE = Branch(text=False)


class Velocity(Protocol):
    """A model with its conditioning, seen from the sampling loop."""

    def __call__(self, latents: Tensor, timestep: Tensor, expert: int, branches: Sequence[Branch]) -> list[Tensor]:
        """Predict the velocity at a noise level.

        Args:
            latents: (B, C, T, h, w).
            timestep: scalar, 0 to 1000.
            expert: 0, or 1 for the low-noise expert.
            branches: what to tell the model, one forward pass each.

        Returns:
            Per branch, (B, C, T, h, w).
        """
        ...


class Guide(ABC):
    """A guidance formula."""

    @abstractmethod
    def weights(self, timestep: float, expert: int) -> dict[Branch, float]:
        """The branches to run at a timestep and the weights of their velocities, which sum to 1; none: stand still."""

    def running(self, timestep: float, expert: int) -> dict[Branch, float]:
        """:meth:`weights` without the branches whose weight is 0, which need not be run."""
        return {branch: weight for branch, weight in self.weights(timestep, expert).items() if weight != 0}

    def add(self, parts: list[tuple[float, Tensor]]) -> Tensor:
        """The guided velocity of weights and their branches' velocities, (B, C, T, h, w) float32 each."""
        (weight, velocity), *rest = parts
        total = weight * velocity
        for weight, velocity in rest:
            total = total + weight * velocity
        return total


@dataclass(frozen=True)
class ClassifierFree(Guide):
    """v_without + scale * (v - v_without); with scale 1 or less just v.

    Attributes:
        scales: for the high-noise (or only) and the low-noise expert.
        without: the branch to move away from.

    Source: Ho and Salimans 2022, eq. 6, in the form Wan uses it.
    """

    scales: tuple[float, float]
    without: Branch = NEGATIVE

    def weights(self, timestep: float, expert: int) -> dict[Branch, float]:  # noqa: ARG002 - the protocol's
        """See :class:`Guide`."""
        scale = self.scales[expert]
        return {Branch(): 1.0} if scale <= 1.0 else {Branch(): scale, self.without: 1 - scale}


@dataclass(frozen=True)
class ZeroStar(ClassifierFree):
    """CFG-Zero*: the negative velocity is fitted to the other by a factor first, and the first step stands still.

    Attributes:
        first: the timestep that stands still, the first step's; infinity if none does.

    Source: Fan and others 2025, CFG-Zero* (arXiv 2503.18886); huggingface/diffusers
    src/diffusers/guiders/classifier_free_zero_star_guidance.py.
    """

    first: float = 1000.0

    def weights(self, timestep: float, expert: int) -> dict[Branch, float]:
        """See :class:`Guide`."""
        weights = super().weights(timestep, expert)
        return {} if len(weights) > 1 and timestep >= self.first else weights

    def add(self, parts: list[tuple[float, Tensor]]) -> Tensor:
        """See :class:`Guide`."""
        if len(parts) == 1:
            return super().add(parts)
        (scale, told), (weight, without) = parts
        axes = tuple(range(1, told.ndim))
        length = without.square().sum(axes, keepdim=True).clamp(min=1e-8)
        return super().add([(scale, told), (weight, without * (told * without).sum(axes, keepdim=True) / length)])


@dataclass(frozen=True)
class Between(Guide):
    """A guide that only holds between two timesteps; beyond, the model is only told everything, in one pass.

    Attributes:
        guide: it.
        high: the first timestep that is guided.
        low: the last one.

    Source: Kynkaanniemi and others 2024 (arXiv 2404.07724).
    """

    guide: Guide
    high: float
    low: float

    def weights(self, timestep: float, expert: int) -> dict[Branch, float]:
        """See :class:`Guide`."""
        return self.guide.weights(timestep, expert) if self.low <= timestep <= self.high else {Branch(): 1.0}

    def add(self, parts: list[tuple[float, Tensor]]) -> Tensor:
        """See :class:`Guide`."""
        return self.guide.add(parts)


@dataclass(frozen=True)
class HumoThree(Guide):
    """HuMo-17B: audio and text guided apart, in three forward passes.

    Attributes:
        text: text scale; two less below timestep 980, where the reference leaves the empty branch.
        audio: audio scale.
        references: whether there are reference images.

    Source: Phantom-video/HuMo humo/generate.py (modes TIA and TA).
    """

    text: float = 5.0
    audio: float = 5.5
    references: bool = True

    def weights(self, timestep: float, expert: int) -> dict[Branch, float]:  # noqa: ARG002 - the protocol's
        """See :class:`Guide`."""
        early = timestep > 980 or not self.references
        text = self.text if early else self.text - 2.0
        shown = self.references
        return {
            Branch(image=shown): self.audio,
            Branch(image=shown, audio=False): text - self.audio,
            Branch(text=False, image=shown and early, audio=False): 1 - text,
        }


@dataclass(frozen=True)
class HumoFour(Guide):
    """HuMo-1.7B: image, audio and text guided apart; four forward passes, three without references.

    Attributes:
        text: text scale.
        audio: audio scale.
        image: image scale.
        references: whether there are reference images.

    Source: Phantom-video/HuMo humo/generate_1_7B.py (modes TIA and TA).
    """

    text: float = 7.5
    audio: float = 7.5
    image: float = 4.0
    references: bool = True

    def weights(self, timestep: float, expert: int) -> dict[Branch, float]:  # noqa: ARG002 - the protocol's
        """See :class:`Guide`."""
        shown = {Branch(): self.image} if self.references else {}
        return shown | {
            Branch(image=False): self.audio - (self.image if self.references else 0.0),
            Branch(image=False, audio=False): self.text - self.audio,
            Branch(text=False, image=False, audio=False): 1 - self.text,
        }


@dataclass(frozen=True)
class Phantom(Guide):
    """Phantom: references and text guided apart, in three forward passes.

    Attributes:
        text: text scale.
        image: reference scale.

    Source: Phantom-video/Phantom phantom_wan/subject2video.py.
    """

    text: float = 7.5
    image: float = 5.0

    def weights(self, timestep: float, expert: int) -> dict[Branch, float]:  # noqa: ARG002 - the protocol's
        """See :class:`Guide`."""
        return {
            Branch(): self.text,
            Branch(text=False): self.image - self.text,
            Branch(text=False, image=False): 1 - self.image,
        }


def formula(settled: Settled, own: Guide | None, timesteps: list[float], steps: range) -> Guide:
    """How a clip is guided.

    Args:
        settled: what was asked for.
        own: the clip's own formula, if it has one.
        timesteps: of all steps.
        steps: those that are guided.
    """
    guide = own or ClassifierFree((settled.guidance_scale, settled.guidance_scale_2))
    if settled.guidance_method == "zero_star" and isinstance(guide, ClassifierFree):
        # timesteps are whole numbers: of many steps with a large shift the first two may be one; then none is still
        alone = len(timesteps) > 1 and timesteps[0] > timesteps[1]
        guide = ZeroStar(guide.scales, guide.without, timesteps[0] if alone else math.inf)
    if len(steps) == len(timesteps):
        return guide
    some = [timesteps[i] for i in steps] or [-1.0]
    return Between(guide, some[0], some[-1])


def guided(velocity: Velocity, latents: Tensor, timestep: Tensor, expert: int, guide: Guide) -> Tensor:
    """One guided velocity, (B, C, T, h, w) float32; branches of weight 0 are not run."""
    weights = guide.running(float(timestep), expert)
    if not weights:
        return torch.zeros_like(latents, dtype=torch.float32)
    velocities = velocity(latents, timestep, expert, tuple(weights))
    return guide.add([(w, v.float()) for w, v in zip(weights.values(), velocities, strict=True)])
