"""Where a model's components lie: in diffusers' layout, or as the official repositories have them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wan_core.errors import CheckpointError
from wan_core.specs import SPECS

_EXPERTS = ("high_noise_model", "low_noise_model")
#: What official code downloads once and shares; HuMo's own repository holds only its transformers.
_BASE, _WHISPER, _WAV2VEC = "Wan2.1-T2V-1.3B", "whisper-large-v3", "wav2vec2-large-xlsr-53-english"
_VAE = ("Wan2.1_VAE.pth", "Wan2.2_VAE.pth", "Wan2.1_VAE.safetensors", "Wan2.2_VAE.safetensors")
_VAE_OF = {16: ("wan_2.1_vae.safetensors", *_VAE[::2]), 48: ("wan2.2_vae.safetensors", *_VAE[1::2])}
_CLIP = (
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors",
    "clip_vision_h.safetensors",
)
_TEXT = ("models_t5_umt5-xxl-enc-bf16.pth", "models_t5_umt5-xxl-enc-bf16.safetensors")


#: What else tells a transformer's shards, or is one.
_INDEXES = ("humo.safetensors.index.json", "Phantom_Wan_14B.safetensors.index.json")
_PICKLES = ("ema.pth", "Phantom-Wan-1.3B.pth")
#: Beside a single file, or in folders of ComfyUI's names.
_SHELVES = ("vae", "text_encoders", "clip", "audio_encoders", "clip_vision")
_GGUF = ("f16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_M", "Q3_K_S")  # the finest first
_TEXTS = (
    "umt5_xxl_fp16.safetensors", "umt5_xxl_bf16.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    *(f"umt5-xxl-encoder-{kind}.gguf" for kind in _GGUF),
)  # fmt: skip


@dataclass(frozen=True)
class Root:
    """Where a model was found.

    Attributes:
        folder: its own, or the one its files are in.
        files: of its transformers, if those are what was named; else ().
    """

    folder: Path
    files: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What to call it."""
        return self.files[0].name if self.files else self.folder.name


@dataclass(frozen=True)
class Places:
    """Paths of a model's components; of a file where the official layout has one.

    Attributes:
        root: the model's folder.
        experts: one transformer, or the high-noise and the low-noise one.
        vae: the VAE.
        text_encoder: UMT5.
        tokenizer: its tokenizer's folder.
        vision: CLIP's processor and encoder, for models with an image branch; one file of both where the
            official layout has it.
        hearing: a speech encoder's processor and encoder, if there is one.
        index: ``model_index.json``, or what of it an official folder implies.
    """

    root: Path
    experts: tuple[Path, ...]
    vae: Path
    text_encoder: Path
    tokenizer: Path
    vision: tuple[Path, Path] | None = None
    hearing: tuple[Path, Path] | None = None
    index: dict[str, Any] = field(default_factory=dict)


def is_model(folder: Path) -> bool:
    """Whether a folder looks like a whole model, in either layout."""
    return (folder / "model_index.json").exists() or bool(_official_experts(folder))


def find_parts(root: Root) -> Places:
    """Find a model's components.

    Args:
        root: a folder in diffusers' layout, an official one, or HuMo's or Phantom's beside the folders it
            shares; or single files, with what they need beside them or in folders of ComfyUI's names.

    Raises:
        CheckpointError: it is none, or a component is not where it belongs.
    """
    return _diffusers(root.folder) if _in_diffusers_layout(root) else _official(root)


def trunk_config(root: Root) -> dict[str, Any] | None:
    """The ``config.json`` of a model's (first) transformer; None where a file has none."""
    if root.files:
        return None
    if _in_diffusers_layout(root):
        return read_json(root.folder / "transformer" / "config.json")
    first = _official_experts(root.folder)[0]
    path = (first if first.is_dir() else first.parent) / "config.json"
    return read_json(path) if path.exists() else None


