"""The trained parts as a checkpoint folder in diffusers' layout, and back to a state to train on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from assets.tiny import train_dit, train_vae, vocabulary, world
from assets.tiny.runs import RUNS, Ema, load_state, save_state
from wan_core import calibrate
from wan_core.model.dit import WanDiT
from wan_core.specs import USUAL

HERE = Path(__file__).parent
SHARD = "8MB"  # a Space takes files up to 10 MB
RECIPE = {
    "name": "built-in",
    "modes": ["text", "image"],
    "max_frames": world.FRAMES,
    "fixed_size": True,
    "note": {
        "en": "A small model that ships with the app: about one shape in eight comes out wrong, with a picture one in "
        "five, and spinning often fails. It knows one cartoon object, nine colours, six shapes, ten motions and six "
        "backgrounds; what a prompt does not say of these is drawn by chance.",
        "ja": "アプリに付属する小さなモデルです。形は八回に一回、画像からは五回に一回ほど崩れ、回転はよく失敗します。"
        "描けるのは一つの図形（九色、六つの形、十の動き）と六つの背景で、プロンプトで指定しないものはランダムに決まります。",
        "zh": "随应用附带的小模型：形状约八次错一次，由图片生成时约五次错一次，旋转常常失败。"
        "它只会画一个卡通图形：九种颜色、六种形状、十种动作、六种背景；提示词未提及的部分会随机决定。",
    },
    "recipe": {
        "steps": 24, "shift": 3.0, "shift_small": None, "guidance": 4.0, "fps": world.FPS,
        "frames": world.FRAMES, "size": [world.SIZE, world.SIZE], "negative": "", "tolerance": 0.3,
        "limits": list(USUAL),
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
    export_vae(to, state)
    if state is not None:
        model = train_dit.build()
        averaged(state, model).copy_to(model)
        save(model.to(torch.bfloat16), to / "transformer")
        config = to / "transformer" / "config.json"
        data = json.loads(config.read_text()) | {"_class_name": "WanTransformer3DModel"}
        config.write_text(json.dumps(data, indent=2) + "\n")
    if (RUNS / "text_encoder").exists():
        encoder = UMT5EncoderModel.from_pretrained(RUNS / "text_encoder")
        save(encoder.to(torch.bfloat16), to / "text_encoder")
        PreTrainedTokenizerFast.from_pretrained(RUNS / "tokenizer").save_pretrained(to / "tokenizer")
    history(to)
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=RECIPE["recipe"]["shift"]
    ).save_pretrained(to / "scheduler")
    recipe = RECIPE | {"recipe": RECIPE["recipe"] | measured(to / "recipe.json")}
    for name, data in (("model_index.json", INDEX), ("recipe.json", recipe)):
        (to / name).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    vocabulary.write(vocabulary.vocabulary(), to / vocabulary.FILE.name)


def measured(path: Path) -> dict[str, list[float]]:
    """What ``wan_core.calibrate`` put into a recipe; after a transformer was trained on, it is to be run again."""
    known = json.loads(path.read_text(encoding="utf-8")).get("recipe", {}) if path.exists() else {}
    return {name: known[name] for name in calibrate.NAMES if name in known}


def history(to: Path) -> None:
    """Keep what every stage cost and how its loss fell, for the card and for a resumed run."""
    path = to / "history.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    for stage in ("vae", "dit"):
        state = load_state(RUNS / f"{stage}.pt")
        if state is not None:
            known[stage] = {"steps": state["step"], "seconds": round(state["spent"]), "curve": state["curve"][::4]}
    text = load_state(RUNS / "text.pt")
    if text is not None:
        known["text"] = text
    path.write_text(json.dumps(known) + "\n")


def restore(
    source: Path = HERE, kind: type[WanDiT] = WanDiT, beside: Sequence[str] = ("tokenizer", "text_encoder")
) -> None:
    """Turn a released checkpoint back into training states, where ``runs`` holds none.

    Optimiser states are not released: a restored run warms up again.

    Args:
        source: its folder.
        kind: its transformer's class.
        beside: folders of finished parts.
    """
    history = json.loads((source / "history.json").read_text())
    RUNS.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKLWan.from_pretrained(source / "vae")
    weights = {k: v.float() for k, v in vae.state_dict().items()}
    mean, std = (torch.tensor(vae.config[f"latents_{k}"]) for k in ("mean", "std"))
    dit = {k: v.float() for k, v in kind.from_pretrained(source / "transformer").state_dict().items()}
    states = {"vae": {"model": weights}, "dit": {"model": dit, "mean": mean, "std": std}}
    for stage, state in states.items():
        if not (RUNS / f"{stage}.pt").exists():
            past = history[stage]
            spent = {"step": past["steps"], "spent": past["seconds"], "curve": past["curve"]}
            save_state(RUNS / f"{stage}.pt", state | spent)
    if not (RUNS / "encoder.pt").exists():
        parts = ("encoder.", "quant_conv.")
        save_state(RUNS / "encoder.pt", {k: v for k, v in weights.items() if k.startswith(parts)})
    for part in beside:
        if not (RUNS / part).exists():
            shutil.copytree(source / part, RUNS / part)


def adopt(source: Path = HERE) -> None:
    """Begin a transformer for new latents from the trunk of the released one.

    What the trunk knows of words, places and motion does not depend on the VAE; the layers that read
    and write latents do, and start afresh.
    """
    trunk = {k: v.float() for k, v in WanDiT.from_pretrained(source / "transformer").state_dict().items()}
    ends = ("patch_embedding.", "proj_out.")
    save_state(RUNS / "dit.pt", {
        "step": 0, "spent": 0.0, "curve": [], "model": {k: v for k, v in trunk.items() if not k.startswith(ends)},
    })  # fmt: skip


def export_vae(to: Path, dit: dict | None) -> None:
    """Write the VAE, with the latents' statistics that a transformer was trained on."""
    state = load_state(RUNS / "vae.pt")
    if state is None:
        return
    vae = train_vae.build(train_vae.width_of(state["model"]))
    vae.load_state_dict(state["model"])
    averaged(state, vae).copy_to(vae)
    if (RUNS / "encoder.pt").exists():  # what the latents were made with, to the bit
        vae.load_state_dict(load_state(RUNS / "encoder.pt"), strict=False)
    if dit is not None:
        vae.register_to_config(latents_mean=dit["mean"].tolist(), latents_std=dit["std"].tolist())
    for layer in vae.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d):
            layer.weight.data = layer.weight.data.contiguous()
    save(vae.to(torch.bfloat16), to / "vae")


def averaged(state: dict, module: torch.nn.Module) -> Ema:
    """A state's average, or the module's own weights where none was kept."""
    ema = Ema(module, 0.0)
    if "ema" in state:
        ema.shadow = state["ema"]
    else:
        ema.shadow = dict(module.named_parameters())
    return ema


def save(module: torch.nn.Module, folder: Path) -> None:
    """Write a module in shards small enough for a Space."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, p in module.named_parameters():
        # the parts that compute in float32 are stored in it
        if any(part in name.split(".") for part in ("scale_shift_table", "norm1", "norm2", "norm3")):
            p.data = p.data.float()
    module.save_pretrained(folder, max_shard_size=SHARD)
