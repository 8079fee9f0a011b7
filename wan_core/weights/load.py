"""Transformer files to a checked WanDiT: diffusers folders, original folders, single files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wan_core.errors import CheckpointError
from wan_core.model.adapters import HumoDiT, S2VDiT
from wan_core.model.dit import WanDiT
from wan_core.weights import keymap
from wan_core.weights.describe import read_json

CLASSES = {"wan": WanDiT, "humo": HumoDiT, "s2v": S2VDiT}
#: Parameters that stay float32 in a half-precision model, as diffusers keeps them.
KEPT_FP32 = (
    "time_embedder",
    "scale_shift_table",
    "norm1",
    "norm2",
    "norm3",
    "audio_norm",
    "audio_proj_glob_norm",
    "casual_audio_encoder",
)


def transformer(path: Path, dtype: torch.dtype) -> WanDiT:
    """Load a transformer from a folder or a single safetensors file.

    Args:
        path: a folder with ``config.json`` and ``*.safetensors`` in diffusers' or the original
            layout, or one ``.safetensors`` file with either kind of names.
        dtype: of the weights; the parts that need it stay float32.

    Returns:
        The model, in eval mode on the CPU.

    Raises:
        CheckpointError: a file is missing or cut short, or tensors are missing, extra or mis-shaped.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{path.name}: no .safetensors file in this folder")
    stored = {} if path.is_file() else read_json(path / "config.json", required=False)
    tensors = _read(files, dtype)
    if keymap.is_original(set(tensors)):
        tensors = keymap.to_diffusers(tensors)
    else:
        tensors = {keymap.strip(k): v for k, v in tensors.items()}
    tensors = {k: _settle(k, v, dtype) for k, v in tensors.items() if "norm_added_q" not in k}
    model = build(stored, tensors, path.name)
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _read(files: list[Path], dtype: torch.dtype) -> dict[str, Tensor]:
    """Read shard by shard, casting as it goes, so that nothing stands twice in float32."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as shard:
                for key in shard.keys():  # noqa: SIM118 - a safe_open is not a dict
                    tensors[key] = _settle(key, shard.get_tensor(key), dtype)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file.name}: this file is damaged or cut short; download it again") from error
    return tensors


def _settle(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    # original names of the float32 parts end in the diffusers ones only after renaming, so the
    # first pass leaves anything named like them alone and the second pass finishes the job
    fp32 = any(part in key.split(".") for part in (*KEPT_FP32, "time_embedding", "modulation"))
    return tensor.to(torch.float32 if fp32 else dtype)


def build(stored: dict, tensors: dict[str, Tensor], name: str) -> WanDiT:
    """The model that tensors fill, on the meta device.

    Args:
        stored: the checkpoint's ``config.json``, or {}; it only adds what shapes cannot tell.
        tensors: a whole state dict under diffusers' names.
        name: what to call it in a message.

    Returns:
        A :class:`WanDiT`, or the class of the family that the names speak of.

    Raises:
        CheckpointError: these are not a Wan transformer's tensors, or they are not complete.
    """
    with torch.device("meta"):
        model = CLASSES[keymap.kind_of(set(tensors))](**_config(stored, tensors, name))
    check(model, tensors, name)
    return model


def _config(stored: dict, tensors: dict[str, Tensor], name: str) -> dict:
    heads = stored.get("num_attention_heads") or stored.get("num_heads")
    try:
        dim = tensors["patch_embedding.weight"].shape[0]
        head_dim = stored.get("attention_head_dim") or (dim // heads if heads else None)
        config = keymap.config_from(tensors, head_dim)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{name}: these tensors are not a Wan transformer") from error
    if stored.get("eps"):
        config["eps"] = float(stored["eps"])
    kind = keymap.kind_of(set(tensors))
    if kind != "wan":  # neither has an image branch, and their classes take no fields for one
        config = {k: v for k, v in config.items() if k not in ("image_dim", "added_kv_proj_dim", "pos_embed_seq_len")}
    if kind == "s2v":
        config |= {k: stored[k] for k in ("audio_inject_layers", "zero_timestep") if k in stored}
    sizes = stored.get("audio") or {}
    if kind == "humo" and {"window", "blocks"} <= sizes.keys():
        config |= {"audio_window": sizes["window"], "audio_tracks": sizes["blocks"]}
        features = config["audio_channels"] * keymap.HUMO_WINDOW * keymap.HUMO_TRACKS
        config["audio_channels"] = features // (sizes["window"] * sizes["blocks"])
    return config


def check(model: torch.nn.Module, tensors: Mapping[str, Tensor | torch.Size], name: str) -> None:
    """Compare names and shapes with a model.

    Args:
        model: what the tensors should fill.
        tensors: the tensors, or their shapes.
        name: what to call them in the message.

    Raises:
        CheckpointError: naming the first few missing, extra and mis-shaped tensors.
    """
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    found = {k: tuple(v if isinstance(v, torch.Size) else v.shape) for k, v in tensors.items()}
    missing, extra = sorted(wanted.keys() - found), sorted(found.keys() - wanted.keys())
    wrong = [
        f"{k} is {list(found[k])}, must be {list(wanted[k])}"
        for k in sorted(wanted.keys() & found.keys())
        if wanted[k] != found[k]
    ]
    faults = [
        f"{len(items)} {kind}: {', '.join(items[:3])}{' ...' if len(items) > 3 else ''}"
        for kind, items in (("missing", missing), ("unexpected", extra), ("mis-shaped", wrong))
        if items
    ]
    if faults:
        raise CheckpointError(f"{name}: the tensors do not fit the model; " + "; ".join(faults))


def component(path: Path, cls: Any, dtype: torch.dtype | None) -> Any:
    """Load one library component from its folder.

    Args:
        path: the component's folder.
        cls: a diffusers or transformers class with ``from_pretrained``.
        dtype: of its weights, or None where there are none.

    Returns:
        The component; modules are in eval mode without gradients.

    Raises:
        CheckpointError: the folder is missing or does not hold such a component.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path.parent.name}/{path.name}: this folder is missing")
    try:
        if dtype is None:
            return cls.from_pretrained(path)
        loaded, info = cls.from_pretrained(path, torch_dtype=dtype, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path.parent.name}/{path.name}: not a usable {cls.__name__} (damaged, cut short or another model)"
        ) from error
    for kind in ("missing", "mismatched"):  # the libraries would fill these with noise and go on
        keys = sorted(str(k) for k in info[f"{kind}_keys"])
        if keys:
            raise CheckpointError(f"{path.parent.name}/{path.name}: {len(keys)} {kind} tensors: {', '.join(keys[:3])}")
    if isinstance(loaded, ModelMixin):  # diffusers does not notice what a listed shard lacks
        check(loaded, _shapes(sorted(path.glob("*.safetensors"))), f"{path.parent.name}/{path.name}")
    return loaded.eval().requires_grad_(False)


def _shapes(files: list[Path]) -> dict[str, torch.Size]:
    """Names and shapes of all tensors, from the files' headers alone."""
    shapes = {}
    for file in files:
        with safe_open(file, framework="pt") as shard:
            shapes |= {k: torch.Size(shard.get_slice(k).get_shape()) for k in shard.keys()}  # noqa: SIM118
    return shapes
