"""What a device computes in, and what large weights are kept in beside that.

bfloat16 is several times faster than float32 where a processor has units for it, and many times slower where it
has none: on two AVX2 cores the built-in model's clip takes 2.3 s in float32 and 176 s in bfloat16, nearly all of
that in the VAE's convolutions.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
LARGE = 10**9  # parameters, above which a transformer and its text encoder are not widened unasked


@dataclass(frozen=True)
class Precision:
    """The types of one model.

    Attributes:
        compute: of the transformer's arithmetic, the VAE and the small encoders.
        storage: what the transformer's large weights are kept in.
        text: of the text encoder.
    """

    compute: torch.dtype
    storage: torch.dtype
    text: torch.dtype

    @property
    def told(self) -> str:
        """How the weights are kept, where that is not how they compute; or empty."""
        return "" if self.storage == self.compute else str(self.storage).removeprefix("torch.")


def native(device: torch.device) -> torch.dtype:
    """The shortest type that a device has units for: bfloat16, or float32 on a CPU that would emulate it."""
    if device.type != "cpu":
        return torch.bfloat16
    x86 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    arm = platform.machine().lower() in ("arm64", "aarch64") and _arm_bf16()
    return torch.bfloat16 if x86 or arm else torch.float32


def _arm_bf16() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def choose(device: torch.device, parameters: int, asked: torch.dtype | None = None) -> Precision:
    """The types of a model on a device.

    Args:
        device: where it computes.
        parameters: of one of its transformers.
        asked: float types are taken as they are, for everything; an fp8 type is what the large weights
            are kept in; None leaves the choice to the device.

    Returns:
        The types. A large transformer that must compute in float32 stays in bfloat16, cast layer by layer: twice
        its memory would be lost otherwise, and the cast costs little beside the layer's product. Its text
        encoder, which runs once a prompt, computes in bfloat16 however slowly.
    """
    if asked is not None and asked not in FP8:
        return Precision(asked, asked, asked)
    compute = native(device)
    text = torch.bfloat16 if parameters > LARGE else compute
    return Precision(compute, asked or text, text)
