"""Solvers and their noise levels: diffusers' UniPC and Euler with our own flow shift, and what distilled models use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

SAMPLERS = ("unipc", "euler", "renoise")


def solver(
    sampler: str, steps: int, shift: float, device: torch.device, levels: Sequence[float] = (), seed: int = 0
) -> Any:
    """A solver with its timesteps set.

    Args:
        sampler: "unipc" (second order, what Wan's samples use), "euler", or "renoise", see :class:`Renoise`.
        steps: solver steps.
        shift: flow shift; 1 spaces noise levels evenly, more spends steps at high noise.
        device: where its tables live.
        levels: timesteps that a distilled model was made for, 1000 to 0; they hold if there are as many as
            steps, in place of those that the shift gives. UniPC has none.
        seed: of noise that is added on the way.

    Returns:
        A diffusers scheduler: ``timesteps``, and ``step(velocity, t, latents)``.

    Source: Wan-Video/Wan2.2 wan/utils/fm_solvers_unipc.py for the choice of solver and order.
    """
    if sampler == "unipc":
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
        scheduler.set_timesteps(steps, device=device)
        return scheduler
    fixed = [level / 1000 for level in levels] if len(levels) == steps else None
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift if fixed is None else 1.0)
    if fixed is None:
        scheduler.set_timesteps(steps, device=device)
    else:
        scheduler.set_timesteps(sigmas=fixed, device=device)
    if sampler == "euler":
        return scheduler
    return Renoise(torch.as_tensor(scheduler.sigmas), torch.as_tensor(scheduler.timesteps), seed)


class Renoise:
    """Guess the clean video, add fresh noise of the next level, repeat: what DMD trains few-step models for.

    Args:
        sigmas: noise levels, 1 to 0, the last one 0.
        timesteps: the same without the last, times 1000.
        seed: of the noise.

    Source: Yin et al. 2024, Improved Distribution Matching Distillation, section 4.5; hao-ai-lab/FastVideo
    fastvideo/pipelines/stages/denoising.py (DmdDenoisingStage).
    """

    def __init__(self, sigmas: Tensor, timesteps: Tensor, seed: int) -> None:
        self.sigmas, self.timesteps, self._step = sigmas, timesteps, 0
        self._noise = torch.Generator("cpu").manual_seed(seed + 1)  # not the noise it begins with

    def step(self, velocity: Tensor, timestep: Tensor, latents: Tensor, return_dict: bool = False) -> tuple[Tensor]:  # noqa: ARG002 - diffusers' signature
        """The latents of the next level, (B, C, T, h, w), as diffusers' schedulers hand them over."""
        now, then = self.sigmas[self._step], self.sigmas[self._step + 1]
        self._step += 1
        clean = latents - now * velocity
        fresh = torch.randn(latents.shape, generator=self._noise).to(latents)
        return ((1 - then) * clean + then * fresh,)


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Unit noise from a CPU generator: one seed, one video, on every device.

    Args:
        shape: (B, C, T, h, w).
        seed: any non-negative integer.

    Returns:
        float32 on the CPU.
    """
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)
