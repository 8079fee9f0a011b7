"""Classifier-free guidance: one branch when it is off, two when it is on."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Velocity(Protocol):
    """A model with its conditioning, seen from the sampling loop."""

    def __call__(self, latents: Tensor, timestep: Tensor, expert: int, negative: bool) -> Tensor:
        """Predict the velocity at a noise level.

        Args:
            latents: (B, C, T, h, w).
            timestep: scalar, 0 to 1000.
            expert: 0, or 1 for the low-noise expert.
            negative: use the negative prompt.

        Returns:
            (B, C, T, h, w).
        """
        ...


def guided(velocity: Velocity, latents: Tensor, timestep: Tensor, expert: int, scale: float) -> Tensor:
    """v_negative + scale * (v - v_negative); with scale 1 or less just v.

    Source: Ho and Salimans 2022, eq. 6, in the form Wan uses it.
    """
    positive = velocity(latents, timestep, expert, negative=False)
    if scale <= 1.0:
        return positive
    negative = velocity(latents, timestep, expert, negative=True)
    return negative + scale * (positive - negative)
