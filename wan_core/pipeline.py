"""Assemble a model from files, run one request, yield events."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from wan_core.condition import Conditioning, channel_image, clean_first_frame, fit, open_picture, text_only
from wan_core.condition.picture import to_tensor
from wan_core.errors import Cancelled, CheckpointError
from wan_core.model import text as text_model
from wan_core.model import vision
from wan_core.model.codec import Codec
from wan_core.model.dit import Context, WanDiT
from wan_core.plan import settle
from wan_core.sample.guide import ClassifierFree
from wan_core.sample.loop import denoise
from wan_core.sample.schedule import noise, solver
from wan_core.specs import ModelSpec, Recipe, family
from wan_core.types import (
    Branch,
    CancelCheck,
    Done,
    Event,
    Frames,
    Geometry,
    Preview,
    Progress,
    Request,
    Settled,
    Started,
    never,
)
from wan_core.weights import load as files
from wan_core.weights.hub import find

PREVIEW_SECONDS = 0.3  # previews come at most this often
BATCHED_TOKENS = 1024  # up to this many, guidance branches go through the transformer together


@dataclass
class Parts:
    """A model's components, as loaded.

    Attributes:
        spec: what it is and how to sample it.
        experts: the transformer, or the high-noise and the low-noise one.
        codec: the VAE.
        tokenizer: a transformers tokenizer.
        text_encoder: a ``UMT5EncoderModel``.
        vision: CLIP's processor and encoder, for models with an image branch.
    """

    spec: ModelSpec
    experts: list[WanDiT]
    codec: Codec
    tokenizer: Any
    text_encoder: torch.nn.Module
    vision: tuple[Any, torch.nn.Module] | None = None

    @property
    def geometry(self) -> Geometry:
        """The model's grid."""
        config = self.experts[0].config
        return Geometry(self.codec.spatial, self.codec.temporal, tuple(config["patch_size"]), config["out_channels"])


@dataclass
class _Velocity:
    """The experts with one request's conditioning; what the steps share is computed once."""

    parts: Parts
    conditioning: Conditioning
    tokens: tuple[int, int]
    contexts: dict[tuple[int, tuple[Branch, ...]], Context] = field(default_factory=dict)

    def __call__(self, latents: Tensor, timestep: Tensor, expert: int, branches: Sequence[Branch]) -> list[Tensor]:
        # a forward pass over few tokens is bound by its calls, over many by its arithmetic
        together = len(branches) * self.tokens[1] <= BATCHED_TOKENS
        groups = [tuple(branches)] if together else [(b,) for b in branches]
        return [v for group in groups for v in self._run(latents, timestep, expert, group).split(1)]

    def _run(self, latents: Tensor, timestep: Tensor, expert: int, group: tuple[Branch, ...]) -> Tensor:
        dit = self.parts.experts[expert]
        weight = dit.patch_embedding.weight
        if (expert, group) not in self.contexts:
            self.contexts[expert, group] = self._context(dit, group, weight)
        context = self.contexts[expert, group]
        x = torch.cat([self.conditioning.model_input(latents, branch) for branch in group])
        steps, lengths = self.conditioning.timesteps(timestep, self.tokens)
        steps = steps.expand(len(group), -1).to(weight.device)
        embedded = dit.embed(x.to(weight.device, weight.dtype), steps, lengths, context=context)
        return dit.head(dit.trunk(embedded, context), embedded)

    def _context(self, dit: WanDiT, group: tuple[Branch, ...], weight: Tensor) -> Context:
        rows, bias = text_model.pad([self.conditioning.rows(branch).to(weight) for branch in group])
        told = [self.conditioning.context(branch) for branch in group]
        return dit.context(rows, bias=bias, **{k: torch.cat([t[k] for t in told]).to(weight) for k in told[0]})


