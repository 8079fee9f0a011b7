"""What a request takes of a device's memory while it is made, and how much of that is free.

A model's own weights are not counted: they are resident. What comes on top is the transformer's
activations, the conditioning's keys and values, and the decoder's present group of frames. The figures
are fitted to measured peaks (``tests/core/test_memory.py`` holds them to those), and lean to too much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wan_core.ops import Slicing

LEAN = 8.5  # tensors of the stream's size that stand around attention
WIDE = 34  # bytes a token and channel of the same, where norms, rotations and gates make float32 copies
STREAM = 5.0  # what stands beside the feed-forward's hidden layer, in the stream's own width
HIDDEN = 1.0  # the hidden layer; GELU is taken in place
SLICE = 256 * 2**20  # of the hidden layer, where slicing helps
DECODER = {True: 12.0, False: 9.2}  # of the last layer's width times a group of frames: residual kind, 2.1 kind
ENCODER = {True: 8.8, False: 7.7}  # likewise, of its first layer's, which is always taken in float32
_CACHE = ("inactive_file ", "active_file ")
SPARE = 0.9  # of what is free: the rest is other people's, and what fragments

UNSLICED = Slicing()


@dataclass(frozen=True)
class Need:
    """Bytes beside the weights.

    Attributes:
        denoise: of one forward pass.
        decode: of one group of frames.
        slicing: what makes ``denoise`` so small.
        encode: of one group of frames that are given; 0 where none are.
    """

    denoise: float
    decode: float
    slicing: Slicing = UNSLICED
    encode: float = 0.0

    @property
    def peak(self) -> float:
        """The largest one: no two happen at once."""
        return max(self.denoise, self.decode, self.encode)


def need(
    config: Mapping[str, Any], vae: Mapping[str, Any], size: tuple[int, int], tokens: int, told: int,
    itemsize: int = 2, room: float = float("inf"), lean: bool = True,
) -> Need:  # fmt: skip
    """What one clip takes.

    Args:
        config: the transformer's.
        vae: the VAE's config.
        size: width and height, pixels.
        tokens: of one forward pass, of all branches that go through it together.
        told: tokens of text and sound whose keys and values are kept over the steps, of all branches.
        itemsize: bytes of a number.
        room: bytes that may be used; the feed-forward is sliced where that makes the clip fit.
        lean: see :func:`wan_core.ops.lean`.

    Returns:
        The bytes and the slicing.
    """
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    hints = len(config.get("vace_layers", ()))  # blocks of VACE's branch: its control, its state and one hint stand
    kept = (2 * told * (config["num_layers"] + hints) + (3 * tokens if hints else 0)) * dim * itemsize
    around = tokens * dim * (LEAN * itemsize if lean else max(WIDE, STREAM * itemsize))
    hidden = HIDDEN * tokens * config["ffn_dim"] * itemsize
    beside = tokens * dim * STREAM * itemsize
    decode = _decode(vae, size, itemsize)
    whole = kept + max(around, beside + hidden)
    if whole <= room:
        return Need(whole, decode)
    return Need(kept + max(around, beside + min(hidden, SLICE)), decode, Slicing(feed_forward=SLICE))


def _decode(vae: Mapping[str, Any], size: tuple[int, int], itemsize: int) -> float:
    """One group of frames at the decoder's full resolution, with the frames it remembers."""
    patch = vae.get("patch_size") or 1
    base = vae.get("decoder_base_dim") or vae["base_dim"]
    pixels = size[0] * size[1] / patch**2
    return DECODER[bool(vae.get("is_residual"))] * pixels * vae["scale_factor_temporal"] * base * itemsize


def encoding(vae: Mapping[str, Any], size: tuple[int, int]) -> float:
    """Bytes of one group of frames in the encoder.

    Args:
        vae: the VAE's config.
        size: width and height, pixels.
    """
    pixels = size[0] * size[1] / (vae.get("patch_size") or 1) ** 2
    return ENCODER[bool(vae.get("is_residual"))] * pixels * vae["scale_factor_temporal"] * vae["base_dim"] * 4


def free(device: str | torch.device) -> float:
    """Bytes that may still be used on a device."""
    if torch.device(device).type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return SPARE * (torch.cuda.mem_get_info(device)[0] + unused)
    return SPARE * min(_machine(), _container())


def _machine(source: Path = Path("/proc/meminfo")) -> float:
    """Memory that Linux would hand out; without that file nobody knows."""
    if source.exists():
        for line in source.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    return float("inf")


def _container(group: Path = Path("/sys/fs/cgroup")) -> float:
    """What is left of a container's own limit; files that the kernel keeps at hand give way."""
    try:
        most, used, stat = ((group / f"memory.{name}").read_text() for name in ("max", "current", "stat"))
    except OSError:
        return float("inf")
    if most.strip() == "max":
        return float("inf")
    cached = sum(float(line.split()[1]) for line in stat.splitlines() if line.startswith(_CACHE))
    return float(most) - float(used) + cached
