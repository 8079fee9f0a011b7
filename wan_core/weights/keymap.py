"""Original Wan parameter names to diffusers' names: one table, no files."""

from __future__ import annotations

import re

from torch import Tensor

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.")

_WHOLE = {
    "patch_embedding": "patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}

_IN_BLOCK = {
    "self_attn": "attn1",
    "cross_attn": "attn2",
    "norm3": "norm2",  # the affine norm before cross-attention; the others have no parameters
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
}

_IN_ATTENTION = {
    "q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0",
    "norm_q": "norm_q", "norm_k": "norm_k",
    "k_img": "add_k_proj", "v_img": "add_v_proj", "norm_k_img": "norm_added_k",
}  # fmt: skip

_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+)$")
_ATTENTION = re.compile(r"^(self_attn|cross_attn)\.([a-z_]+)(\.weight|\.bias)$")


def is_original(keys: set[str]) -> bool:
    """Whether these are the names of an original checkpoint rather than a diffusers one."""
    return any(strip(k) == "head.modulation" for k in keys)


def strip(key: str) -> str:
    """A key without the prefixes that single-file exports put in front."""
    for prefix in _PREFIXES:
        if key.startswith(prefix):
            return key[len(prefix) :]
    return key


def rename(key: str) -> str:
    """The diffusers name of one original parameter; unknown names come back unchanged."""
    key = strip(key)
    block = _BLOCK.match(key)
    if block is None:
        stem, dot, kind = key.rpartition(".")
        if key in _WHOLE:  # parameters without .weight or .bias
            return _WHOLE[key]
        return _WHOLE[stem] + dot + kind if stem in _WHOLE else key
    number, rest = block.groups()
    attention = _ATTENTION.match(rest)
    if attention is not None:
        which, part, kind = attention.groups()
        part = _IN_ATTENTION.get(part, part)
        return f"blocks.{number}.{_IN_BLOCK[which]}.{part}{kind}"
    for old, new in _IN_BLOCK.items():
        if rest == old or rest.startswith(old + "."):
            return f"blocks.{number}.{new}{rest[len(old) :]}"
    return key


def to_diffusers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a whole original state dict."""
    return {rename(key): tensor for key, tensor in tensors.items()}


def config_from(tensors: dict[str, Tensor], head_dim: int | None = None) -> dict:
    """The transformer config that these (diffusers-named) tensors imply.

    Args:
        tensors: a state dict, or a map of names to anything with a shape.
        head_dim: channels of one head; real Wan models all have 128, which is the default when it
            divides the width.

    Returns:
        Keyword arguments of :class:`wan_core.model.dit.WanDiT`.
    """
    shape = {k: tuple(t.shape) for k, t in tensors.items()}
    dim, in_channels, *patch = shape["patch_embedding.weight"]
    head_dim = head_dim or (128 if dim % 128 == 0 else dim)
    layers = 1 + max(int(m[1]) for k in shape if (m := _BLOCK.match(k)))
    added = shape.get("blocks.0.attn2.add_k_proj.weight")
    image = shape.get("condition_embedder.image_embedder.norm1.weight")
    position = shape.get("condition_embedder.image_embedder.pos_embed")
    return {
        "patch_size": tuple(patch),
        "num_attention_heads": dim // head_dim,
        "attention_head_dim": head_dim,
        "in_channels": in_channels,
        "out_channels": shape["proj_out.weight"][0] // (patch[0] * patch[1] * patch[2]),
        "text_dim": shape["condition_embedder.text_embedder.linear_1.weight"][1],
        "freq_dim": shape["condition_embedder.time_embedder.linear_1.weight"][1],
        "ffn_dim": shape["blocks.0.ffn.net.0.proj.weight"][0],
        "num_layers": layers,
        "cross_attn_norm": "blocks.0.norm2.weight" in shape,
        "image_dim": image[0] if image else None,
        "added_kv_proj_dim": added[1] if added else None,
        "pos_embed_seq_len": position[1] if position else None,
    }
