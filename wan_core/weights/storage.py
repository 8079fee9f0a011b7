"""Files to tensors: safetensors, pickles and GGUF, whatever numbers they store a weight in.

What was quantised is made whole again while it is read, tensor by tensor: fp8 with one scale or one
per row, as ComfyUI and LightX2V write it, and GGUF's block formats through the ``gguf`` package.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wan_core.errors import CheckpointError

KINDS = (".safetensors", ".pth", ".gguf")
#: What the libraries raise on files that are cut short or full of something else.
DAMAGE = (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, IndexError)
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_SCALES = (".scale_weight", ".weight_scale")
#: What stands beside quantised weights and is none: scales, marks, and a tokenizer as bytes.
_BESIDE = (*_SCALES, ".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8", "spiece_model")
_ARCHITECTURES = ("wan", "t5encoder")  # as GGUF files name them
_PLAIN_FORMATS = ("float8_e4m3fn", "float8_e5m2")


def read(path: Path, cast: Callable[[str, Tensor], Tensor] = lambda _, tensor: tensor) -> dict[str, Tensor]:
    """Read a file, or a folder's shards one after another, casting as it goes.

    Args:
        path: a ``.safetensors``, ``.pth`` or ``.gguf`` file, or a folder of the first.
        cast: what to make of a tensor by its name, so that nothing stands twice in float32.

    Raises:
        CheckpointError: there is none, one is damaged, or it stores numbers in a way that is not known.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{path.name}: no .safetensors file in this folder")
    tensors: dict[str, Tensor] = {}
    for file in files:
        stored = {".pth": _pickled, ".gguf": _blocks}.get(file.suffix, _stored)
        try:
            for key, tensor in stored(file):
                tensors[key] = cast(key, tensor)
        except DAMAGE as error:
            raise CheckpointError(f"{file.name}: this file is damaged or cut short; download it again") from error
    return tensors


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's tensors, or of a folder's, from headers alone where there are any.

    Raises:
        CheckpointError: as for :func:`read`.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            if file.suffix == ".gguf":
                found |= {name: shape for name, shape, _ in _entries(file)}
                continue
            if file.suffix == ".pth":  # mapped, not read
                found |= {name: tuple(tensor.shape) for name, tensor in _pickled(file)}
                continue
            with safe_open(file, framework="pt") as shard:
                kept = [k for k in shard.keys() if not k.endswith(_BESIDE)]  # noqa: SIM118 - no dict
                found |= {k: tuple(shard.get_slice(k).get_shape()) for k in kept}
        except DAMAGE as error:
            raise CheckpointError(f"{file.name}: this file is damaged or cut short; download it again") from error
    return found


def _stored(file: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(file, framework="pt") as shard:
        keys = set(shard.keys())
        _check_formats(file, shard, keys)
        for key in shard.keys():  # noqa: SIM118 - a safe_open is not a dict
            if not key.endswith(_BESIDE):
                yield key, _whole(shard, key, keys)


def _whole(shard: Any, key: str, keys: set[str]) -> Tensor:
    """A tensor as numbers of its own, its scale applied."""
    tensor = shard.get_tensor(key)
    layer = key.removesuffix(".weight")
    scale = next((layer + ending for ending in _SCALES if layer + ending in keys), None) if layer != key else None
    if tensor.dtype in _FP8:
        tensor = tensor.float()
    if scale is None:
        return tensor
    factor = shard.get_tensor(scale).float()
    return tensor * (factor if factor.numel() == 1 else factor.reshape(-1, *[1] * (tensor.ndim - 1)))


def _check_formats(file: Path, shard: Any, keys: set[str]) -> None:
    """Refuse the formats that a scale alone does not undo."""
    marks = [json.loads(bytes(shard.get_tensor(key).tolist())) for key in keys if key.endswith(".comfy_quant")]
    whole = json.loads((shard.metadata() or {}).get("_quantization_metadata", "{}"))
    marks += list(whole.get("layers", {}).values())
    for mark in marks:
        kind = mark.get("format") if isinstance(mark, dict) else None
        if kind not in _PLAIN_FORMATS:
            raise CheckpointError(f"{file.name}: weights in {kind} are not read here; use fp8, GGUF or bf16")
    if any(key.endswith(".weight") and shard.get_slice(key).get_dtype() in ("I8", "U8") for key in keys):
        raise CheckpointError(f"{file.name}: weights in int8 are not read here; use fp8, GGUF or bf16")


def _pickled(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a ``.pth``; only weights are unpickled, never code."""
    data = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    if not isinstance(data, dict) or not all(isinstance(v, Tensor) for v in data.values()):
        raise CheckpointError(f"{file.name}: this file does not hold a model's tensors")
    yield from data.items()


def _blocks(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a GGUF file."""
    for name, shape, tensor in _entries(file):
        from gguf import dequantize

        whole = np.require(dequantize(tensor.data, tensor.tensor_type), requirements="W")  # not the file's own pages
        yield name, torch.from_numpy(whole).reshape(shape)


def _entries(file: Path) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Names, shapes and what is stored of a GGUF file's tensors."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise CheckpointError(f"{file.name}: GGUF files need the gguf package: pip install gguf") from error
    reader = GGUFReader(file)
    kind = reader.get_field("general.architecture")
    if kind is not None and kind.contents() not in _ARCHITECTURES:
        raise CheckpointError(f"{file.name}: this is a model of the kind {kind.contents()}, not one of Wan's")
    for tensor in reader.tensors:
        # five axes are more than the format once had; converters then note the shape beside the tensor
        shape = reader.get_field(f"comfy.gguf.orig_shape.{tensor.name}")
        axes = reversed(tensor.shape.tolist()) if shape is None else shape.contents()
        yield tensor.name, tuple(int(n) for n in axes), tensor
