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
_CLIP = (
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors",
)
_TEXT = ("models_t5_umt5-xxl-enc-bf16.pth", "models_t5_umt5-xxl-enc-bf16.safetensors")


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


def is_model(root: Path) -> bool:
    """Whether a folder looks like a whole model, in either layout."""
    return (root / "model_index.json").exists() or bool(_official_experts(root))


def find_parts(root: Path) -> Places:
    """Find a model's components.

    Args:
        root: a folder in diffusers' layout, an official one, or HuMo's beside the folders it shares.

    Raises:
        CheckpointError: it is neither, or a component is not where it belongs.
    """
    return _diffusers(root) if (root / "model_index.json").exists() else _official(root)


def trunk_config(root: Path) -> dict[str, Any] | None:
    """The ``config.json`` of a model's (first) transformer; None where an official file has none."""
    if (root / "model_index.json").exists():
        return read_json(root / "transformer" / "config.json")
    first = _official_experts(root)[0]
    path = (first if first.is_dir() else first.parent) / "config.json"
    return read_json(path) if path.exists() else None


def implied_index(root: Path) -> dict[str, Any]:
    """``model_index.json``, or what of it an official folder implies."""
    if (root / "model_index.json").exists():
        return read_json(root / "model_index.json")
    if len(_official_experts(root)) == 1:
        return {}
    shown = (trunk_config(root) or {}).get("in_dim", 16) > 16
    return {"boundary_ratio": SPECS["wan2.2-i2v-a14b" if shown else "wan2.2-t2v-a14b"].boundary}


def _diffusers(root: Path) -> Places:
    index = read_json(root / "model_index.json")
    two = index.get("boundary_ratio") is not None
    vision = root / "image_processor", root / "image_encoder"
    hearing = root / "audio_processor", root / "audio_encoder"
    return Places(
        root,
        (root / "transformer", root / "transformer_2") if two else (root / "transformer",),
        root / "vae",
        root / "text_encoder",
        root / "tokenizer",
        vision if vision[1].is_dir() else None,
        hearing if hearing[1].is_dir() else None,
        index,
    )


def _official_experts(root: Path) -> tuple[Path, ...]:
    """The transformers of an official folder: folders of shards, or one ``.pth``; none if it has none."""
    pair = tuple(root / name for name in _EXPERTS)
    if all(path.is_dir() for path in pair):
        return pair
    if any(root.glob("diffusion_pytorch_model*.safetensors")) or (root / "humo.safetensors.index.json").exists():
        return (root,)
    return tuple(sorted(p for p in root.glob("*.pth") if p.name == "ema.pth"))


def _official(root: Path) -> Places:
    hearing, clip = _seek(root, (_WAV2VEC, _WHISPER)), next((root / n for n in _CLIP if (root / n).exists()), None)
    return Places(
        root,
        _official_experts(root),
        _near(root, _VAE),
        _near(root, _TEXT),
        _near(root, ("google/umt5-xxl",)),
        (clip, clip) if clip else None,
        (hearing, hearing) if hearing else None,
        implied_index(root),
    )


def _seek(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first of some files or folders here, or beside this folder where downloads are shared."""
    for place in (root, root / _BASE, *(p for up in list(root.parents)[:2] for p in (up, up / _BASE))):
        for name in names:
            if (place / name).exists():
                return place / name
    return None


def _near(root: Path, names: tuple[str, ...]) -> Path:
    found = _seek(root, names)
    if found is None:
        raise CheckpointError(f"{root.name}: {names[0]} is missing; put it here, or into a {_BASE} folder beside it")
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
