"""Guidance: which branches of the model a step runs, and how their velocities add up.

Every published formula is a weighted sum of a few predictions that differ in what the model is told,
so a guide is a table from branches to weights, and one function does the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from wan_core.types import Branch

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


class Guide(Protocol):
    """A guidance formula."""

    def weights(self, timestep: float, expert: int) -> dict[Branch, float]:
        """The branches to run at a timestep and the weights of their velocities, which sum to 1."""
        ...


@dataclass(frozen=True)
class ClassifierFree:
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
class HumoThree:
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
class HumoFour:
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
class Phantom:
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


def guided(velocity: Velocity, latents: Tensor, timestep: Tensor, expert: int, guide: Guide) -> Tensor:
    """One guided velocity, (B, C, T, h, w) float32; branches of weight 0 are not run."""
    weights = {b: w for b, w in guide.weights(float(timestep), expert).items() if w != 0}
    velocities = velocity(latents, timestep, expert, tuple(weights))
    first, *rest = (v.float() * w for v, w in zip(velocities, weights.values(), strict=True))
    for more in rest:
        first = first + more
    return first
