"""Run golden cases: ``config.json``, ``weights.safetensors`` and one file per case, per folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from wan_core.model import audio
from wan_core.model.adapters import HumoDiT, S2VDiT
from wan_core.model.dit import Context, WanDiT
from wan_core.weights import keymap, load

DATA = Path(__file__).parent / "data"


def tolerance(folder: str) -> float:
    """Largest error allowed: the audio families pass through more float32 sums."""
    return 2e-5 if folder.startswith("wan_") else 5e-5


def cases(root: Path) -> Iterator[tuple[Path, Path]]:
    """Every (folder, case file)."""
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        for case in sorted(folder.glob("*.safetensors")):
            if case.name != "weights.safetensors":
                yield folder, case


def model_of(folder: Path) -> tuple[WanDiT, int]:
    """The folder's model in float32, and its text length."""
    config = json.loads((folder / "config.json").read_text())
    tensors = keymap.to_diffusers(load_file(folder / "weights.safetensors"))
    model = load.build(config, tensors, folder.name)
    model.load_state_dict(tensors, assign=True)
    return model.eval(), config["text_len"]


@torch.no_grad()
def error_of(folder: Path, case: Path) -> float:
    """Largest absolute difference from the case's output."""
    data = load_file(case)
    if "hidden_states_50hz" in data:
        return _resampling_error(data)
    model, text_len = model_of(folder)
    text = _pad(data["text"], text_len)
    latents = data["latents"][None]
    if "image_condition" in data:
        latents = torch.cat([latents, data["image_condition"][None]], dim=1)
    if isinstance(model, S2VDiT):
        with safe_open(case, "pt") as file:  # a first clip's file has motion latents, but drops their tokens
            dropped = file.metadata()["drop_motion_frames"] == "True"
        return _s2v_error(model, data, text, dropped)
    if isinstance(model, HumoDiT):
        context = model.context(text, audio=data["audio_windows"][None])
        out = _run(model, latents, data["timestep"], context)
    else:
        out = model(latents, data["timestep"], text, return_dict=False)[0]
    return _away(out[0], data["output"])


def _s2v_error(model: S2VDiT, data: dict[str, Tensor], text: Tensor, dropped: bool) -> float:
    whole, local = model.casual_audio_encoder(
        torch.cat([data["audio_features"][..., :1].expand(-1, -1, -1, 73), data["audio_features"]], dim=-1)
    )
    batch = {k: data[f"{k}_latents"][None] for k in ("ref", "motion", "pose")}
    motion = None if dropped else batch["motion"]
    clip = model.context(
        text, features=data["audio_features"], reference=batch["ref"], motion=motion, pose=batch["pose"]
    )
    out = _run(model, data["latents"][None], data["timestep"], clip)
    return max(_away(out[0], data["output"]), _away(whole, data["audio_global"]), _away(local, data["audio_local"]))


def _run(model: WanDiT, latents: Tensor, timestep: Tensor, context: Context) -> Tensor:
    tokens = math.prod(n // p for n, p in zip(latents.shape[2:], model.config["patch_size"], strict=True))
    embedded = model.embed(latents, timestep[:, None], (tokens,), context=context)
    return model.head(model.trunk(embedded, context), embedded)


def _resampling_error(data: dict[str, Tensor]) -> float:
    """The speech features' way from 50 Hz to the video's frames."""
    at30 = audio.resample(data["hidden_states_50hz"], 50, 30)
    errors = [_away(at30, data["features_30hz"])]
    for frames in (80, 48):
        got = audio.s2v_frames(at30, frames)
        errors.append(_away(got.permute(2, 0, 1), data[f"frames_16fps_clip{frames}"]))
        errors.append(abs(got.shape[-1] // frames - int(data[f"clips_clip{frames}"])))
    return max(errors)


def _away(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max())


def _pad(text: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(text, (0, 0, 0, length - len(text)))[None]
