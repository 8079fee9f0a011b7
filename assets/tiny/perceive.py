"""A small reader of latents, and how unlike two of them look to it.

The velocity's square error is hardly moved by what makes a star a star: a few rim latents in a frame of
64. A network that was taught to name shape and pose from one latent frame weighs just that, so the
transformer is also judged by what this reader sees in its guess of the clean latents. Its weights are
made for a training run in minutes, are not released, and have nothing to do with the detectors that
``evaluate`` reads pictures with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assets.tiny.runs import RUNS, load_state, log, save_state

WIDTHS = (96, 128, 192)
STEPS, BATCH, PEAK = 1500, 128, 2e-3
MOST_NOISE = 0.4  # level of noise on what it learns from: guesses are not clean
NAMED = 0.1  # what naming the shape counts, beside looking alike
SHAPES = 6  # the last numbers of a pose say which shape it is


class Perceiver(nn.Module):
    """Names what one latent frame shows.

    Args:
        channels: latent channels.
        pose: numbers that describe what is drawn, as in ``latents.pose``.
    """

    def __init__(self, channels: int, pose: int) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.layers = nn.ModuleList(
            [nn.Conv2d(channels, first, 3, padding=1), nn.Conv2d(first, second, 3, padding=1),
             nn.Conv2d(second, third, 3, stride=2, padding=1)]
        )  # fmt: skip
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in WIDTHS)
        self.hidden, self.answer = nn.Linear(third * 16, 256), nn.Linear(256, pose)

    def features(self, frames: Tensor) -> list[Tensor]:
        """What every layer makes of frames, (N, channels, 8, 8)."""
        seen = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            frames = F.gelu(norm(layer(frames)))
            seen.append(frames)
        return seen

    def name(self, last: Tensor) -> Tensor:
        """The pose that the last layer's features show, (N, pose); shapes as logits."""
        return self.answer(F.gelu(self.hidden(last.flatten(1))))


def unlike(reader: Perceiver, guess: Tensor, clean: Tensor, pose: Tensor) -> Tensor:
    """How different a guess looks from what it should be, and how wrongly its shape is named.

    Args:
        reader: finished.
        guess: (B, channels, T, 8, 8).
        clean: what it should be.
        pose: (B, T, pose), what is drawn.

    Returns:
        One number per frame, (B, T).
    """
    with torch.no_grad():
        goals = reader.features(clean.transpose(1, 2).flatten(0, 1))
    seen = reader.features(guess.transpose(1, 2).flatten(0, 1))
    apart = [(a - b).square().mean((1, 2, 3)) / b.var() for a, b in zip(seen, goals, strict=True)]
    named = F.cross_entropy(reader.name(seen[-1])[:, -SHAPES:], pose.flatten(0, 1)[:, -SHAPES:], reduction="none")
    return (torch.stack(apart).sum(0) + NAMED * named).view(pose.shape[:2])


def trained(values: Tensor, poses: Tensor, seed: int = 0) -> Perceiver:
    """The reader of a run's latents, made once per run.

    Args:
        values: (B, channels, T, 8, 8) clean latents.
        poses: (B, T, pose).
        seed: of its weights and batches.
    """
    path = RUNS / f"perceiver-{seed}.pt"
    state = load_state(path)
    torch.manual_seed(seed)
    reader = Perceiver(values.shape[1], poses.shape[-1])
    if state is None:
        _teach(reader, values.transpose(1, 2).flatten(0, 1), poses.flatten(0, 1))
        save_state(path, reader.state_dict())
    else:
        reader.load_state_dict(state)
    return reader.eval().requires_grad_(False)


def _teach(reader: Perceiver, frames: Tensor, poses: Tensor) -> None:
    solver = torch.optim.AdamW(reader.parameters(), lr=PEAK, weight_decay=0.01)
    plan = torch.optim.lr_scheduler.OneCycleLR(solver, PEAK, STEPS)
    for step in range(STEPS):
        rows = torch.randint(len(frames), (BATCH,))
        clean, goal = frames[rows].float(), poses[rows]
        level = MOST_NOISE * torch.rand(BATCH, 1, 1, 1)
        told = reader.name(reader.features((1 - level) * clean + level * torch.randn_like(clean))[-1])
        named = F.cross_entropy(told[:, -SHAPES:], goal[:, -SHAPES:])
        loss = named + 4 * (told[:, :-SHAPES] - goal[:, :-SHAPES]).square().mean()
        solver.zero_grad()
        loss.backward()
        solver.step()
        plan.step()
        if (step + 1) % 100 == 0:
            right = (told[:, -SHAPES:].argmax(1) == goal[:, -SHAPES:].argmax(1)).float().mean()
            log.info("perceiver %d: loss %.4f, shapes right %.3f", step + 1, loss.item(), right.item())
