"""What the pipeline works with: a model's parts, a request's material, and the shots it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from wan_core.condition import Conditioning, Footage, Sound
from wan_core.condition.picture import to_tensor
from wan_core.memo import Memo
from wan_core.model.codec import Codec
from wan_core.model.dit import WanDiT
from wan_core.sample.guide import Guide
from wan_core.specs import ModelSpec
from wan_core.types import Geometry, Settled


@dataclass
class Parts:
    """A model's components, as loaded.

    Attributes:
        spec: what it is and how to sample it.
        experts: the transformer, or the high-noise and the low-noise one.
        codec: the VAE.
        tokenizer: a transformers tokenizer.
        text_encoder: a ``UMT5EncoderModel``.
        vision: CLIP's processor and encoder, for models with an image branch.
        hearing: a speech encoder's processor and encoder, for models that listen.
        memo: where embedded prompts and heard voices are kept.
        device: where it computes.
        storage: how the transformer's weights are kept, where that is not how it computes; or empty.
    """

    spec: ModelSpec
    experts: list[WanDiT]
    codec: Codec
    tokenizer: Any
    text_encoder: torch.nn.Module
    vision: tuple[Any, torch.nn.Module] | None = None
    hearing: tuple[Any, torch.nn.Module] | None = None
    memo: Memo = field(default_factory=Memo)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    storage: str = ""

    @property
    def geometry(self) -> Geometry:
        """The model's grid."""
        config = self.experts[0].config
        return Geometry(self.codec.spatial, self.codec.temporal, tuple(config["patch_size"]), config["out_channels"])


@dataclass(frozen=True)
class Material:
    """A request, read and checked.

    Attributes:
        settled: every choice made.
        pictures: fitted to the frame: first and last, or references.
        sound: as long as the video, or None.
        footage: a video to follow or to change, or None.
    """

    settled: Settled
    pictures: list[Image.Image]
    sound: Sound | None = None
    footage: Footage | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """The pictures, (1, 3, H, W) in [-1, 1] each."""
        return [to_tensor(picture) for picture in self.pictures]


@dataclass(frozen=True)
class Shot:
    """One clip to denoise and decode; most videos are one.

    Attributes:
        conditioning: what the model is told.
        frames: latent frames T, references behind them not counted.
        seed: of its noise.
        take: pixel frames of it that the video gets.
        skip: decoded frames to leave out in front of those.
        before: (1, C, t, h, w) latents decoded in front of it, or None.
        guide: a guidance formula of its own, or None for classifier-free.
        clip: its number.
        clips: how many there are.
    """

    conditioning: Conditioning
    frames: int
    seed: int
    take: int
    skip: int = 0
    before: Tensor | None = None
    guide: Guide | None = None
    clip: int = 0
    clips: int = 1
