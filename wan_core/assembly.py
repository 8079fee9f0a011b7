"""Files to a pipeline: find a model's parts, load them, put them where they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from wan_core.errors import CheckpointError
from wan_core.memo import Memo
from wan_core.model.codec import Codec
from wan_core.model.dit import WanDiT
from wan_core.parts import Parts
from wan_core.pipeline import Pipeline
from wan_core.weights import keymap
from wan_core.weights import load as files
from wan_core.weights.describe import named, own_recipe
from wan_core.weights.hub import Watch, find, split
from wan_core.weights.lora import listed
from wan_core.weights.places import Places, find_parts

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def load(
    model: str | Path,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    cache: Path | None = None,
    loras: str = "",
    watch: Watch | None = None,
    lent: bool = False,
) -> Pipeline:
    """Load a model: diffusers' folders, official ones, or single files of any kind.

    Args:
        model: a folder, a repository id to download, or a transformer's file; two experts' files are
            "HIGH.safetensors+LOW.safetensors". Where tensors cannot tell the family, it goes in front:
            "phantom-1.3b=DIR".
        device: where to run; a CUDA device if there is one, else the CPU.
        dtype: of the transformer; bfloat16 by default. float32 is the reference tier: the whole
            pipeline then computes in float32. An fp8 type is what its large weights are kept in,
            half as much memory; it then computes in bfloat16.
        cache: a folder that keeps embedded prompts and heard voices; None keeps nothing.
        loras: see :func:`wan_core.weights.lora.listed`.
        watch: is told how a download is coming on.
        lent: the device comes with each visitor's request, as on ZeroGPU.

    Returns:
        The pipeline.

    Raises:
        CheckpointError: files are missing, damaged, or not a Wan model or a LoRA for it.
    """
    from transformers import AutoTokenizer

    family, where = split(model)
    root = find(where, watch=watch)
    places = find_parts(root)
    kept = dtype or torch.bfloat16
    dtype = torch.bfloat16 if kept in FP8 else kept
    experts = _experts(places, kept, dtype)
    config = dict(experts[0].config)
    kind = keymap.kind_of(set(experts[0].state_dict()))
    if config.get("image_dim") and places.vision is None:
        raise CheckpointError(f"{root.name}: this model sees pictures through CLIP, and its CLIP encoder is missing")
    spec = named(config, places.index, kind, family)
    parts = Parts(
        spec=own_recipe(spec, root),
        experts=experts,
        codec=Codec(files.vae(places.vae), dtype, channels_last=dtype == torch.bfloat16),
        tokenizer=files.component(places.tokenizer, AutoTokenizer, None),
        text_encoder=files.text_encoder(places.text_encoder, dtype),
        vision=_vision(places, dtype),
        hearing=_hearing(places, kind, dtype),
        memo=Memo(cache),
        device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        storage="" if kept == dtype else str(kept).removeprefix("torch."),
    )
    pipe = Pipeline(parts, lent)
    pipe.use(listed(loras))
    return pipe


def _experts(places: Places, kept: torch.dtype, dtype: torch.dtype) -> list[WanDiT]:
    """The transformers, computing in one type and perhaps kept in a smaller one."""
    experts = [files.transformer(path, dtype) for path in places.experts]
    for expert in experts if kept != dtype else ():
        expert.enable_layerwise_casting(storage_dtype=kept, compute_dtype=dtype)
    return experts


def _vision(places: Places, dtype: torch.dtype) -> tuple[Any, torch.nn.Module] | None:
    if places.vision is None:
        return None
    return files.vision(places.vision, dtype)


def _hearing(places: Places, kind: str, dtype: torch.dtype) -> tuple[Any, torch.nn.Module] | None:
    """The speech encoder of a model that listens."""
    if kind not in ("humo", "s2v"):
        return None
    from transformers import AutoFeatureExtractor, Wav2Vec2Model, WhisperModel

    if places.hearing is None:
        raise CheckpointError(f"{places.root.name}: this model listens, and its speech encoder is missing")
    processor = files.component(places.hearing[0], AutoFeatureExtractor, None)
    if kind == "s2v":
        return processor, files.component(places.hearing[1], Wav2Vec2Model, dtype)
    return processor, files.component(places.hearing[1], WhisperModel, dtype).encoder
