"""Last stage: the finished parts as a checkpoint folder in diffusers' layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import UniPCMultistepScheduler
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from assets.tiny import train_dit, train_vae, world
from assets.tiny.runs import RUNS, Ema, load_state

HERE = Path(__file__).parent
SHARD = "8MB"  # a Space takes files up to 10 MB
RECIPE = {
    "name": "built-in",
    "modes": ["text", "image"],
    "max_frames": world.FRAMES,
    "fixed_size": True,
    "note": "A small model that ships with the app. It knows one cartoon object, nine colours, six shapes, "
    "ten motions and six backgrounds, in English, Japanese and Chinese.",
    "recipe": {
        "steps": 24, "shift": 3.0, "shift_small": None, "guidance": 4.0, "fps": world.FPS,
        "frames": world.FRAMES, "size": [world.SIZE, world.SIZE], "negative": "",
    },
}  # fmt: skip
INDEX = {
    "_class_name": "WanPipeline",
    "boundary_ratio": None,
    "expand_timesteps": True,
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "transformer_2": [None, None],
    "vae": ["diffusers", "AutoencoderKLWan"],
}


def export(to: Path = HERE) -> None:
    """Write every part under ``to``; parts that were not trained yet are left as they are there."""
    state = load_state(RUNS / "dit.pt")
    _export_vae(to, state)
    if state is not None:
        model = train_dit.build()
        _ema(state, model).copy_to(model)
        _save(model.to(torch.bfloat16), to / "transformer")
        config = to / "transformer" / "config.json"
        data = json.loads(config.read_text()) | {"_class_name": "WanTransformer3DModel"}
        config.write_text(json.dumps(data, indent=2) + "\n")
    if (RUNS / "text_encoder").exists():
        encoder = UMT5EncoderModel.from_pretrained(RUNS / "text_encoder")
        _save(encoder.to(torch.bfloat16), to / "text_encoder")
        PreTrainedTokenizerFast.from_pretrained(RUNS / "tokenizer").save_pretrained(to / "tokenizer")
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=RECIPE["recipe"]["shift"]
    ).save_pretrained(to / "scheduler")
    for name, data in (("model_index.json", INDEX), ("recipe.json", RECIPE)):
        (to / name).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _export_vae(to: Path, dit: dict | None) -> None:
    state = load_state(RUNS / "vae.pt")
    if state is None:
        return
    vae = train_vae.build()
    vae.load_state_dict(state["model"])
    _ema(state, vae).copy_to(vae)
    if (RUNS / "encoder.pt").exists():  # what the latents were made with, to the bit
        vae.load_state_dict(load_state(RUNS / "encoder.pt"), strict=False)
    if dit is not None:
        vae.register_to_config(latents_mean=dit["mean"].tolist(), latents_std=dit["std"].tolist())
    for layer in vae.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d):
            layer.weight.data = layer.weight.data.contiguous()
    _save(vae.to(torch.bfloat16), to / "vae")


def _ema(state: dict, module: torch.nn.Module) -> Ema:
    ema = Ema(module, 0.0)
    if "ema" in state:
        ema.shadow = state["ema"]
    else:
        ema.shadow = dict(module.named_parameters())
    return ema


def _save(module: torch.nn.Module, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, p in module.named_parameters():
        # the parts that compute in float32 are stored in it
        if any(part in name.split(".") for part in ("scale_shift_table", "norm1", "norm2", "norm3")):
            p.data = p.data.float()
    module.save_pretrained(folder, max_shard_size=SHARD)
