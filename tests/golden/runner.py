"""Run golden cases: ``config.json``, ``weights.safetensors`` and one file per case, per folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from wan_core.model.dit import WanDiT
from wan_core.weights import keymap, load

TOLERANCE = 2e-5
DATA = Path(__file__).parent / "data"


def cases(root: Path) -> Iterator[tuple[Path, Path]]:
    """Every (folder, case file) of the kinds built so far."""
    for folder in sorted(p for p in root.iterdir() if (p / "config.json").exists()):
        if folder.name.startswith("wan_"):
            for case in sorted(folder.glob("*.safetensors")):
                if case.name != "weights.safetensors":
                    yield folder, case


def model_of(folder: Path) -> tuple[WanDiT, int]:
    """The folder's model in float32, and its text length."""
    config = json.loads((folder / "config.json").read_text())
    tensors = keymap.to_diffusers(load_file(folder / "weights.safetensors"))
    head_dim = config["dim"] // config["num_heads"]
    model = WanDiT(**keymap.config_from(tensors, head_dim), eps=config["eps"])
    load.check(model, tensors, folder.name)
    model.load_state_dict(tensors)
    return model.eval(), config["text_len"]


@torch.no_grad()
def error_of(folder: Path, case: Path) -> float:
    """Largest absolute difference from the case's output."""
    model, text_len = model_of(folder)
    data = load_file(case)
    text = _pad(data["text"], text_len)
    latents = data["latents"][None]
    if "image_condition" in data:
        latents = torch.cat([latents, data["image_condition"][None]], dim=1)
    out = model(latents, data["timestep"], text, return_dict=False)[0]
    return float((out[0] - data["output"]).abs().max())


def _pad(text: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(text, (0, 0, 0, length - len(text)))[None]