def implied_index(root: Root) -> dict[str, Any]:
    """``model_index.json``, or what of it official folders and files imply."""
    if _in_diffusers_layout(root):
        return read_json(root.folder / "model_index.json")
    experts = root.files or _official_experts(root.folder)
    if len(experts) == 1:
        return {}
    if len(experts) > 2:
        raise CheckpointError(f"{root.name}: a Wan model has one transformer, or two: high noise first, then low")
    shown = (trunk_config(root) or {}).get("in_dim") or _shapes(next(iter(experts)))["patch_embedding.weight"][1]
    return {"boundary_ratio": SPECS["wan2.2-i2v-a14b" if shown > 16 else "wan2.2-t2v-a14b"].boundary}


def _in_diffusers_layout(root: Root) -> bool:
    return not root.files and (root.folder / "model_index.json").exists()


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a transformer's tensors under their names without prefixes."""
    from wan_core.weights import keymap, storage  # torch, which a folder's JSON files do without

    return {keymap.strip(name): shape for name, shape in storage.shapes(path).items()}


def _diffusers(folder: Path) -> Places:
    index = read_json(folder / "model_index.json")
    two = index.get("boundary_ratio") is not None
    vision = folder / "image_processor", folder / "image_encoder"
    hearing = folder / "audio_processor", folder / "audio_encoder"
    return Places(
        folder,
        (folder / "transformer", folder / "transformer_2") if two else (folder / "transformer",),
        folder / "vae",
        folder / "text_encoder",
        folder / "tokenizer",
        vision if vision[1].is_dir() else None,
        hearing if hearing[1].is_dir() else None,
        index,
    )


def _official_experts(folder: Path) -> tuple[Path, ...]:
    """The transformers of an official folder: folders of shards, or one ``.pth``; none if it has none."""
    pair = tuple(folder / name for name in _EXPERTS)
    if all(path.is_dir() for path in pair):
        return pair
    # shards, or their index where only that was downloaded so far, or HuMo's and Phantom's
    shards = any(folder.glob("diffusion_pytorch_model*.safetensors*"))
    if shards or any((folder / name).exists() for name in _INDEXES) or _speaks_of_wan(folder):
        return (folder,)
    return tuple(folder / name for name in _PICKLES if (folder / name).exists())[:1]


def _speaks_of_wan(folder: Path) -> bool:
    """Whether a folder's ``config.json`` is an official transformer's: small ones have a single shard, and no index."""
    return read_json(folder / "config.json", required=False).get("_class_name") == "WanModel"


def _official(root: Root) -> Places:
    folder = root.folder
    hearing, clip = _seek(folder, (_WAV2VEC, _WHISPER)), _seek(folder, _CLIP, beside=bool(root.files))
    vaes = _VAE
    if root.files:  # a shelf may hold both
        shapes = _shapes(root.files[0])
        out = shapes.get("head.head.weight", shapes.get("proj_out.weight", (64,)))[0] // 4
        vaes = _VAE_OF.get(out, _VAE)
    return Places(
        folder,
        root.files or _official_experts(folder),
        _near(folder, vaes),
        _near(folder, (*_TEXT, *_TEXTS)),
        _near(folder, ("google/umt5-xxl", "tokenizer")),
        (clip, clip) if clip else None,
        (hearing, hearing) if hearing else None,
        implied_index(root),
    )


def _seek(folder: Path, names: tuple[str, ...], beside: bool = True) -> Path | None:
    """The first of some files or folders here, or beside this folder where downloads are shared."""
    near = [folder, *list(folder.parents)[:2]] if beside else [folder]
    for place in (p for up in near for p in (up, up / _BASE, *(up / shelf for shelf in _SHELVES))):
        for name in names:
            if (place / name).exists():
                return place / name
    return None


def _near(folder: Path, names: tuple[str, ...]) -> Path:
    found = _seek(folder, names)
    if found is None:
        raise CheckpointError(f"{folder.name}: {names[0]} is missing; put it here, or into a {_BASE} folder beside it")
    return found


def read_json(path: Path, required: bool = True) -> dict[str, Any]:
    """Read a JSON object; a missing one is {} unless required.

    Raises:
        CheckpointError: it is missing, or not a JSON object.
    """
    if not path.exists():
        if required:
            raise CheckpointError(f"{path.parent.name}/{path.name}: this file is missing")
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.parent.name}/{path.name}: not valid JSON") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path.parent.name}/{path.name}: not a JSON object")
    return data