class Pipeline:
    """One loaded model.

    Iterate :meth:`run` for events, or call the pipeline for a finished clip.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @property
    def spec(self) -> ModelSpec:
        """What the model is and how it is sampled."""
        return self.parts.spec

    @property
    def geometry(self) -> Geometry:
        """The model's grid."""
        return self.parts.geometry

    def settle(self, request: Request) -> Settled:
        """Check a request and fill in what it leaves open.

        Raises:
            RequestError: a field breaks a rule.
        """
        return self._settle(request)[0]

    def _settle(self, request: Request) -> tuple[Settled, list[Any]]:
        pictures = [
            open_picture(source, name)
            for name, source in (("image", request.image), ("last_image", request.last_image))
            if source is not None
        ]
        size = pictures[0].size if pictures else None
        settled = settle(request, self.spec, self.geometry, size)
        frame = (settled.width, settled.height)
        return settled, [fit(p, frame, settled.image_fit, settled.focal_point) for p in pictures]

    def run(self, request: Request, cancelled: CancelCheck = never) -> Iterator[Event]:
        """Make one video.

        Args:
            request: what to make.
            cancelled: asked between steps and between decoded groups of frames.

        Yields:
            ``Started`` first, ``Progress`` and ``Preview`` while denoising, ``Frames`` as they are
            decoded, and ``Done`` last.

        Raises:
            RequestError: before anything is spent.
            Cancelled: when ``cancelled`` says so.
        """
        begin = time.monotonic()
        settled, pictures = self._settle(request)
        yield Started(settled)
        yield Progress("encode", 0, 1)
        conditioning = self._condition(settled, pictures)
        yield Progress("encode", 1, 1)
        latents = yield from self._denoise(settled, conditioning, cancelled)
        yield from self._decode(latents, cancelled)
        yield Done(settled, time.monotonic() - begin)

    def latents(self, request: Request) -> Tensor:
        """The final latents of a request, (1, C, T, h, w) float32, without decoding."""
        settled, pictures = self._settle(request)
        steps = self._denoise(settled, self._condition(settled, pictures), never)
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                return finished.value

    def _condition(self, settled: Settled, pictures: list[Any]) -> Conditioning:
        parts = self.parts
        guided = max(settled.guidance_scale, settled.guidance_scale_2) > 1
        prompts = [settled.prompt, settled.negative_prompt] if guided else [settled.prompt]
        rows = [text_model.embed(p, parts.tokenizer, parts.text_encoder) for p in prompts]
        base = text_only(rows[0], rows[1] if guided else None)
        if not pictures:
            return base
        first, *last = (to_tensor(p) for p in pictures)
        config = parts.experts[0].config
        if config["in_channels"] == config["out_channels"]:
            return clean_first_frame(base, first, parts.codec.encode)
        features = None if parts.vision is None else vision.features(pictures, *parts.vision)
        return channel_image(base, first, last[0] if last else None, settled.num_frames, parts.codec.encode, features)

    def _denoise(
        self, settled: Settled, conditioning: Conditioning, cancelled: CancelCheck
    ) -> Generator[Event, None, Tensor]:
        size = settled.num_frames, settled.height, settled.width
        velocity = _Velocity(self.parts, conditioning, self.geometry.tokens(*size))
        device = self.parts.experts[0].patch_embedding.weight.device
        state = noise((1, *self.geometry.latents(*size)), settled.seed).to(device)
        steps = denoise(
            velocity,
            state,
            solver(settled.sampler, settled.num_inference_steps, settled.flow_shift, device),
            ClassifierFree((settled.guidance_scale, settled.guidance_scale_2)),
            self.spec.boundary,
            cancelled,
        )
        shown = time.monotonic()
        for done in steps:
            state = conditioning.keep_first(done.latents)
            yield Progress("denoise", done.step, done.of)
            if done.step < done.of and time.monotonic() - shown > PREVIEW_SECONDS:
                shown = time.monotonic()
                yield Preview(self.parts.codec.preview(state).numpy(), done.step)
        return state

    def _decode(self, latents: Tensor, cancelled: CancelCheck) -> Iterator[Event]:
        total = latents.shape[2]
        for i, pixels in enumerate(self.parts.codec.stream(latents)):
            if cancelled():
                raise Cancelled(f"stopped after {i} of {total} decoded groups")
            yield Frames(to_uint8(pixels[0]))
            yield Progress("decode", i + 1, total)

    def __call__(self, **request: Any) -> Clip:
        """Make one video and keep it: ``pipe(prompt=..., num_frames=...).save("x.mp4")``."""
        chunks, done = [], None
        for event in self.run(Request(**request)):
            if isinstance(event, Frames):
                chunks.append(event.pixels)
            elif isinstance(event, Done):
                done = event
        assert done is not None
        return Clip(np.concatenate(chunks), done.settled)


@dataclass(frozen=True)
class Clip:
    """A finished video in memory.

    Attributes:
        frames: (F, H, W, 3) uint8.
        settled: how it was made.
    """

    frames: np.ndarray
    settled: Settled

    def save(self, path: str | Path) -> Path:
        """Write an H.264 mp4; a failed write leaves nothing behind.

        Raises:
            OutputError: it cannot be written.
        """
        from wan_core.studio.media import VideoWriter

        height, width = self.frames.shape[1:3]
        with VideoWriter(Path(path), width, height, self.settled.fps) as writer:
            writer.write(self.frames)
        return Path(path)


