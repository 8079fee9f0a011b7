"""Solvers and their noise levels: diffusers' UniPC and Euler with our own flow shift."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

SAMPLERS = ("unipc", "euler")


def solver(sampler: str, steps: int, shift: float, device: torch.device) -> Any:
    """A solver with its timesteps set.

    Args:
        sampler: "unipc" (second order, what Wan's samples use) or "euler".
        steps: solver steps.
        shift: flow shift; 1 spaces noise levels evenly, more spends steps at high noise.
        device: where its tables live.

    Returns:
        A diffusers scheduler: ``timesteps``, and ``step(velocity, t, latents)``.

    Source: Wan-Video/Wan2.2 wan/utils/fm_solvers_unipc.py for the choice of solver and order.
    """
    if sampler == "unipc":
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    else:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps, device=device)
    return scheduler


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Unit noise from a CPU generator: one seed, one video, on every device.

    Args:
        shape: (B, C, T, h, w).
        seed: any non-negative integer.

    Returns:
        float32 on the CPU.
    """
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)
