"""Assemble a model from files, run one request, yield events."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wan_core.clip import Clip, to_uint8
from wan_core.condition import (
    Conditioning,
    channel_image,
    clean_first_frame,
    fit,
    open_picture,
    open_sound,
    text_only,
)
from wan_core.errors import Cancelled, CheckpointError
from wan_core.memo import Memo
from wan_core.memory import Need, free, need
from wan_core.model import text as text_model
from wan_core.model import vision
from wan_core.model.adapters import S2VDiT
from wan_core.model.adapters.s2v import MOTION_FRAMES, MOTION_LATENTS
from wan_core.model.codec import Codec
from wan_core.parts import Material, Parts, Shot
from wan_core.plan import TEXT_TOKENS, Plan, fitting, price, settle
from wan_core.sample.guide import ClassifierFree
from wan_core.sample.loop import denoise
from wan_core.sample.schedule import noise, solver
from wan_core.shots import S2V_CLIP, humo_shot, speech_shots
from wan_core.specs import ModelSpec, family
from wan_core.types import (
    CancelCheck,
    Denoised,
    Done,
    Event,
    Frames,
    Geometry,
    Kept,
    Preview,
    Progress,
    Request,
    Settled,
    Started,
    never,
)
from wan_core.velocity import BATCHED_TOKENS, KEPT, Conditioned, Overlapped, Span, spans
from wan_core.weights import keymap
from wan_core.weights import load as files
from wan_core.weights.describe import own_recipe
from wan_core.weights.hub import find
from wan_core.weights.places import Places, find_parts

BESIDE = 3  # latent frames' worth of tokens that references and past motion add, at most
OVERLAP = 5  # latent frames that neighbouring stretches of a long video share, at least
PREVIEW_SECONDS = 0.3  # previews come at most this often


class Pipeline:
    """One loaded model.

    Iterate :meth:`run` for events, or call the pipeline for a finished clip.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._room = free(self.device)  # beside the weights

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.parts.experts[0].patch_embedding.weight.device

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
        kind = str(self.parts.experts[0].proj_out.weight.dtype).removeprefix("torch.").replace("bfloat16", "bf16")
        return f"{self.spec.name} · {self.device.type.upper()} · {kind}"

    @property
    def backend(self) -> str:
        """Device, precision and torch's version: what may move pixels at one seed."""
        kind = str(self.parts.experts[0].proj_out.weight.dtype).removeprefix("torch.")
        return f"{self.device.type} {kind} torch {torch.__version__.partition('+')[0]}"

    def settle(self, request: Request) -> Settled:
        """Check a request and fill in what it leaves open.

        Raises:
            RequestError: a field breaks a rule.
        """
        return self._open(request).settled

    def plan(self, request: Request) -> Plan:
        """Settle a request and price it.

        Raises:
            RequestError: a field breaks a rule, or the device has too little memory for it.
        """
        settled = self.settle(request)
        self._room = max(self._room, free(self.device))  # less of it is free while a video is made
        return self._fitting(settled, request.audio is not None)

    def _fitting(self, settled: Settled, spoken: bool) -> Plan:
        priced = price(settled, self.spec.name, self.geometry, self.parts.experts[0].config, self._longest)
        return fitting(priced, lambda some: self._need(some).peak, self._room, self.geometry, self.spec, spoken)

    def _need(self, settled: Settled) -> Need:
        """Memory beside the weights."""
        config, experts = self.parts.experts[0].config, self.parts.experts
        one, _ = self.geometry.tokens(1, settled.height, settled.width)
        # an S2V model makes whole clips, however short the sound is
        frames = self._longest if self._speaks else min(self._longest, self.geometry.latent_frames(settled.num_frames))
        branches, told = (4, config.get("audio_tokens", 0)) if settled.mode == "reference" else (2, 0)
        if settled.mode == "reference":
            frames += BESIDE
        kept = min(KEPT, math.ceil(self.geometry.latent_frames(settled.num_frames) / self._longest)) * len(experts)
        tokens = max(one * frames, min(BATCHED_TOKENS, branches * one * frames))
        return need(
            config, self.parts.codec.vae.config, (settled.width, settled.height), tokens,
            kept * branches * (TEXT_TOKENS + told * frames), experts[0].patch_embedding.weight.itemsize, self._room,
        )  # fmt: skip

    @property
    def _longest(self) -> int:
        """Latent frames that are denoised at once, at most."""
        return S2V_CLIP // self.geometry.temporal if self._speaks else self.geometry.latent_frames(self.spec.max_frames)

    def _open(self, request: Request) -> Material:
        """Read and check everything that a request brings along."""
        given = [("image", request.image), ("last_image", request.last_image)]
        given += [("references", picture) for picture in request.references]
        pictures = [open_picture(source, field) for field, source in given if source is not None]
        sound = None if request.audio is None else open_sound(request.audio)
        # HuMo's references stand on white in a frame of any shape; others' pictures give it theirs
        size = pictures[0].size if pictures and (request.mode == "image" or self._speaks) else None
        settled = settle(request, self.spec, self.geometry, size, None if sound is None else sound.seconds)
        frame = (settled.width, settled.height)
        how = "pad" if request.mode == "reference" and not self._speaks else settled.image_fit
        if sound is not None:  # as long as the video, to the sample
            sound = sound.part(0, settled.num_frames / settled.fps)
        return Material(settled, [fit(p, frame, how, settled.focal_point) for p in pictures], sound)

    @property
    def _speaks(self) -> bool:
        """Whether this is an S2V model, which makes clip after clip."""
        return isinstance(self.parts.experts[0], S2VDiT)

    def run(self, request: Request, cancelled: CancelCheck = never, kept: Kept | None = None) -> Iterator[Event]:
        """Make one video.

        Args:
            request: what to make.
            cancelled: asked between steps and between decoded groups of frames.
            kept: finished latents of an earlier try at the very same request; these clips are only
                decoded.

        Yields:
            ``Started`` first, ``Progress`` and ``Preview`` while denoising, ``Denoised``, ``Frames``
            as they are decoded, and ``Done`` last.

        Raises:
            RequestError: before anything is spent, also if there is too little memory for it.
            Cancelled: when ``cancelled`` says so.
        """
        begin = time.monotonic()
        material = self._open(request)
        settled = material.settled
        self._room = free(self.device)  # one video is made at a time
        self._fitting(settled, material.sound is not None)
        for expert in self.parts.experts:
            expert.slicing = self._need(settled).slicing
        heard = None if material.sound is None else material.sound.stereo
        yield Started(settled, heard, self.spec.name, self.spec.revision, self.backend)
        yield Progress("encode", 0, 1)
        shots, recent = self._shots(material), None
        while (shot := _next(shots, recent)) is not None:
            yield Progress("encode", 1, 1, shot.clip, shot.clips)
            if kept is not None and shot.clip in kept:
                latents = torch.from_numpy(kept[shot.clip])
            else:
                latents = yield from self._denoise(settled, shot, cancelled)
                yield Denoised(latents.float().cpu().numpy(), shot.clip)
            recent = yield from self._decode(shot, latents, cancelled)
        yield Done(settled, time.monotonic() - begin)

    def latents(self, request: Request) -> Tensor:
        """The final latents of a request's first clip, (1, C, T, h, w) float32, without decoding."""
        material = self._open(request)
        shot = next(self._shots(material))
        steps = self._denoise(material.settled, shot, never)
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                return finished.value

    def _shots(self, material: Material) -> Generator[Shot, Tensor | None, None]:
        """The clips to make; each is told the last frames of the one before."""
        parts, settled = self.parts, material.settled
        base = self._told(settled)
        if self._speaks:
            yield from speech_shots(parts, base, material)
            return
        frames = self.geometry.latent_frames(settled.num_frames)
        if settled.mode == "reference":
            yield humo_shot(parts, base, material, frames)
            return
        yield Shot(self._shown(base, material), frames, settled.seed, settled.num_frames)

    def _told(self, settled: Settled) -> Conditioning:
        guided = settled.mode == "reference" or max(settled.guidance_scale, settled.guidance_scale_2) > 1
        prompts = [settled.prompt, settled.negative_prompt] if guided else [settled.prompt]
        rows = [self._embedded(prompt) for prompt in prompts]
        return text_only(rows[0], rows[1] if guided else None)

    def _embedded(self, prompt: str) -> Tensor:
        tokenizer, encoder = self.parts.tokenizer, self.parts.text_encoder
        rows = self.parts.memo.recall(
            lambda: text_model.embed(prompt, tokenizer, encoder), "text", encoder, type(tokenizer).__name__,
            str(len(tokenizer)), text_model.clean(prompt),
        )  # fmt: skip
        return rows.to(next(encoder.parameters()).device)

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

    def _denoise(self, settled: Settled, shot: Shot, cancelled: CancelCheck) -> Generator[Event, None, Tensor]:
        channels, _, *size = self.geometry.latents(1, settled.height, settled.width)
        told, experts = shot.conditioning, self.parts.experts
        stretches = (
            spans(shot.frames, self._longest, OVERLAP) if settled.mode == "reference" else [Span(0, shot.frames)]
        )
        velocity = Conditioned(experts, told) if len(stretches) == 1 else Overlapped(experts, told, stretches)
        device = self.device
        state = noise((1, channels, shot.frames + told.behind, *size), shot.seed).to(device)
        steps = denoise(
            velocity,
            state,
            solver(settled.sampler, settled.num_inference_steps, settled.flow_shift, device),
            shot.guide or ClassifierFree((settled.guidance_scale, settled.guidance_scale_2)),
            self.spec.boundary,
            cancelled,
        )
        shown = time.monotonic()
        for done in steps:
            state = told.keep_first(done.latents)
            yield Progress("denoise", done.step, done.of, shot.clip, shot.clips)
            if done.step < done.of and time.monotonic() - shown > PREVIEW_SECONDS:
                shown = time.monotonic()
                yield Preview(self.parts.codec.preview(state[:, :, : shot.frames]).numpy(), done.step)
        return state[:, :, : shot.frames]

    def _decode(self, shot: Shot, latents: Tensor, cancelled: CancelCheck) -> Generator[Event, None, Tensor | None]:
        """Yield the shot's frames; return the last ones, (1, 3, n, H, W), for the next shot."""
        if shot.before is not None:
            latents = torch.cat([shot.before.to(latents), latents], dim=2)
        total, skip, left, recent = latents.shape[2], shot.skip, shot.take, []
        for i, pixels in enumerate(self.parts.codec.stream(latents)):
            if cancelled():
                raise Cancelled(f"stopped after {i} of {total} decoded groups")
            fresh = pixels[:, :, skip:] if skip < pixels.shape[2] else pixels[:, :, :0]
            skip = max(0, skip - pixels.shape[2])
            if shot.clip + 1 < shot.clips:
                recent = [*recent, pixels][-MOTION_LATENTS - 1 :]
            if fresh.shape[2] and left:
                fresh = fresh[:, :, :left]
                left -= fresh.shape[2]
                yield Frames(to_uint8(fresh[0]))
            yield Progress("decode", i + 1, total, shot.clip, shot.clips)
        return torch.cat(recent, dim=2)[:, :, -MOTION_FRAMES:] if recent else None

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


