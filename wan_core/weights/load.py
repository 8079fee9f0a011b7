"""Files to checked modules: diffusers folders, original folders, single files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, ModelMixin
from diffusers.models.modeling_utils import no_init_weights
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from wan_core.errors import CheckpointError
from wan_core.model.adapters import AnimateDiT, HumoDiT, S2VDiT, VaceDiT
from wan_core.model.dit import WanDiT
from wan_core.weights import keymap, original, original_clip
from wan_core.weights.places import read_json
from wan_core.weights.storage import read

CLASSES = {"wan": WanDiT, "humo": HumoDiT, "s2v": S2VDiT, "vace": VaceDiT, "animate": AnimateDiT}
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
    "motion_synthesis_weight",
)


def transformer(path: Path, dtype: torch.dtype) -> WanDiT:
    """Load a transformer from a folder or a single file.

    Args:
        path: a folder with ``config.json`` and ``*.safetensors`` in diffusers' or the original
            layout, or one ``.safetensors``, ``.pth`` or ``.gguf`` file with either kind of names.
        dtype: of the weights; the parts that need it stay float32.

    Returns:
        The model, in eval mode on the CPU.

    Raises:
        CheckpointError: a file is missing or cut short, or tensors are missing, extra or mis-shaped.
    """
    stored = {} if path.is_file() else read_json(path / "config.json", required=False)
    # cast while reading, shard by shard; a second time where only the new names tell what stays float32
    tensors = keymap.to_diffusers(read(path, lambda key, tensor: _settle(key, tensor, dtype)))
    tensors = {k: _settle(k, v, dtype) for k, v in tensors.items() if "norm_added_q" not in k}
    model = build(stored, tensors, path.name)
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def text_encoder(path: Path, dtype: torch.dtype) -> UMT5EncoderModel:
    """Load UMT5 from transformers' folder or a single file, with official or the library's names.

    Raises:
        CheckpointError: it is missing, damaged, or not such an encoder.
    """
    if path.is_dir():
        return component(path, UMT5EncoderModel, dtype)
    tensors = {original.official_text_name(k): v for k, v in read(path, lambda _, x: x.to(dtype)).items()}
    tensors.pop("encoder.embed_tokens.weight", None)  # the same as the other end's
    try:
        config = UMT5Config(**original.text_config({k: tuple(v.shape) for k, v in tensors.items()}))
    except KeyError as error:
        raise CheckpointError(f"{path.name}: {error} is missing; this is not the official UMT5 encoder") from error
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    tensors = {original.text_name(k): v for k, v in tensors.items()}
    tied = {k: tensors["shared.weight"] for k in model.state_dict() if k == "encoder.embed_tokens.weight"}
    return _filled(model, tensors | tied, path.name)


def vae(path: Path) -> AutoencoderKLWan:
    """Load a VAE from diffusers' folder or the official single file, in float32.

    Raises:
        CheckpointError: it is missing, damaged, or not such a VAE.
    """
    if path.is_dir():
        return component(path, AutoencoderKLWan, torch.float32)
    tensors = read(path, lambda _, tensor: tensor.float())
    try:
        config = original.vae_config({k: tuple(v.shape) for k, v in tensors.items()})
    except KeyError as error:
        raise CheckpointError(f"{path.name}: {error} is missing; this is not the official VAE") from error
    with torch.device("meta"):
        model = AutoencoderKLWan(**config)
    tensors = {original.vae_name(k, config["num_res_blocks"]): v for k, v in tensors.items()}
    return _filled(model, tensors, path.name)


def vision(parts: tuple[Path, Path], dtype: torch.dtype) -> tuple[Any, torch.nn.Module]:
    """Load CLIP's picture processor and vision tower from transformers' folders or the official single file.

    The official code brings pictures to CLIP's size as a whole, without a crop; so does the
    processor that comes with its file.

    Raises:
        CheckpointError: it is missing, damaged, or not such a model.
    """
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel  # few models have one

    processor, path = parts
    if path.is_dir():
        return component(processor, CLIPImageProcessor, None), component(path, CLIPVisionModel, dtype)
    tensors = read(path, lambda _, tensor: tensor.to(dtype))
    try:
        fields = original_clip.vision_config({k: tuple(v.shape) for k, v in tensors.items()})
        tensors = original_clip.vision_tensors(tensors)
    except KeyError as error:
        raise CheckpointError(f"{path.name}: {error} is missing; this is not the official CLIP") from error
    with torch.device("meta"):
        model = CLIPVisionModel(CLIPVisionConfig(**fields))
    _filled(model, tensors, path.name)
    places_of_patches = len(tensors["embeddings.position_embedding.weight"])
    for module in model.modules():
        if hasattr(module, "position_ids"):  # no file holds them
            module.position_ids = torch.arange(places_of_patches)[None]
    whole = {"height": fields["image_size"], "width": fields["image_size"]}
    return CLIPImageProcessor(do_center_crop=False, size=whole), model


def _filled(model: Any, tensors: dict[str, Tensor], name: str) -> Any:
    check(model, tensors, name)
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


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
    if any(key.startswith("face_adapter.fuser_blocks.") for key in tensors):
        raise CheckpointError(f"{name}: this is Wan2.2-Animate under its official names; only diffusers' are read")
    with torch.device("meta"), no_init_weights():
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
    if kind == "vace" and stored.get("vace_layers"):
        config["vace_layers"] = tuple(stored["vace_layers"])
    if kind in ("humo", "s2v"):  # neither has an image branch, and their classes take no fields for one
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
