"""What a settled request costs, known before anything is spent: tokens, passes, arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wan_core.types import Geometry, Settled

TEXT_TOKENS = 512


@dataclass(frozen=True)
class Plan:
    """A settled request and its price.

    Attributes:
        settled: what will be made.
        model: the name of what makes it.
        tokens: that one forward pass reads.
        passes: forward passes in all.
        flops: of all passes; the text encoder and the VAE come on top.
    """

    settled: Settled
    model: str
    tokens: int
    passes: int
    flops: float


def plan(settled: Settled, model: str, geometry: Geometry, config: Mapping[str, Any], longest: int) -> Plan:
    """Price a request.

    Args:
        settled: what will be made.
        model: the name of what makes it.
        geometry: its grid.
        config: its transformer's.
        longest: latent frames that it denoises at once; longer videos are several stretches.

    Returns:
        The plan.
    """
    frames = geometry.latent_frames(settled.num_frames)
    stretches, frames = math.ceil(frames / longest), min(frames, longest)
    one, _ = geometry.tokens(1, settled.height, settled.width)
    tokens = one * frames // geometry.patch[0]
    branches = 3 if settled.mode == "reference" else 2
    if settled.mode != "reference" and max(settled.guidance_scale, settled.guidance_scale_2) <= 1:
        branches = 1
    passes = settled.num_inference_steps * branches * stretches
    return Plan(settled, model, tokens, passes, passes * forward_flops(config, tokens))


def forward_flops(config: Mapping[str, Any], tokens: int) -> float:
    """Multiplications and additions of one forward pass, those of the blocks.

    Args:
        config: with num_attention_heads, attention_head_dim, ffn_dim and num_layers.
        tokens: L.
    """
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    linear = 12 * tokens * dim**2 + 4 * tokens * dim * config["ffn_dim"]  # projections, feed-forward
    attention = 4 * tokens**2 * dim + 4 * tokens * TEXT_TOKENS * dim + 4 * TEXT_TOKENS * dim**2
    return float(config["num_layers"] * (linear + attention))
