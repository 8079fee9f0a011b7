"""The vision tower of the official CLIP file under transformers' names, and the config its shapes imply.

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
_BLOCK = re.compile(r"^visual\.transformer\.(\d+)\.(.+)\.(weight|bias)$")
_IN_BLOCK = {
    "norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj", "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}  # fmt: skip


def vision_config(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Keyword arguments of transformers' ``CLIPVisionConfig``.

    Args:
        shapes: of an official CLIP's tensors, under their own names.

    Raises:
        KeyError: naming a tensor that is missing.
    """
    width, _, patch, _ = shapes["visual.patch_embedding.weight"]
    places = shapes["visual.pos_embedding"][1] - 1
    return {
        "hidden_size": width,
        "intermediate_size": shapes["visual.transformer.0.mlp.0.weight"][0],
        "num_hidden_layers": 1 + max(int(m[1]) for k in shapes if (m := _BLOCK.match(k))),
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
