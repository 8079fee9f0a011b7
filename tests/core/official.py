"""Small random models written out as the official repositories have them, names and files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

_TRUNK = (
    ("condition_embedder.image_embedder.norm1.", "img_emb.proj.0."),
    ("condition_embedder.image_embedder.ff.net.0.proj.", "img_emb.proj.1."),
    ("condition_embedder.image_embedder.ff.net.2.", "img_emb.proj.3."),
    ("condition_embedder.image_embedder.norm2.", "img_emb.proj.4."),
    ("add_k_proj.", "k_img."),
    ("add_v_proj.", "v_img."),
    ("norm_added_k.", "norm_k_img."),
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("proj_out", "head.head"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("norm2.", "norm3."),
    ("attn1.", "self_attn."),
    ("attn2.", "cross_attn."),
    (".audio_norm.", ".audio_cross_attn_wrapper.norm1_audio."),
    (".audio_attn.", ".audio_cross_attn_wrapper.audio_cross_attn."),
    ("to_out.0.", "o."),
    ("to_q.", "q."),
    ("to_k.", "k."),
    ("to_v.", "v."),
)
_TEXT = (
    ("shared.", "token_embedding."),
    ("encoder.final_layer_norm.", "norm."),
    ("encoder.block.", "blocks."),
    ("layer.0.layer_norm.", "norm1."),
    ("layer.0.SelfAttention.relative_attention_bias.", "pos_embedding.embedding."),
    ("layer.0.SelfAttention.", "attn."),
    ("layer.1.layer_norm.", "norm2."),
    ("layer.1.DenseReluDense.wi_0.", "ffn.gate.0."),
    ("layer.1.DenseReluDense.wi_1.", "ffn.fc1."),
    ("layer.1.DenseReluDense.wo.", "ffn.fc2."),
)
_VAE = (
    ("post_quant_conv.", "conv2."),
    ("quant_conv.", "conv1."),
    ("conv_in.", "conv1."),
    ("mid_block.resnets.0.", "middle.0."),
    ("mid_block.attentions.0.", "middle.1."),
    ("mid_block.resnets.1.", "middle.2."),
    ("norm_out.", "head.0."),
    ("conv_out.", "head.2."),
)
_IN_RESIDUAL = (
    ("conv_shortcut.", "shortcut."),
    ("norm1.", "residual.0."),
    ("norm2.", "residual.3."),
    ("conv1.", "residual.2."),
    ("conv2.", "residual.6."),
)


def _replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for new, old in pairs:
        name = name.replace(new, old)
    return name


def trunk_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A transformer's tensors under their official names."""
    out = {}
    for key, tensor in tensors.items():
        name = key
        if key.startswith("vace_blocks."):
            name = key.replace(".proj_in.", ".before_proj.").replace(".proj_out.", ".after_proj.")
        name = _replaced(name, _TRUNK)
        if name.endswith("scale_shift_table"):
            name = name.replace("scale_shift_table", "modulation" if "blocks" in name else "head.modulation")
        out[name] = tensor
    return out


def text_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """UMT5's tensors under their official names; the tied embedding is stored once."""
    return {_replaced(k, _TEXT): v for k, v in tensors.items() if k != "encoder.embed_tokens.weight"}


def vae_names(tensors: dict[str, Tensor], residuals: int) -> dict[str, Tensor]:
    """A VAE's tensors under their official names."""
    nested = any(".downsampler." in k for k in tensors)

    def place(match: re.Match[str]) -> str:
        way, stage, kind, number = match[1], int(match[2]), match[3], int(match[4] or 0)
        last = number if kind == "resnets" else residuals + (way == "up")
        if nested:
            return f"{way}samples.{stage}.{way}samples.{last}."
        return f"{way}samples.{stage * (residuals + 2) + last}."

    out = {}
    for key, tensor in tensors.items():
        name = key
        inside = re.search(r"(resnets\.\d+|down_blocks\.\d+)\.(norm|conv)", name)
        if inside:
            head, tail = name[: inside.end(1)], name[inside.end(1) :]
            name = head + _replaced(tail, _IN_RESIDUAL)
        else:
            name = _replaced(name, _VAE)
        name = _replaced(name, tuple(p for p in _VAE if p[0].startswith("mid_block")))
        name = re.sub(r"(down|up)_blocks\.(\d+)\.(resnets|\w+samplers?)\.(?:(\d+)\.)?", place, name)
        out[name.replace("down_blocks.", "downsamples.")] = tensor
    return out


