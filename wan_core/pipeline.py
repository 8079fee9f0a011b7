"""Run one request on a loaded model, yield events."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wan_core.artifact import Artifacts
from wan_core.clip import Clip
from wan_core.compile import Compiled
from wan_core.condition import (
    Conditioning,
    channel_image,
    clean_first_frame,
    fit,
    footage,
    open_picture,
    open_sound,
    played,
    text_only,
)
from wan_core.condition.video import look, preceding
from wan_core.decoding import decode
from wan_core.denoising import Denoiser
from wan_core.errors import Cancelled, CheckpointError
from wan_core.memory import Need, encoding, need
from wan_core.model import text as text_model
from wan_core.model import vision
from wan_core.ops import attended_by, lean, ready, try_attention
from wan_core.parts import Material, Parts, Shot
from wan_core.placement import Residence
from wan_core.plan import TEXT_TOKENS, Plan, fitting, price, settle
from wan_core.shots import S2V_CLIP, humo_shot, own_guide, phantom_shot, speech_clips, speech_shots, vace_shot
from wan_core.specs import ModelSpec
from wan_core.types import (
    CancelCheck,
    Denoised,
    Done,
    Event,
    Frames,
    Geometry,
    Kept,
    Progress,
    Request,
    Rerouted,
    Settled,
    Started,
    VideoInput,
    never,
)
from wan_core.velocity import BATCHED_TOKENS, KEPT
from wan_core.weights.lora import Lora, Merged, quickened
from wan_core.weights.revision import with_loras

BESIDE = 4  # latent frames' worth of tokens that references and past motion add, at most
ONE_SHOT = {"humo": humo_shot, "phantom": phantom_shot, "vace": vace_shot}


class Pipeline:
    """One loaded model.

    Iterate :meth:`run` for events, or call the pipeline for a finished clip.
    """

    def __init__(self, parts: Parts, lent: bool = False, compiled: Compiled | Artifacts | None = None) -> None:
        self.parts, self._compiled = parts, compiled
        self._plain, self._merged = parts.spec, ExitStack()
        self._residence = Residence(parts, lent)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.parts.device

    @property
    def spec(self) -> ModelSpec:
        """What the model is and how it is sampled."""
        return self.parts.spec

    @property
    def geometry(self) -> Geometry:
        """The model's grid."""
        return self.parts.geometry

    @property
    def label(self) -> str:
        """Which model, device and precision, in a few words."""
        return f"{self.spec.name} · {self.device.type.upper()} · {self._kind.replace('bfloat16', 'bf16')}"

    @property
    def backend(self) -> str:
        """Device, precision and torch's version: what may move pixels at one seed."""
        return f"{self.device.type} {self._kind} torch {torch.__version__.partition('+')[0]}"

    def _backend(self, settled: Settled) -> str:
        """The same, and what leaves steps out: two versions of that make two videos."""
        how = self.spec.recipe.skipping(settled.tier)
        return f"{self.backend}, steps left out by {how}" if how else self.backend

    @property
    def _dtype(self) -> torch.dtype:
        """What the transformer computes in."""
        return self.parts.experts[0].proj_out.weight.dtype

    @property
    def _kind(self) -> str:
        kind = str(self._dtype).removeprefix("torch.")
        kind = f"{kind}, weights {self.parts.storage}" if self.parts.storage else kind
        by = attended_by(self.device, self._dtype)
        kind = f"{kind}, attention by {by}" if by else kind
        return f"{kind}, {self._compiled.told}" if self._compiled is not None and self._compiled.told else kind

    def use(self, loras: Sequence[Lora]) -> None:
        """Work with these LoRAs from now on, in place of those before; () restores the model bit for bit.

        Raises:
            CheckpointError: one of them cannot be used with this model; none is then.
        """
        for lora in loras:
            if (lora.expert or 0) >= len(self.parts.experts):
                raise CheckpointError(f"{lora.path.name}: {self.spec.name} has one expert; leave @low out")
        self._residence.before_change()
        self._merged.close()
        self.parts.spec = self._plain
        with ExitStack() as merged:
            for number, expert in enumerate(self.parts.experts):
                chosen = [(lora.path, lora.strength) for lora in loras if lora.expert in (None, number)]
                if chosen:
                    merged.enter_context(Merged(expert, chosen))
            self._merged = merged.pop_all()
        self.parts.spec = quickened(replace(self._plain, revision=with_loras(self._plain.revision, loras)), loras)
        self._residence.measure()

    def call(self, name: str) -> None:
        """Give the model a name of its own, where two are of one family."""
        self._plain, self.parts.spec = replace(self._plain, name=name), replace(self.spec, name=name)

    def close(self) -> None:
        """Give back all memory; there is nothing that the pipeline can do after that."""
        self._residence.leave("meta")

    def settle(self, request: Request) -> Settled:
        """Check a request and fill in what it leaves open.

        Raises:
            RequestError: a field breaks a rule.
        """
        return self._open(request, whole=False).settled

    def plan(self, request: Request) -> Plan:
        """Settle a request and price it.

        Raises:
            RequestError: a field breaks a rule, or the device has too little memory for it.
        """
        material = self._open(request, whole=False)
        self._residence.measure(at_work=True)
        return replace(self._fitting(material), backend=self._backend(material.settled))

    def _fitting(self, material: Material) -> Plan:
        settled, spoken = material.settled, material.sound is not None
        kinds = self._denoiser.kinds(settled, own_guide(self.parts, material))
        config = self.parts.experts[0].config
        priced = price(settled, self.spec, self.geometry, config, self._stretches(settled), kinds)
        left = self._residence.most
        fits = fitting(priced, lambda some: self._need(some, left).peak, left, self.geometry, self.spec, spoken)
        return replace(fits, placement=self._residence.words(lambda left: self._need(settled, left).peak))

    def _need(self, settled: Settled, left: float) -> Need:
        """Memory beside the weights, of so much that is left by them."""
        config, experts = self.parts.experts[0].config, self.parts.experts
        one, _ = self.geometry.tokens(1, settled.height, settled.width)
        # an S2V model makes whole clips, however short the sound is
        frames = self._longest if self._speaks else min(self._longest, self.geometry.latent_frames(settled.num_frames))
        branches, told = (4, config.get("audio_tokens", 0)) if settled.mode == "reference" else (2, 0)
        if settled.mode == "reference":
            frames += BESIDE
        kept = min(KEPT, math.ceil(self.geometry.latent_frames(settled.num_frames) / self._longest)) * len(experts)
        tokens = max(one * frames, min(BATCHED_TOKENS, branches * one * frames))
        itemsize, carried = experts[0].patch_embedding.weight.itemsize, 0
        if settled.tier == "scheduled":  # what the trunk added last, of every pass of a step
            width = config["num_attention_heads"] * config["attention_head_dim"]
            carried = branches * one * self.geometry.latent_frames(settled.num_frames) * width * itemsize
        vae, size = self.parts.codec.vae.config, (settled.width, settled.height)
        found = need(
            config, vae, size, tokens, kept * branches * (TEXT_TOKENS + told * frames), itemsize, left - carried,
            lean(self.device),
        )  # fmt: skip
        given = 0.0 if settled.mode == "text" else encoding(vae, size)
        return replace(found, denoise=found.denoise + carried, encode=given)

    def _stretches(self, settled: Settled) -> list[int]:
        """The latent frames of all that is denoised at once, clip by clip and stretch by stretch."""
        if self._speaks:
            return [self._longest] * speech_clips(settled)
        spans = self._denoiser.stretches(settled, self.geometry.latent_frames(settled.num_frames))
        return [span.stop - span.start for span in spans]

    @property
    def _denoiser(self) -> Denoiser:
        return Denoiser(self.parts, self._compiled, self._longest)

    @property
    def _longest(self) -> int:
        """Latent frames that are denoised at once, at most."""
        return S2V_CLIP // self.geometry.temporal if self._speaks else self.geometry.latent_frames(self.spec.max_frames)

    def _open(self, request: Request, whole: bool = True) -> Material:
        """Read and check what a request brings along; the end of a video that is gone on from only if ``whole``."""
        given = [("image", request.image), ("last_image", request.last_image)]
        given += [("reference_images", picture) for picture in request.reference_images]
        pictures = [open_picture(source, field) for field, source in given if source is not None]
        sound = None if request.audio is None else open_sound(request.audio)
        seen = None if request.video is None else look(request.video, "video", self.spec.recipe.fps)
        # references stand on white in a frame of any shape; S2V's, and other pictures and videos, give it theirs
        size = pictures[0].size if pictures and (request.mode == "image" or self._speaks) else seen and seen.size
        in_front = 0
        if request.extends is not None:
            before = preceding(request.extends, "extends", self.spec.recipe.fps)
            request, size, in_front = self._as_large(request, before.size), before.size, before.frames or 0
        settled = settle(
            request, self.spec, self.geometry, size, None if sound is None else sound.seconds, seen and seen.frames,
            in_front,
        )  # fmt: skip
        if request.extends is not None and whole:
            (last,) = deque(played(request.extends, "extends", settled.fps), maxlen=1)
            pictures = [Image.fromarray(last), *pictures]
        frame = (settled.width, settled.height)
        how = "pad" if request.mode == "reference" and not self._speaks else settled.image_fit
        if sound is not None:  # as long as the video, to the sample
            sound = sound.part(0, settled.num_frames / settled.fps)
        shown = None
        if request.video is not None:
            shown = footage(
                request.video, request.mask, frame, settled.num_frames, settled.fps, settled.image_fit,
                settled.focal_point,
            )  # fmt: skip
        return Material(settled, [fit(p, frame, how, settled.focal_point) for p in pictures], sound, shown)

    def _as_large(self, request: Request, size: tuple[int, int]) -> Request:
        """A request that goes on from a video: of its size, if the model makes that and nothing else is asked for."""
        grid = math.lcm(self.geometry.grid, self.spec.grid)
        made = not self.spec.fixed_size and all(side % grid == 0 and side <= self.spec.max_side for side in size)
        asked = request.width is not None or request.height is not None
        return replace(request, width=size[0], height=size[1]) if made and not asked else request

    def _earlier(self, source: VideoInput, settled: Settled, cancelled: CancelCheck) -> Iterator[Event]:
        """The frames of the video that is gone on from, fitted like its last one, as they stand in front."""
        size, how, focal = (settled.width, settled.height), settled.image_fit, settled.focal_point
        frames = played(source, "extends", settled.fps)
        while some := [np.asarray(fit(Image.fromarray(f), size, how, focal)) for f in islice(frames, 4)]:
            if cancelled():
                raise Cancelled("stopped before the first decoded group")
            yield Frames(np.stack(some))

    def _prepare(self) -> None:
        """Find out what runs on the device, which is there by now, before anything tells of it."""
        first = self.parts.experts[0]
        try_attention(self.device, self._dtype, first.config["attention_head_dim"])
        if self._compiled is not None:
            self._compiled.ready(self.device, first.slicing)

    @property
    def _speaks(self) -> bool:
        """Whether this is an S2V model, which makes clip after clip."""
        return self.spec.kind == "s2v"

    def run(self, request: Request, cancelled: CancelCheck = never, kept: Kept | None = None) -> Iterator[Event]:
        """Make one video.

        Args:
            request: what to make.
            cancelled: asked between steps and between decoded groups of frames.
            kept: finished latents of an earlier try at the very same request; these clips are only
                decoded.

        Yields:
            ``Started`` first, ``Progress`` and ``Preview`` while denoising, ``Denoised``, ``Rerouted`` if
            the backend is no longer the one in ``Started``, ``Frames`` as they are decoded, and ``Done`` last.

        Raises:
            RequestError: before anything is spent, also if there is too little memory for it.
            Cancelled: when ``cancelled`` says so.
        """
        begin = time.monotonic()
        ready(self.device)  # before anything is computed, or measured by what runs there
        material = self._open(request)
        settled = material.settled
        self._residence.measure()  # one video is made at a time
        self._fitting(material)
        left = self._residence.settle(lambda left: self._need(settled, left).peak)
        for expert in self.parts.experts:
            expert.slicing = self._need(settled, left).slicing
        heard = None if material.sound is None else material.sound.stereo
        self._prepare()
        backend = self._backend(settled)
        yield Started(settled, heard, self.spec.name, self.spec.revision, backend)
        yield Progress("encode", 0, 1)
        shots, recent = self._shots(material), None
        while (shot := _next(shots, recent)) is not None:
            yield Progress("encode", 1, 1, shot.clip, shot.clips)
            if kept is not None and shot.clip in kept:
                latents = torch.from_numpy(kept[shot.clip])
            else:
                latents = yield from self._denoiser.run(settled, shot, cancelled)
                yield Denoised(latents.float().cpu().numpy(), shot.clip)
            if (now := self._backend(settled)) != backend:
                yield Rerouted(backend := now)
            if request.extends is not None:  # its last frame was the first one
                assert shot.clips == 1, "image mode makes one clip"
                yield from self._earlier(request.extends, settled, cancelled)
                shot = replace(shot, skip=1, take=shot.take - 1)
            recent = yield from decode(self.parts.codec, shot, latents, cancelled)
        yield Done(settled, time.monotonic() - begin)

    def latents(self, request: Request) -> Tensor:
        """The final latents of a request's first clip, (1, C, T, h, w) float32, without decoding."""
        ready(self.device)
        material = self._open(request)
        self._residence.measure()
        self._residence.settle(lambda left: self._need(material.settled, left).peak)
        self._prepare()
        shot = next(self._shots(material))
        steps = self._denoiser.run(material.settled, shot, never)
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                return finished.value

    def _shots(self, material: Material) -> Generator[Shot, Tensor | None, None]:
        """The clips to make; each is told the last frames of the one before."""
        parts, settled, kind = self.parts, material.settled, self.spec.kind
        base = self._told(settled)
        frames = self.geometry.latent_frames(settled.num_frames)
        if kind == "s2v":
            yield from speech_shots(parts, base, material)
        elif kind in ONE_SHOT:
            yield ONE_SHOT[kind](parts, base, material, frames)
        else:
            yield Shot(self._shown(base, material), frames, settled.seed, settled.num_frames)

    def _told(self, settled: Settled) -> Conditioning:
        guided = settled.mode == "reference" or max(settled.guidance_scale, settled.guidance_scale_2) > 1
        prompts = [settled.read_as or settled.prompt, *([settled.negative_prompt] if guided else [])]
        rows = [self._embedded(prompt) for prompt in prompts]
        return text_only(rows[0], rows[1] if guided else None)

    def _embedded(self, prompt: str) -> Tensor:
        tokenizer, encoder = self.parts.tokenizer, self.parts.text_encoder
        rows = self.parts.memo.recall(
            lambda: text_model.embed(prompt, tokenizer, encoder), "text", encoder, type(tokenizer).__name__,
            str(len(tokenizer)), text_model.clean(prompt),
        )  # fmt: skip
        return rows.to(self.device)

    def _shown(self, base: Conditioning, material: Material) -> Conditioning:
        parts, frames = self.parts, material.settled.num_frames
        if not material.pictures:
            return base
        first, *last = material.tensors
        config = parts.experts[0].config
        if config["in_channels"] == config["out_channels"]:
            return clean_first_frame(base, first, parts.codec.encode)
        features = None if parts.vision is None else vision.features(material.pictures, *parts.vision)
        return channel_image(base, first, last[0] if last else None, frames, parts.codec.encode, features)

    def __call__(self, **request: Any) -> Clip:
        """Make one video and keep it: ``pipe(prompt=..., num_frames=...).save("x.mp4")``."""
        chunks, done, sound = [], None, None
        for event in self.run(Request(**request)):
            match event:
                case Started():
                    sound = event.sound
                case Frames(pixels):
                    chunks.append(pixels)
                case Done():
                    done = event
        assert done is not None
        return Clip(np.concatenate(chunks), done.settled, sound)


def _next(shots: Generator[Shot, Tensor | None, None], recent: Tensor | None) -> Shot | None:
    """The next shot, told what came before it; None when there is none."""
    try:
        return shots.send(recent)
    except StopIteration:
        return None
