"""Pictures to CLIP features, for the Wan 2.1 image models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def features(pictures: list[Any], processor: Any, encoder: nn.Module) -> Tensor:
    """The penultimate hidden states of CLIP's vision tower.

    Args:
        pictures: one PIL image, or first and last.
        processor: a ``CLIPImageProcessor``.
        encoder: a ``CLIPVisionModel``.

    Returns:
        (len(pictures), tokens, image_dim).

    Source: huggingface/diffusers src/diffusers/pipelines/wan/pipeline_wan_i2v.py (encode_image).
    """
    pixels = processor(images=pictures, return_tensors="pt").pixel_values
    weight = next(encoder.parameters())
    return encoder(pixels.to(weight.device, weight.dtype), output_hidden_states=True).hidden_states[-2]
