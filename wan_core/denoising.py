"""One shot, from noise to finished latents: solver, guidance, experts and skipping, put together and run."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wan_core.artifact import Artifacts
from wan_core.compile import TEXT_STEP, Compiled
from wan_core.magnitude import left_out
from wan_core.parts import Parts, Shot
from wan_core.plan import guided_steps
from wan_core.sample.guide import Guide, Velocity, formula, guided
from wan_core.sample.loop import denoise, kinds, one_of_each
from wan_core.sample.schedule import noise, solver
from wan_core.sample.skip import Schedule, StepCache
from wan_core.types import CancelCheck, Event, Kind, Preview, Progress, Settled
from wan_core.velocity import Conditioned, Overlapped, Span, spans

OVERLAP = 5  # latent frames that neighbouring stretches of a long video share, at least
PREVIEW_SECONDS = 0.3  # previews come at most this often


@dataclass(frozen=True)
class Denoiser:
    """A model's way from noise to latents.

    Attributes:
        parts: the model.
        compiled: what runs its blocks, or None for their own code.
        longest: latent frames that are denoised at once, at most.
    """

    parts: Parts
    compiled: Compiled | Artifacts | None
    longest: int

    def run(self, settled: Settled, shot: Shot, cancelled: CancelCheck) -> Generator[Event, None, Tensor]:
        """Denoise one shot.

        Args:
            settled: the request.
            shot: what of it.
            cancelled: asked before every step.

        Yields:
            ``Progress`` and ``Preview``.

        Returns:
            (1, C, T, h, w) float32, the shot's frames without what stands beside them.

        Raises:
            Cancelled: when ``cancelled`` says so.
        """
        parts, told, boundary = self.parts, shot.conditioning, self.parts.spec.boundary
        channels, _, *size = parts.geometry.latents(1, settled.height, settled.width)
        state = noise((1, channels, told.ahead + shot.frames + told.behind, *size), shot.seed).to(parts.device)
        video = slice(told.ahead, told.ahead + shot.frames)
        flow = self._solver(settled, parts.device, shot.seed)
        guide = _formula(settled, shot.guide, flow)
        skip = self._skip(settled, flow.timesteps, guide)
        velocity = self._velocity(settled, shot, skip if isinstance(skip, Schedule) else None)
        yield from self._compile(shot, velocity, state, flow.timesteps, guide)
        shown = time.monotonic()
        for done in denoise(velocity, state, flow, guide, boundary, cancelled, skip):
            state = told.keep_first(done.latents)
            yield Progress("denoise", done.step, done.of, shot.clip, shot.clips)
            if done.step < done.of and time.monotonic() - shown > PREVIEW_SECONDS:
                shown = time.monotonic()
                yield Preview(parts.codec.preview(state[:, :, video]).numpy(), done.step)
        return state[:, :, video]

    @property
    def _text_step(self) -> int:
        return TEXT_STEP if self.compiled is not None and self.compiled.told else 1

    def kinds(self, settled: Settled, own: Guide | None) -> list[Kind]:
        """What every step of a request runs; no device is needed.

        Args:
            settled: the request.
            own: the guidance formula that the model has for it, or None.

        Returns:
            Every step's kind, see :func:`wan_core.sample.loop.kinds`.
        """
        flow = self._solver(settled, torch.device("cpu"))
        return kinds(flow.timesteps, _formula(settled, own, flow), self.parts.spec.boundary)

    def stretches(self, settled: Settled, frames: int) -> list[Span]:
        """How so many latent frames are denoised: at once, or in reference mode, if they are many, in stretches."""
        return spans(frames, self.longest, OVERLAP) if settled.mode == "reference" else [Span(0, frames)]

    def _solver(self, settled: Settled, device: torch.device, seed: int = 0) -> Any:
        recipe = self.parts.spec.recipe
        own = settled.flow_shift == recipe.shift_for(settled.width, settled.height)
        levels = recipe.levels if own else ()
        return solver(settled.sampler, settled.num_inference_steps, settled.flow_shift, device, levels, seed)

    def _skip(self, settled: Settled, timesteps: Tensor, guide: Guide) -> StepCache | Schedule | None:
        """What leaves steps out, if a request allows that."""
        recipe = self.parts.spec.recipe
        if settled.tier == "scheduled":
            return Schedule(left_out(recipe, kinds(timesteps, guide, self.parts.spec.boundary)))
        return StepCache(settled.num_inference_steps, recipe.tolerance) if settled.tier == "fast" else None

    def _velocity(self, settled: Settled, shot: Shot, carry: Schedule | None) -> Velocity:
        experts, told = self.parts.experts, shot.conditioning
        stretches = self.stretches(settled, shot.frames)
        if len(stretches) == 1:
            return Conditioned(experts, told, text_step=self._text_step, carry=carry)
        return Overlapped(experts, told, stretches, self._text_step, carry)

    def _compile(
        self, shot: Shot, velocity: Velocity, state: Tensor, timesteps: Tensor, guide: Guide
    ) -> Generator[Event, None, None]:
        """Let blocks be compiled for this shape, where that has not been done."""
        if self.compiled is None:
            return
        each = one_of_each(timesteps, guide, self.parts.spec.boundary)
        shape = (shot.conditioning.shape(state, self._text_step), tuple(each), self.parts.experts[0].slicing)
        if self.compiled.fresh(shape):
            yield Progress("compile", 0, 1, shot.clip, shot.clips)
            self.compiled.prepare(shape, lambda: [guided(velocity, state, t, e, guide) for (e, _), t in each.items()])


def _formula(settled: Settled, own: Guide | None, flow: Any) -> Guide:
    return formula(settled, own, [float(t) for t in flow.timesteps], guided_steps(settled))