def to_uint8(pixels: Tensor) -> np.ndarray:
    """(3, n, H, W) in [-1, 1] to (n, H, W, 3) uint8."""
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()


# --- assembly -----------------------------------------------------------------------------------


def describe(model: str | Path) -> ModelSpec:
    """Say what a model is and how it is sampled, from its JSON files alone.

    Args:
        model: a folder in diffusers' layout, or a repository id to download.

    Returns:
        The spec that :func:`load` would give the pipeline.

    Raises:
        CheckpointError: there is no such model, or its JSON files do not describe a Wan model.
    """
    root = find(model)
    boundary = files.read_json(root / "model_index.json").get("boundary_ratio")
    config = files.read_json(root / "transformer" / "config.json")
    try:
        spec = family(config, boundary, config["num_layers"])
    except KeyError as error:
        raise CheckpointError(f"transformer/config.json: {error} is missing; this is not a Wan transformer") from error
    return _own_recipe(spec, files.read_json(root / "recipe.json", required=False))


def pick_device(device: str | None = None) -> str:
    """The device asked for; else a CUDA device if there is one, else the CPU."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def label(spec: ModelSpec, device: str, dtype: torch.dtype) -> str:
    """Which model, device and precision, in a few words."""
    kind = str(dtype).removeprefix("torch.").replace("bfloat16", "bf16")
    return f"{spec.name} · {torch.device(device).type.upper()} · {kind}"


def load(model: str | Path, device: str | None = None, dtype: torch.dtype | None = None) -> Pipeline:
    """Load a model in diffusers' folder layout.

    Args:
        model: a folder, or a repository id to download.
        device: where to run; a CUDA device if there is one, else the CPU.
        dtype: of the transformer; bfloat16 by default. float32 is the reference tier: the whole
            pipeline then computes in float32.

    Returns:
        The pipeline.

    Raises:
        CheckpointError: files are missing, damaged, or not a Wan model.
    """
    from transformers import AutoTokenizer, UMT5EncoderModel

    root = find(model)
    device = pick_device(device)
    dtype = dtype or torch.bfloat16
    index = files.read_json(root / "model_index.json")
    experts = [files.transformer(root / "transformer", dtype)]
    boundary = index.get("boundary_ratio")
    if boundary is not None:
        experts.append(files.transformer(root / "transformer_2", dtype))
    vae = files.component(root / "vae", AutoencoderKLWan, torch.float32)
    config = dict(experts[0].config)
    spec = family(config, boundary, config["num_layers"])
    parts = Parts(
        spec=_own_recipe(spec, files.read_json(root / "recipe.json", required=False)),
        experts=[_move(expert, device) for expert in experts],
        codec=Codec(_move(vae, device), dtype, channels_last=dtype == torch.bfloat16),
        tokenizer=files.component(root / "tokenizer", AutoTokenizer, None),
        text_encoder=files.component(root / "text_encoder", UMT5EncoderModel, dtype).to(device),
        vision=_vision(root, dtype, device),
    )
    return Pipeline(parts)


def _move(module: Any, device: str) -> Any:
    return module.to(device)


def _vision(root: Path, dtype: torch.dtype, device: str) -> tuple[Any, torch.nn.Module] | None:
    if not (root / "image_encoder").is_dir():
        return None
    from transformers import CLIPImageProcessor, CLIPVisionModel

    encoder = files.component(root / "image_encoder", CLIPVisionModel, dtype)
    return files.component(root / "image_processor", CLIPImageProcessor, None), encoder.to(device)


def _own_recipe(spec: ModelSpec, own: dict) -> ModelSpec:
    """A checkpoint's ``recipe.json`` over its family's recipe."""
    if not own:
        return spec
    try:
        changes = {k: tuple(v) if isinstance(v, list) else v for k, v in own.get("recipe", {}).items()}
        spec = replace(spec, recipe=replace(Recipe(**_asdict(spec.recipe)), **changes))
        rest = {k: v for k, v in own.items() if k != "recipe"}
        if "modes" in rest:
            rest["modes"] = frozenset(rest["modes"])
        return replace(spec, **rest)
    except TypeError as error:
        raise CheckpointError("recipe.json: it names something that a recipe does not have") from error


def _asdict(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in recipe.__dataclass_fields__}
