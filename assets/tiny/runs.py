"""What every training stage shares: a clock-driven schedule, weight averages and resumable state."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn

from wan_core.precision import native

log = logging.getLogger("assets.tiny")

RUNS = Path(os.environ.get("WAN_TINY_RUNS", "runs/tiny"))


class Ema:
    """An exponential moving average of a module's trainable parameters, kept in float32."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.step = 0
        self.shadow = {n: p.detach().clone() for n, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Fold the module's present weights in; early steps average over fewer of them."""
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        names, params = zip(*module.named_parameters(), strict=True)
        shadows = [self.shadow[n] for n in names]
        torch._foreach_lerp_(shadows, [p.detach() for p in params], 1 - decay)

    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the module's parameters with the average."""
        with torch.no_grad():
            for name, p in module.named_parameters():
                p.copy_(self.shadow[name])


class Budget:
    """Training time as a fraction, counted over all sessions of a resumed run."""

    def __init__(self, minutes: float, spent: float = 0.0) -> None:
        self.total, self.before, self.start = minutes * 60, spent, time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds used so far, earlier sessions included."""
        return self.before + time.monotonic() - self.start

    @property
    def fraction(self) -> float:
        """0 at the start, 1 when the time is used up."""
        return min(1.0, self.spent / self.total)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made nearly orthogonal, convolution kernels taken as matrices.

    torch's own Muon takes matrices only. Steps have the size AdamW's would have.

    Args:
        params: weights of two or more axes, outputs first.
        lr: learning rate.
        momentum: share of the past kept, looked ahead once (Nesterov).

    Source: K. Jordan and others, Muon (public repo KellerJordan/Muon); step size after Moonlight
    (arXiv 2502.16982).
    """

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every weight that has a gradient; matrices of one shape go together, which is faster."""
        for group in self.param_groups:
            momentum, alike = group["momentum"], defaultdict(list)
            for p in (p for p in group["params"] if p.grad is not None):
                alike[p.grad.flatten(1).shape].append(p)
            for shape, params in alike.items():
                pasts = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in params]
                torch._foreach_mul_(pasts, momentum)
                torch._foreach_add_(pasts, [p.grad for p in params])
                ahead = [(p.grad + momentum * past).flatten(1) for p, past in zip(params, pasts, strict=True)]
                size = 0.2 * math.sqrt(max(shape))
                for p, move in zip(params, _orthogonal(torch.stack(ahead)), strict=True):
                    p.add_(move.reshape(p.shape).to(p.dtype), alpha=-group["lr"] * size)


def _orthogonal(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrices, roughly, by five Newton-Schulz steps. (N, m, n)."""
    x = matrices.to(native(matrices.device))
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.mT if tall else x


def shortened(device: str | torch.device) -> torch.autocast:
    """Where matrix products and convolutions are taken in the shortest type that a device has units for."""
    where = torch.device(device)
    return torch.autocast(where.type, torch.bfloat16, enabled=native(where) == torch.bfloat16)


def learning_rate(peak: float, fraction: float, step: int, *, warmup: int = 100) -> float:
    """A linear warm-up by steps, a plateau, and a cosine over the last 60 % of the time."""
    ramp = min(1.0, (step + 1) / warmup)
    tail = max(0.0, (fraction - 0.4) / 0.6)
    return peak * ramp * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * tail)))


def descend(solvers: dict[torch.optim.Optimizer, float], clip: float) -> float:
    """One clipped step; a step with a gradient that is not finite is left out.

    Args:
        solvers: optimisers and their present learning rates.
        clip: largest norm of all gradients together.

    Returns:
        The gradient norm before clipping.
    """
    params = [p for solver in solvers for group in solver.param_groups for p in group["params"]]
    norm = float(nn.utils.clip_grad_norm_(params, clip))
    for solver, rate in solvers.items():
        if math.isfinite(norm):
            for group in solver.param_groups:
                group["lr"] = rate
            solver.step()
        solver.zero_grad(set_to_none=True)
    return norm


def save_state(path: Path, state: dict) -> None:
    """Write a training state by rename, so that a killed run leaves the last one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_state(path: Path) -> dict | None:
    """Read a training state if there is one."""
    return torch.load(path, weights_only=True) if path.exists() else None
