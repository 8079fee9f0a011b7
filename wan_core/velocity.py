"""A model with one request's conditioning, as the sampling loop sees it: latents in, velocities out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wan_core.condition import Conditioning
from wan_core.model import text as text_model
from wan_core.model.dit import Context, WanDiT
from wan_core.sample.skip import Schedule
from wan_core.types import Branch

KEPT = 2  # stretches of a long video whose keys and values are kept; of more they would outgrow the model
BATCHED_TOKENS = 1024  # up to this many, guidance branches go through the transformer together


@dataclass
class Conditioned:
    """The experts with one conditioning; what the steps share is computed once.

    Attributes:
        experts: the transformer, or the high-noise and the low-noise one.
        conditioning: what they are told.
        keep: whether what was computed of it is kept for the next step.
        text_step: prompts are padded to multiples of so many tokens.
        carry: leaves the trunk out of some steps; None runs it in every one.
        contexts: what was computed.
    """

    experts: list[WanDiT]
    conditioning: Conditioning
    keep: bool = True
    text_step: int = 1
    carry: Schedule | None = None
    contexts: dict[tuple[int, tuple[Branch, ...]], Context] = field(default_factory=dict)

    def __call__(self, latents: Tensor, timestep: Tensor, expert: int, branches: Sequence[Branch]) -> list[Tensor]:
        """See :class:`wan_core.sample.guide.Velocity`."""
        patch = self.experts[expert].config["patch_size"]
        t, h, w = (n // p for n, p in zip(latents.shape[2:], patch, strict=True))
        # a forward pass over few tokens is bound by its calls, over many by its arithmetic
        together = len(branches) * t * h * w <= BATCHED_TOKENS
        groups = [tuple(branches)] if together else [(b,) for b in branches]
        steps, lengths = self.conditioning.timesteps(timestep, (h * w, t * h * w))
        return [v for group in groups for v in self._run(latents, steps, lengths, expert, group).split(1)]

    def _run(
        self, latents: Tensor, steps: Tensor, lengths: tuple[int, ...], expert: int, group: tuple[Branch, ...]
    ) -> Tensor:
        dit = self.experts[expert]
        weight = dit.patch_embedding.weight
        context = self.contexts.get((expert, group)) or self._context(dit, group, weight)
        if self.keep:
            self.contexts[expert, group] = context
        x = torch.cat([self.conditioning.model_input(latents, branch) for branch in group])
        steps = steps.expand(len(group), -1).to(weight.device)
        embedded = dit.embed(x.to(weight.device, weight.dtype), steps, lengths, context=context)
        if self.carry is None:
            return dit.head(dit.trunk(embedded, context), embedded)
        which = (id(self), expert, group)
        return dit.head(self.carry.trunk(which, embedded.tokens, lambda: dit.trunk(embedded, context)), embedded)

    def _context(self, dit: WanDiT, group: tuple[Branch, ...], weight: Tensor) -> Context:
        rows, bias = text_model.pad(
            [self.conditioning.rows(branch).to(weight) for branch in group], step=self.text_step
        )
        told = [self.conditioning.context(branch) for branch in group]
        return dit.context(rows, bias=bias, **{k: torch.cat([t[k] for t in told]).to(weight) for k in told[0]})


@dataclass(frozen=True)
class Span:
    """A stretch of latent frames, denoised as one clip.

    Attributes:
        start: its first latent frame.
        stop: one past its last.
    """

    start: int
    stop: int


def spans(frames: int, longest: int, overlap: int) -> list[Span]:
    """Cover a long clip with stretches that overlap.

    Args:
        frames: latent frames T.
        longest: latent frames that the model makes at once.
        overlap: least latent frames shared by neighbours.

    Returns:
        One span if the clip is short enough; else spans of the longest length.
    """
    if frames <= longest:
        return [Span(0, frames)]
    count = math.ceil((frames - overlap) / (longest - overlap))
    starts = [round(i * (frames - longest) / (count - 1)) for i in range(count)]
    return [Span(start, start + longest) for start in starts]


class Overlapped:
    """Velocities of a long clip, blended from stretches: at every step neighbours agree where they meet.

    Args:
        experts: as for :class:`Conditioned`.
        conditioning: of the whole clip.
        stretches: from :func:`spans`.
        text_step: as for :class:`Conditioned`.
        carry: likewise.

    Source: MultiDiffusion (Bar-Tal et al. 2023), along time, with weights that fall towards the ends.
    """

    def __init__(
        self,
        experts: list[WanDiT],
        conditioning: Conditioning,
        stretches: list[Span],
        text_step: int = 1,
        carry: Schedule | None = None,
    ) -> None:
        self.stretches, self.behind = stretches, conditioning.behind
        keep = len(stretches) <= KEPT
        self.parts = [
            Conditioned(experts, conditioning.span(s.start, s.stop), keep, text_step, carry) for s in stretches
        ]
        self.weights = [_weights(i, stretches) for i in range(len(stretches))]

    def __call__(self, latents: Tensor, timestep: Tensor, expert: int, branches: Sequence[Branch]) -> list[Tensor]:
        """See :class:`wan_core.sample.guide.Velocity`."""
        frames = latents.shape[2] - self.behind
        video, behind = latents.split((frames, self.behind), dim=2)
        sums = [torch.zeros_like(latents, dtype=torch.float32) for _ in branches]
        counts = torch.zeros(frames + self.behind, device=latents.device)
        for span, part, weight in zip(self.stretches, self.parts, self.weights, strict=True):
            some = torch.cat([video[:, :, span.start : span.stop], behind], dim=2)
            places = torch.cat([torch.arange(span.start, span.stop), torch.arange(frames, frames + self.behind)])
            share = torch.cat([weight, torch.ones(self.behind)]).to(latents.device)
            places = places.to(latents.device)
            counts.index_add_(0, places, share)
            for total, v in zip(sums, part(some, timestep, expert, branches), strict=True):
                total.index_add_(2, places, v.float() * share[:, None, None])
        return [total / counts[:, None, None] for total in sums]


def _weights(number: int, stretches: list[Span]) -> Tensor:
    """How much each frame of a stretch counts: less and less towards an end that a neighbour covers."""
    span = stretches[number]
    weights = torch.ones(span.stop - span.start)
    if number > 0:
        shared = stretches[number - 1].stop - span.start
        weights[:shared] = torch.minimum(weights[:shared], torch.linspace(0, 1, shared + 2)[1:-1])
    if number + 1 < len(stretches):
        shared = span.stop - stretches[number + 1].start
        weights[-shared:] = torch.minimum(weights[-shared:], torch.linspace(1, 0, shared + 2)[1:-1])
    return weights
