"""Original Wan parameter names to diffusers' names: one table, no files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")
HUMO_WINDOW, HUMO_TRACKS = 8, 5  # audio frames per latent frame, and groups of the encoder's layers

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
    "before_proj": "proj_in",
    "after_proj": "proj_out",  # VACE's branch
}

_IN_ATTENTION = {
    "q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0",
    "norm_q": "norm_q", "norm_k": "norm_k",
    "k_img": "add_k_proj", "v_img": "add_v_proj", "norm_k_img": "norm_added_k",
}  # fmt: skip

_BLOCK = re.compile(r"^((?:vace_)?blocks\.\d+)\.(.+)$")
_ATTENTION = re.compile(r"^(self_attn|cross_attn)\.([a-z_]+)(\.weight|\.bias)$")
#: Audio attention: inside the blocks (HuMo), or beside them (S2V). diffusers has no names for it.
_HEARING = re.compile(r"^(blocks\.\d+\.audio_attn|audio_injector\.injector\.\d+)\.(\w+)(\.weight|\.bias)$")
_WRAPPER = {
    ".audio_cross_attn_wrapper.norm1_audio.": ".audio_norm.",
    ".audio_cross_attn_wrapper.audio_cross_attn.": ".audio_attn.",
}


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
    for old, new in _WRAPPER.items():
        key = key.replace(old, new)
    hearing = _HEARING.match(key)
    if hearing is not None:
        where, part, kind = hearing.groups()
        return f"{where}.{_IN_ATTENTION.get(part, part)}{kind}"
    block = _BLOCK.match(key)
    if block is None:
        stem, dot, kind = key.rpartition(".")
        if key in _WHOLE:  # parameters without .weight or .bias
            return _WHOLE[key]
        return _WHOLE[stem] + dot + kind if stem in _WHOLE else key
    where, rest = block.groups()
    attention = _ATTENTION.match(rest)
    if attention is not None:
        which, part, kind = attention.groups()
        part = _IN_ATTENTION.get(part, part)
        return f"{where}.{_IN_BLOCK[which]}.{part}{kind}"
    for old, new in _IN_BLOCK.items():
        if rest == old or rest.startswith(old + "."):
            return f"{where}.{new}{rest[len(old) :]}"
    return key


def original(name: str) -> str:
    """The original name of a module or parameter, given diffusers': what :func:`rename` undoes."""
    for old, new in _WHOLE.items():
        if name == new or name.startswith(new + "."):
            return old + name[len(new) :]
    block = _BLOCK.match(name)
    if block is None:
        return name
    where, rest = block.groups()
    for old, new in _IN_BLOCK.items():
        if rest == new or rest.startswith(new + "."):
            rest = old + rest[len(new) :]
            break
    which, _, part = rest.partition(".")
    if which in ("self_attn", "cross_attn"):
        for old, new in _IN_ATTENTION.items():
            if part == new or part.startswith(new + "."):
                return f"{where}.{which}.{old}{part[len(new) :]}"
    return f"{where}.{rest}"


def to_diffusers(tensors: Mapping[str, T]) -> dict[str, T]:
    """A whole state dict, or the shapes of one, under diffusers' names, whatever it came under."""
    change = rename if is_original(set(tensors)) else strip
    return {change(key): tensor for key, tensor in tensors.items()}


def kind_of(keys: set[str]) -> str:
    """The class of trunk that parameter names speak of: "wan", "humo", "s2v", "vace" or "animate"."""
    names = {strip(k) for k in keys}
    if "pose_patch_embedding.weight" in names:
        return "animate"
    if "vace_patch_embedding.weight" in names:
        return "vace"
    if any(k.startswith("audio_proj.") for k in names):
        return "humo"
    return "s2v" if any(k.startswith("casual_audio_encoder.") for k in names) else "wan"


def config_from(tensors: Mapping[str, Tensor | tuple[int, ...]], head_dim: int | None = None) -> dict:
    """The transformer config that these (diffusers-named) tensors imply.

    Args:
        tensors: a state dict, or the shapes of one.
        head_dim: channels of one head; real Wan models all have 128, which is the default when it
            divides the width.

    Returns:
        Keyword arguments of :class:`wan_core.model.dit.WanDiT`.
    """
    shape = {k: tuple(t.shape) if isinstance(t, Tensor) else t for k, t in tensors.items()}
    dim, in_channels, *patch = shape["patch_embedding.weight"]
    head_dim = head_dim or (128 if dim % 128 == 0 else dim)
    layers = _count("blocks.", shape)
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
    } | _family_config(shape, layers)


def _count(prefix: str, keys: Iterable[str]) -> int:
    """How many modules of a list there are."""
    return 1 + max(int(k[len(prefix) :].partition(".")[0]) for k in keys if k.startswith(prefix))


def _family_config(shape: dict[str, tuple[int, ...]], layers: int) -> dict:
    """The fields that a family adds; for a plain trunk, none."""
    kind = kind_of(set(shape))
    if kind == "vace":  # no tensor says after which blocks; the published ones are spread evenly
        apart = layers // _count("vace_blocks.", shape)
        return {
            "vace_layers": tuple(range(0, layers, apart)),
            "vace_in_channels": shape["vace_patch_embedding.weight"][1],
        }
    if kind == "animate":
        return _animate_config(shape, layers)
    if kind == "humo":
        hidden, features = shape["audio_proj.audio_proj_glob_1.layer.weight"]
        (dim,) = shape["audio_proj.audio_proj_glob_norm.layer.weight"]
        # shapes tell only the product of window, tracks and channels
        return {
            "audio_channels": features // (HUMO_WINDOW * HUMO_TRACKS),
            "audio_window": HUMO_WINDOW, "audio_tracks": HUMO_TRACKS,
            "audio_hidden": hidden, "audio_dim": dim,
            "audio_tokens": shape["audio_proj.audio_proj_glob_3.layer.weight"][0] // dim,
        }  # fmt: skip
    if kind == "s2v":
        local = shape["casual_audio_encoder.encoder.conv1_local.conv.weight"]
        quarter = shape["casual_audio_encoder.encoder.conv1_global.conv.weight"][0]
        return {
            "cond_dim": shape["cond_encoder.weight"][1],
            "audio_dim": local[1],
            "num_audio_token": local[0] // quarter,
        }
    return {}


def _animate_config(shape: dict[str, tuple[int, ...]], layers: int) -> dict:
    """The fields of Wan2.2-Animate: how it sees poses and a face."""
    halvings = _count("motion_encoder.res_blocks.", shape)
    sides = [4 * 2**power for power in range(halvings, -1, -1)]  # of the face's picture, halved down to 4
    widths = [shape["motion_encoder.conv_in.weight"][0]]
    widths += [shape[f"motion_encoder.res_blocks.{i}.conv2.weight"][0] for i in range(halvings)]
    hidden = shape["face_encoder.conv2.weight"][0]
    motion, motions = shape["motion_encoder.motion_synthesis_weight"]
    return {
        "latent_channels": shape["pose_patch_embedding.weight"][1],
        "motion_encoder_channel_sizes": {str(side): width for side, width in zip(sides, widths, strict=True)},
        "motion_encoder_size": sides[0],
        "motion_style_dim": shape["motion_encoder.conv_out.weight"][0],
        "motion_dim": motions,
        "motion_encoder_dim": motion,
        "face_encoder_hidden_dim": hidden,
        "face_encoder_num_heads": shape["face_encoder.conv1_local.weight"][0] // hidden,
        "inject_face_latents_blocks": layers // _count("face_adapter.", shape),
    }
