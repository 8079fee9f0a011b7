"""The vision tower of a single CLIP file, official or ComfyUI's, as transformers has it, and the config it implies.

Source: Wan-Video/Wan2.1 wan/modules/clip.py (VisionTransformer).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

HEAD_DIM = 80  # ViT-H's; shapes do not tell it
_OUTSIDE = {
    "visual.cls_embedding": "embeddings.class_embedding",
    "visual.pos_embedding": "embeddings.position_embedding.weight",
    "visual.patch_embedding.weight": "embeddings.patch_embedding.weight",
    "visual.pre_norm.weight": "pre_layrnorm.weight",
    "visual.pre_norm.bias": "pre_layrnorm.bias",
    "visual.post_norm.weight": "post_layernorm.weight",
    "visual.post_norm.bias": "post_layernorm.bias",
}
#: What tells transformers' own names, which ComfyUI's file has, perhaps under one level more.
_PREFIX, _MARK, _PLACES = "vision_model.", "embeddings.class_embedding", "embeddings.position_embedding.weight"
_THEIR_BLOCK = re.compile(r"^encoder\.layers\.(\d+)\.")
_BLOCK = re.compile(r"^visual\.transformer\.(\d+)\.(.+)\.(weight|bias)$")
_IN_BLOCK = {
    "norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj", "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}  # fmt: skip


def vision_config(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Keyword arguments of transformers' ``CLIPVisionConfig``.

    Args:
        shapes: of a CLIP's tensors, under their official names or, as ComfyUI keeps them, transformers'.

    Raises:
        KeyError: naming a tensor that is missing.
    """
    named = {k.removeprefix(_PREFIX): v for k, v in shapes.items()}
    theirs = _MARK in named
    width, _, patch, _ = named["embeddings.patch_embedding.weight" if theirs else "visual.patch_embedding.weight"]
    places = named[_PLACES][0] - 1 if theirs else named["visual.pos_embedding"][1] - 1
    first = "encoder.layers.0.mlp.fc1.weight" if theirs else "visual.transformer.0.mlp.0.weight"
    block = _THEIR_BLOCK if theirs else _BLOCK
    return {
        "hidden_size": width,
        "intermediate_size": named[first][0],
        "num_hidden_layers": 1 + max(int(m[1]) for k in named if (m := block.match(k))),
        "num_attention_heads": max(1, width // HEAD_DIM),
        "image_size": patch * round(places**0.5),
        "patch_size": patch,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }


def vision_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision tower's tensors as transformers' ``CLIPVisionModel`` has them.

    The head and the text tower have no place in it and are left out.
    """
    plain = {k.removeprefix(_PREFIX): v for k, v in tensors.items()}
    if _MARK in plain:
        kept = ("embeddings.", "pre_layrnorm.", "encoder.", "post_layernorm.")
        return {k: v for k, v in plain.items() if k.startswith(kept) and not k.endswith("position_ids")}
    out = {}
    for key, tensor in tensors.items():
        if key in _OUTSIDE:
            out[_OUTSIDE[key]] = tensor.reshape(tensor.shape[-1:]) if key.endswith("cls_embedding") else tensor
        elif block := _BLOCK.match(key):
            number, name, kind = block.groups()
            if name == "attn.to_qkv":
                for part, rows in zip(("q", "k", "v"), tensor.chunk(3), strict=True):
                    out[f"encoder.layers.{number}.self_attn.{part}_proj.{kind}"] = rows
            else:
                out[f"encoder.layers.{number}.{_IN_BLOCK.get(name, name)}.{kind}"] = tensor
    out["embeddings.position_embedding.weight"] = out["embeddings.position_embedding.weight"][0]
    return out
