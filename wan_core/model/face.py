"""A face's motion, for Wan2.2-Animate: pictures of a face to a few tokens per latent frame.

Every picture becomes a point on a small basis of motions, found by a convolutional encoder; a causal
encoder over time then turns four pictures into one latent frame's tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wan_core.model.layers import after_itself, norm_silu

#: Channels by the side of the picture, as the published model has them.
CHANNELS = {"4": 512, "8": 512, "16": 512, "32": 512, "64": 256, "128": 128, "256": 64, "512": 32, "1024": 16}
_SMOOTH = (1, 3, 3, 1)  # what is halved is smoothed first


class _Bias(nn.Module):
    """A bias per channel, then a leaky ReLU that keeps the variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        return F.leaky_relu(x + self.bias[:, None, None], 0.2) * math.sqrt(2)


class _Conv(nn.Module):
    """A convolution whose weights are scaled by their fan-in where they are used."""

    def __init__(self, into: int, out: int, kernel: int, active: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, into, kernel, kernel))
        self.scale = 1 / math.sqrt(into * kernel**2)
        self.act_fn = _Bias(out) if active else nn.Identity()

    def forward(self, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        """x: (N, C, H, W)."""
        return self.act_fn(F.conv2d(x, self.weight * self.scale, stride=stride, padding=padding))


def _smooth(x: Tensor, before: int, after: int, stride: int = 1) -> Tensor:
    """Blur with :data:`_SMOOTH` both ways. x: (N, C, H, W), padded by so many pixels on its sides."""
    row = torch.tensor(_SMOOTH, dtype=torch.float32, device=x.device)
    kernel = torch.outer(row, row) / row.sum() ** 2
    kernel = kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, stride=stride, groups=x.shape[1])


class _Halve(nn.Module):
    """Two convolutions beside a direct way; both halve the picture."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv1 = _Conv(into, into, 3)
        self.conv2 = _Conv(into, out, 3)
        self.conv_skip = _Conv(into, out, 1, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) to (N, C', H/2, W/2)."""
        out = self.conv2(_smooth(self.conv1(x, padding=1), 2, 2), stride=2)
        # a 1x1 convolution with stride 2 reads every second pixel: no other needs to be smoothed
        return (out + self.conv_skip(_smooth(x, 1, 1, stride=2))) / math.sqrt(2)


class _Linear(nn.Module):
    """A linear layer whose weights are scaled by their fan-in where they are used."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, into))
        self.bias = nn.Parameter(torch.zeros(out))
        self.scale = 1 / math.sqrt(into)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C)."""
        return F.linear(x, self.weight * self.scale, self.bias)


class MotionEncoder(nn.Module):
    """A picture of a face to where it is on a basis of motions.

    Args:
        size: side of the picture, a power of 2.
        style_dim: width of what is seen.
        motion_dim: motions in the basis.
        out_dim: width of the result.
        channels: by side of the picture; :data:`CHANNELS` by default.

    Source: Wan-Video/Wan2.2 wan/modules/animate/motion_encoder.py.
    """

    def __init__(
        self,
        size: int = 512,
        style_dim: int = 512,
        motion_dim: int = 20,
        out_dim: int = 512,
        channels: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        width = channels or CHANNELS
        sides = [2**power for power in range(int(math.log2(size)), 1, -1)]  # size, ..., 8, 4
        self.conv_in = _Conv(3, width[str(size)], 1)
        self.res_blocks = nn.ModuleList(_Halve(width[str(a)], width[str(b)]) for a, b in pairwise(sides))
        self.conv_out = _Conv(width["4"], style_dim, 4, active=False)
        self.motion_network = nn.ModuleList([
            *(_Linear(style_dim, style_dim) for _ in range(4)), _Linear(style_dim, motion_dim),
        ])  # fmt: skip
        self.motion_synthesis_weight = nn.Parameter(torch.randn(out_dim, motion_dim))

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures: (N, 3, size, size) in [-1, 1]; returns (N, out_dim)."""
        x = self.conv_in(pictures.to(self.conv_in.weight.dtype))
        for block in self.res_blocks:
            x = block(x)
        x = self.conv_out(x).flatten(1)  # (N, style_dim)
        for layer in self.motion_network:
            x = layer(x)
        basis, _ = torch.linalg.qr(self.motion_synthesis_weight.float() + 1e-8)  # (out_dim, motion_dim)
        return (x.float() @ basis.T).to(x.dtype)


class FaceEncoder(nn.Module):
    """Motions of a face to tokens per latent frame, four pictures to one.

    Args:
        in_dim: width of a motion.
        out_dim: width of a token.
        hidden: width in between.
        heads: tokens per latent frame; a padding token joins them.

    Source: Wan-Video/Wan2.2 wan/modules/animate/face_blocks.py (FaceEncoder).
    """

    def __init__(self, in_dim: int, out_dim: int, hidden: int = 1024, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.conv1_local = nn.Conv1d(in_dim, hidden * heads, 3)
        self.conv2, self.conv3 = (nn.Conv1d(hidden, hidden, 3, 2) for _ in range(2))
        self.out_proj = nn.Linear(hidden, out_dim)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, 1, out_dim))

    def forward(self, motions: Tensor) -> Tensor:
        """motions: (B, F, in_dim); returns (B, ceil(F / 4), heads + 1, out_dim)."""
        batch = motions.shape[0]
        x = self.conv1_local(after_itself(motions.mT))
        x = norm_silu(x.unflatten(1, (self.heads, -1)).flatten(0, 1))  # (B * heads, hidden, F)
        for halve in (self.conv2, self.conv3):
            x = norm_silu(halve(after_itself(x)))
        x = self.out_proj(x.mT)  # (B * heads, T, out_dim)
        x = x.unflatten(0, (batch, self.heads)).transpose(1, 2)  # (B, T, heads, out_dim)
        pad = self.padding_tokens.expand(batch, x.shape[1], 1, -1)
        return torch.cat([x, pad.to(x)], dim=2)