def clip_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP vision tower's tensors under their official names, with a little of the text tower beside them."""
    out = {"log_scale": torch.zeros(()), "textual.token_embedding.weight": torch.zeros(4, 4)}
    for key, tensor in tensors.items():
        block = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
        if block is None:
            name = _replaced(key, (
                ("embeddings.class_embedding", "cls_embedding"), ("embeddings.patch_embedding", "patch_embedding"),
                ("embeddings.position_embedding.weight", "pos_embedding"), ("pre_layrnorm", "pre_norm"),
                ("post_layernorm", "post_norm"),
            ))  # fmt: skip
            lead = {"cls_embedding": (1, 1), "pos_embedding": (1,)}.get(name, ())
            out[f"visual.{name}"] = tensor.reshape(*lead, *tensor.shape)
            continue
        number, name, kind = block.groups()
        if name == "self_attn.q_proj":
            rows = [tensors[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            out[f"visual.transformer.{number}.attn.to_qkv.{kind}"] = torch.cat(rows)
        elif not name.startswith("self_attn") or name.endswith("out_proj"):
            plain = _replaced(
                name, (("self_attn.out_proj", "attn.proj"), ("layer_norm", "norm"), ("fc1", "0"), ("fc2", "2"))
            )
            out[f"visual.transformer.{number}.{plain}.{kind}"] = tensor
    return out


def write_wan(root: Path, trunks: list[Any], vae: Any, text: Any, tokenizer: Any, clip: Any = None) -> Path:
    """Write a Wan model as its official repository has it: one transformer, or a high- and a low-noise one."""
    names = ["."] if len(trunks) == 1 else ["high_noise_model", "low_noise_model"]
    for name, trunk in zip(names, trunks, strict=True):
        folder, config = root / name, trunk.config
        folder.mkdir(parents=True, exist_ok=True)
        stored = {"num_heads": config.num_attention_heads, "num_layers": config.num_layers,
                  "in_dim": config.in_channels, "out_dim": config.out_channels}  # fmt: skip
        stored |= {k: list(config[k]) for k in ("vace_layers",) if k in config}
        (folder / "config.json").write_text(json.dumps(stored))
        save_file(trunk_names(trunk.state_dict()), folder / "diffusion_pytorch_model.safetensors")
    kind = "2.2" if vae.config.is_residual else "2.1"
    torch.save(vae_names(vae.state_dict(), vae.config.num_res_blocks), root / f"Wan{kind}_VAE.pth")
    torch.save(text_names(text.state_dict()), root / "models_t5_umt5-xxl-enc-bf16.pth")
    tokenizer.save_pretrained(root / "google" / "umt5-xxl")
    if clip is not None:
        path = root / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
        torch.save(clip_names(clip.state_dict()), path)
    return root


def write(folder: Path, trunk: Any, vae: Any, text: Any, tokenizer: Any, hearing: tuple[Any, Any], kind: str) -> Path:
    """Write a model as its official repository has it.

    Args:
        folder: where downloads go.
        trunk: the transformer.
        vae: of the 2.1 kind.
        text: UMT5.
        tokenizer: its tokenizer.
        hearing: the speech encoder's processor and encoder.
        kind: "s2v", "humo1" or "humo17".

    Returns:
        The folder that a user would name.
    """
    base = folder / "Wan2.2-S2V-14B" if kind == "s2v" else folder / "Wan2.1-T2V-1.3B"
    base.mkdir(parents=True)
    torch.save(vae_names(vae.state_dict(), vae.config.num_res_blocks), base / "Wan2.1_VAE.pth")
    torch.save(text_names(text.state_dict()), base / "models_t5_umt5-xxl-enc-bf16.pth")
    tokenizer.save_pretrained(base / "google" / "umt5-xxl")
    ears = base / "wav2vec2-large-xlsr-53-english" if kind == "s2v" else folder / "whisper-large-v3"
    for part in hearing:
        part.save_pretrained(ears)
    tensors, config = trunk_names(trunk.state_dict()), trunk.config
    if kind == "humo1":
        root = folder / "HuMo" / "HuMo-1.7B"
        root.mkdir(parents=True)
        torch.save(tensors, root / "ema.pth")
        return root
    root = base if kind == "s2v" else folder / "HuMo" / "HuMo-17B"
    root.mkdir(parents=True, exist_ok=True)
    stored = {
        "model_type": "s2v" if kind == "s2v" else "i2v", "num_heads": config.num_attention_heads,
        "num_layers": config.num_layers, "in_dim": config.in_channels, "out_dim": config.out_channels,
    }  # fmt: skip
    if kind == "s2v":
        stored |= {"audio_inject_layers": list(config.audio_inject_layers), "zero_timestep": True}
    else:
        stored |= {"insert_audio": True}
        (root / "humo.safetensors.index.json").write_text("{}")
    (root / "config.json").write_text(json.dumps(stored))
    half = len(tensors) // 2
    for number, keys in enumerate((list(tensors)[:half], list(tensors)[half:]), start=1):
        name = "diffusion_pytorch_model" if kind == "s2v" else "humo"
        save_file({k: tensors[k].contiguous() for k in keys}, root / f"{name}-{number:05}-of-00002.safetensors")
    return root
