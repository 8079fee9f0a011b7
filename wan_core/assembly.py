"""Files to a pipeline: find a model's parts, load them, put them where they run."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch

from wan_core.artifact import Artifacts
from wan_core.compile import Compiled
from wan_core.errors import CheckpointError
from wan_core.memo import Memo
from wan_core.model.codec import Codec
from wan_core.model.dit import WanDiT
from wan_core.ops import attend_by
from wan_core.parts import Parts
from wan_core.pipeline import Pipeline
from wan_core.precision import Precision, choose
from wan_core.weights import keymap
from wan_core.weights import load as files
from wan_core.weights.describe import named, own_recipe
from wan_core.weights.hub import Watch, find, split
from wan_core.weights.lora import listed
from wan_core.weights.places import Places, find_parts
from wan_core.weights.storage import shapes

log = logging.getLogger(__name__)


def load(
    model: str | Path,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    cache: Path | None = None,
    loras: str = "",
    watch: Watch | None = None,
    lent: bool = False,
    compiled: bool | Path = False,
) -> Pipeline:
    """Load a model: diffusers' folders, official ones, or single files of any kind.

    Args:
        model: a folder, a repository id to download, or a transformer's file; two experts' files are
            "HIGH.safetensors+LOW.safetensors". Where tensors cannot tell the family, it goes in front:
            "phantom-1.3b=DIR".
        device: where to run; a CUDA device if there is one, else the CPU.
        dtype: by default what the device has units for: bfloat16, or float32 on a CPU without them. float32 is
            the reference tier: the whole pipeline then computes in it. An fp8 type is what the large
            weights are kept in, half as much memory.
        cache: a folder that keeps embedded prompts and heard voices; None keeps nothing.
        loras: see :func:`wan_core.weights.lora.listed`.
        watch: is told how a download is coming on.
        lent: the device comes with each visitor's request, as on ZeroGPU.
        compiled: compile the transformer's blocks, at the first video of every size, or take the artifacts of a
            folder (see :mod:`wan_core.artifact`); not where weights are cast as they are used.

    Returns:
        The pipeline.

    Raises:
        CheckpointError: files are missing, damaged, or not a Wan model or a LoRA for it.
    """
    from transformers import AutoTokenizer

    family, name = split(model)
    root = find(name, watch=watch)
    places = find_parts(root)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    types = choose(where, _size(places), dtype)
    experts = _experts(places, types)
    config = dict(experts[0].config)
    kind = keymap.kind_of(set(experts[0].state_dict()))
    if config.get("image_dim") and places.vision is None:
        raise CheckpointError(f"{root.name}: this model sees pictures through CLIP, and its CLIP encoder is missing")
    spec = named(config, places.index, kind, family)
    parts = Parts(
        spec=own_recipe(spec, root),
        experts=experts,
        codec=Codec(files.vae(places.vae), types.compute),
        tokenizer=files.component(places.tokenizer, AutoTokenizer, None),
        text_encoder=files.text_encoder(places.text_encoder, types.text),
        vision=_vision(places, types.compute),
        hearing=_hearing(places, kind, types.compute),
        memo=Memo(cache),
        device=where,
        storage=types.told,
    )
    pipe = Pipeline(parts, lent, _compiled(experts, types, compiled) if compiled else None)
    pipe.use(listed(loras))
    return pipe


def attend(name: str) -> None:
    """Take attention by another maker's library on CUDA devices, for all models; "" is torch's own choice.

    Raises:
        CheckpointError: there is no such library, or it is not installed.
    """
    try:
        attend_by(name or None)
    except ValueError as error:
        raise CheckpointError(f"attention by {error}; leave it out for torch's own") from error


def _size(places: Places) -> int:
    """Parameters of a transformer, by its files' headers."""
    return sum(math.prod(shape) for shape in shapes(places.experts[0]).values())


def _compiled(experts: list[WanDiT], types: Precision, how: bool | Path) -> Compiled | Artifacts | None:
    """Compiled blocks; None, and a line in the log, where they cannot be."""
    if types.told:
        log.warning("weights kept as %s are cast as they are used, and not compiled", types.told)
        return None
    return Artifacts(experts, how) if isinstance(how, Path) else Compiled(experts)


def _experts(places: Places, types: Precision) -> list[WanDiT]:
    """The transformers, computing in one type and perhaps kept in a smaller one."""
    read_as = torch.bfloat16 if types.told else types.compute
    experts = [files.transformer(path, read_as) for path in places.experts]
    for expert in experts if types.told else ():
        expert.enable_layerwise_casting(storage_dtype=types.storage, compute_dtype=types.compute)
        for module in expert.modules():
            if not hasattr(module, "_diffusers_hook"):  # not cast when it computes, so it is wide to begin with
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, types.compute))
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