# --- assembly -----------------------------------------------------------------------------------


def load(
    model: str | Path, device: str | None = None, dtype: torch.dtype | None = None, cache: Path | None = None
) -> Pipeline:
    """Load a model in diffusers' folder layout or the official one.

    Args:
        model: a folder, or a repository id to download.
        device: where to run; a CUDA device if there is one, else the CPU.
        dtype: of the transformer; bfloat16 by default. float32 is the reference tier: the whole
            pipeline then computes in float32.
        cache: a folder that keeps embedded prompts and heard voices; None keeps nothing.

    Returns:
        The pipeline.

    Raises:
        CheckpointError: files are missing, damaged, or not a Wan model.
    """
    from transformers import AutoTokenizer

    places = find_parts(find(model))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or torch.bfloat16
    experts = [files.transformer(path, dtype) for path in places.experts]
    config = dict(experts[0].config)
    kind = keymap.kind_of(set(experts[0].state_dict()))
    spec = family(config, places.index, config["num_layers"], kind)
    parts = Parts(
        spec=own_recipe(spec, places.root),
        experts=[_move(expert, device) for expert in experts],
        codec=Codec(_move(files.vae(places.vae), device), dtype, channels_last=dtype == torch.bfloat16),
        tokenizer=files.component(places.tokenizer, AutoTokenizer, None),
        text_encoder=_move(files.text_encoder(places.text_encoder, dtype), device),
        vision=_vision(places, dtype, device),
        hearing=_hearing(places, kind, dtype, device),
        memo=Memo(cache),
    )
    return Pipeline(parts)


def _move(module: Any, device: str) -> Any:
    return module.to(device)


def _vision(places: Places, dtype: torch.dtype, device: str) -> tuple[Any, torch.nn.Module] | None:
    if places.vision is None:
        return None
    processor, encoder = files.vision(places.vision, dtype)
    return processor, _move(encoder, device)


def _hearing(places: Places, kind: str, dtype: torch.dtype, device: str) -> tuple[Any, torch.nn.Module] | None:
    """The speech encoder of a model that listens."""
    if kind == "wan":
        return None
    from transformers import AutoFeatureExtractor, Wav2Vec2Model, WhisperModel

    if places.hearing is None:
        raise CheckpointError(f"{places.root.name}: this model listens, and its speech encoder is missing")
    processor = files.component(places.hearing[0], AutoFeatureExtractor, None)
    if kind == "s2v":
        return processor, _move(files.component(places.hearing[1], Wav2Vec2Model, dtype), device)
    return processor, _move(files.component(places.hearing[1], WhisperModel, dtype).encoder, device)
