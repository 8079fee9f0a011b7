"""The official UMT5 and VAE files under the libraries' names, and the configs their shapes imply."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

# --- UMT5 -------------------------------------------------------------------------------------

_T5_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+)\.weight$")
_IN_T5_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}


def text_name(key: str) -> str:
    """The name in transformers of one parameter of the official UMT5 encoder; unknown names come back unchanged."""
    if key == "token_embedding.weight":
        return "shared.weight"
    if key == "norm.weight":
        return "encoder.final_layer_norm.weight"
    block = _T5_BLOCK.match(key)
    if block is None or block[2] not in _IN_T5_BLOCK:
        return key
    return f"encoder.block.{block[1]}.{_IN_T5_BLOCK[block[2]]}.weight"


#: GGUF's names for the same, as llama.cpp has them.
_GGUF_BLOCK = re.compile(r"^enc\.blk\.(\d+)\.(.+)\.weight$")
_IN_GGUF_BLOCK = {
    "attn_norm": "norm1", "attn_q": "attn.q", "attn_k": "attn.k", "attn_v": "attn.v", "attn_o": "attn.o",
    "attn_rel_b": "pos_embedding.embedding", "ffn_norm": "norm2", "ffn_gate": "ffn.gate.0", "ffn_up": "ffn.fc1",
    "ffn_down": "ffn.fc2",
}  # fmt: skip
_WHOLE_TEXT = {
    "shared.weight": "token_embedding.weight", "token_embd.weight": "token_embedding.weight",
    "encoder.final_layer_norm.weight": "norm.weight", "enc.output_norm.weight": "norm.weight",
}  # fmt: skip
_T5_LAYER = re.compile(r"^encoder\.block\.(\d+)\.(.+)\.weight$")
_OF_T5_LAYER = {new: old for old, new in _IN_T5_BLOCK.items()}


def official_text_name(key: str) -> str:
    """The official name of one parameter: single files hold these, the library's, or GGUF's."""
    if key in _WHOLE_TEXT:
        return _WHOLE_TEXT[key]
    block = _GGUF_BLOCK.match(key)
    if block is not None and block[2] in _IN_GGUF_BLOCK:
        return f"blocks.{block[1]}.{_IN_GGUF_BLOCK[block[2]]}.weight"
    layer = _T5_LAYER.match(key)
    if layer is None or layer[2] not in _OF_T5_LAYER:
        return key
    return f"blocks.{layer[1]}.{_OF_T5_LAYER[layer[2]]}.weight"


def text_config(shapes: Shapes) -> dict[str, Any]:
    """Keyword arguments of transformers' ``UMT5Config``.

    Args:
        shapes: of an official encoder's tensors, under their own names.

    Raises:
        KeyError: naming a tensor that is missing.
    """
    vocabulary, width = shapes["token_embedding.weight"]
    buckets, heads = shapes["blocks.0.pos_embedding.embedding.weight"]
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "num_heads": heads,
        "d_kv": shapes["blocks.0.attn.q.weight"][0] // heads,
        "d_ff": shapes["blocks.0.ffn.fc1.weight"][0],
        "num_layers": 1 + max(int(m[1]) for k in shapes if (m := _T5_BLOCK.match(k))),
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
    }


# --- VAE --------------------------------------------------------------------------------------

_SIDE = {
    "conv1.": "conv_in.",
    "middle.0.": "mid_block.resnets.0.",
    "middle.1.": "mid_block.attentions.0.",
    "middle.2.": "mid_block.resnets.1.",
    "head.0.": "norm_out.",
    "head.2.": "conv_out.",
}
_RESIDUAL = {
    "residual.0.": "norm1.",
    "residual.2.": "conv1.",
    "residual.3.": "norm2.",
    "residual.6.": "conv2.",
    "shortcut.": "conv_shortcut.",
}
_NESTED = re.compile(r"^(down|up)samples\.(\d+)\.\1samples\.(\d+)\.(.+)$")
_FLAT = re.compile(r"^(down|up)samples\.(\d+)\.(.+)$")
_ONE = re.compile(r"^encoder\.downsamples\.(\d+)\.residual\.6\.weight$")
_TWO = re.compile(r"^encoder\.downsamples\.(\d+)\.downsamples\.(\d+)\.residual\.6\.weight$")
#: The 2.2 VAE's latents, whose mean and spread no tensor tells (diffusers has those of 2.1 as defaults).
LATENTS_MEAN_22 = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)  # fmt: skip
LATENTS_STD_22 = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)  # fmt: skip


def vae_name(key: str, residuals: int) -> str:
    """The name in diffusers of one parameter of an official VAE; unknown names come back unchanged.

    Args:
        key: the official name.
        residuals: residual blocks per stage of the encoder.
    """
    if key.startswith(("conv1.", "conv2.")):
        return ("quant_conv." if key[4] == "1" else "post_quant_conv.") + key[6:]
    side, _, rest = key.partition(".")
    for old, new in _SIDE.items():
        if rest.startswith(old):
            return f"{side}.{_in_residual(new + rest[len(old) :])}"
    if nested := _NESTED.match(rest):
        way, stage, place, last = nested.groups()
        resampler = last.startswith(("resample.", "time_conv."))
        where = f"{way}sampler" if resampler else f"resnets.{place}"
        return f"{side}.{way}_blocks.{stage}.{where}.{_in_residual(last)}"
    if flat := _FLAT.match(rest):
        way, place, last = flat.groups()
        if way == "down":
            return f"{side}.down_blocks.{place}.{_in_residual(last)}"
        stage, within = divmod(int(place), residuals + 2)  # the decoder has one more, then the resampler
        where = "upsamplers.0" if within > residuals else f"resnets.{within}"
        return f"{side}.up_blocks.{stage}.{where}.{_in_residual(last)}"
    return key


def _in_residual(name: str) -> str:
    for old, new in _RESIDUAL.items():
        name = name.replace(old, new)
    return name


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Keyword arguments of diffusers' ``AutoencoderKLWan``.

    Args:
        shapes: of an official VAE's tensors, under their own names.

    Raises:
        KeyError: naming a tensor that is missing.
    """
    base, pixels = shapes["encoder.conv1.weight"][:2]
    nested = any(_NESTED.match(k.partition(".")[2]) for k in shapes)
    stages = _stages(shapes, nested)
    config = {
        "base_dim": base,
        "z_dim": shapes["conv2.weight"][0],
        "dim_mult": [stage.width // base for stage in stages],
        "num_res_blocks": stages[0].blocks,
        "temperal_downsample": [stage.halves_time for stage in stages[:-1]],
    }
    if nested:
        patch = round((pixels // 3) ** 0.5)
        config |= {
            "is_residual": True, "in_channels": pixels, "out_channels": pixels, "patch_size": patch,
            "decoder_base_dim": shapes["decoder.conv1.weight"][0] // config["dim_mult"][-1],
            "scale_factor_spatial": patch * 2 ** (len(stages) - 1),
            "latents_mean": list(LATENTS_MEAN_22), "latents_std": list(LATENTS_STD_22),
        }  # fmt: skip
    return config


@dataclass(frozen=True)
class _Stage:
    """One resolution of the encoder: residual blocks, their width, and whether time is halved after it."""

    blocks: int
    width: int
    halves_time: bool


def _stages(shapes: Shapes, nested: bool) -> list[_Stage]:
    found: dict[int, list[tuple[int, ...]]] = {}
    numbers = {tuple(map(int, m.groups())) for k in shapes if (m := (_TWO if nested else _ONE).match(k))}
    for i, number in enumerate(sorted(numbers)):
        # in the flat list every resampler leaves a gap between the residual blocks' numbers
        found.setdefault(number[0] if nested else number[0] - i, []).append(number)
    if not found:
        raise KeyError("encoder.downsamples.0.residual.6.weight")
    stages = []
    for blocks in found.values():
        *stage, last = blocks[-1]
        last_block, resampler = (_path((*stage, n)) for n in (last, last + 1))
        width = shapes[f"{last_block}.residual.6.weight"][0]
        stages.append(_Stage(len(blocks), width, f"{resampler}.time_conv.weight" in shapes))
    return stages


def _path(numbers: tuple[int, ...]) -> str:
    return "encoder." + ".".join(f"downsamples.{n}" for n in numbers)
