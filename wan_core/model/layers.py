"""The layers of the trunk, named so that their parameters carry diffusers' keys.

Only parameters live in these modules; the arithmetic goes through ``wan_core.ops``.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wan_core import ops
from wan_core.model.rope import Rope


class KeyValue(NamedTuple):
    """Keys and values of one set of conditioning tokens.

    Attributes:
        key: (B, S, H, D), normalised.
        value: (B, S, H, D).
        bias: (B, 1, 1, S), added to the scores: the logarithm of how many equal tokens each one
            stands for; or None where each stands for itself.
    """

    key: Tensor
    value: Tensor
    bias: Tensor | None = None


class Tokens(NamedTuple):
    """Embedded conditioning tokens, from which every block makes its own keys and values.

    Attributes:
        text: (B, S, C).
        image: (B, N, C) or None.
        bias: as in :class:`KeyValue`, for the text.
    """

    text: Tensor
    image: Tensor | None = None
    bias: Tensor | None = None


class AffineNorm(nn.Module):
    """LayerNorm with gain and bias, in float32 whatever the activations are."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., dim), any float dtype; the same comes back."""
        return ops.layer_norm(x, self.weight, self.bias, self.eps)


class HeadNorm(nn.Module):
    """The gain of the RMS norm on queries or keys; applied together with the rotation."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, heads: int, rope: Rope | None) -> Tensor:
        """x: (B, L, C) to (B, L, H, D), normalised and, given tables, rotated."""
        return ops.norm_rope(x, self.weight, self.eps, heads, rope)


class Attention(nn.Module):
    """Projections and norms of one attention.

    Args:
        dim: width of queries and results.
        heads: heads H.
        eps: floor of the norms.
        added_dim: width of an image's tokens, which get keys and values of their own, or None.
        context_dim: width of the tokens that keys and values are made of; ``dim`` by default.
    """

    def __init__(
        self, dim: int, heads: int, eps: float, added_dim: int | None = None, context_dim: int | None = None
    ) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(context_dim or dim, dim)
        self.to_v = nn.Linear(context_dim or dim, dim)
        # index 1 is diffusers' dropout, which has no parameters and does nothing at inference
        self.to_out = nn.ModuleList([nn.Linear(dim, dim), nn.Identity()])
        self.norm_q = HeadNorm(dim, eps)
        self.norm_k = HeadNorm(dim, eps)
        self.add_k_proj = self.add_v_proj = self.norm_added_k = None
        if added_dim is not None:
            self.add_k_proj = nn.Linear(added_dim, dim)
            self.add_v_proj = nn.Linear(added_dim, dim)
            self.norm_added_k = HeadNorm(dim, eps)

    def attend_self(self, x: Tensor, rope: Rope, budget: int | None) -> Tensor:
        """Self-attention over a sequence. x: (B, L, C)."""
        query = self.norm_q(self.to_q(x), self.heads, rope)
        key = self.norm_k(self.to_k(x), self.heads, rope)
        value = self.to_v(x).unflatten(-1, (self.heads, -1))
        return self.to_out[0](ops.attention(query, key, value, budget=budget).flatten(2))

    def keys_values(self, tokens: Tokens) -> tuple[KeyValue, ...]:
        """Keys and values of the conditioning tokens: text first, then the image's if any."""
        pairs = [KeyValue(
            self.norm_k(self.to_k(tokens.text), self.heads, None),
            self.to_v(tokens.text).unflatten(-1, (self.heads, -1)),
            tokens.bias,
        )]  # fmt: skip
        if tokens.image is not None and self.add_k_proj is not None:
            assert self.add_v_proj is not None
            assert self.norm_added_k is not None
            pairs.append(KeyValue(
                self.norm_added_k(self.add_k_proj(tokens.image), self.heads, None),
                self.add_v_proj(tokens.image).unflatten(-1, (self.heads, -1)),
            ))  # fmt: skip
        return tuple(pairs)

    def attend_context(self, x: Tensor, pairs: tuple[KeyValue, ...], budget: int | None) -> Tensor:
        """Cross-attention to each set of keys and values apart, summed. x: (B, L, C)."""
        query = self.norm_q(self.to_q(x), self.heads, None)
        out = ops.attention(query, *pairs[0], budget=budget)
        for pair in pairs[1:]:
            out = out + ops.attention(query, *pair, budget=budget)
        return self.to_out[0](out.flatten(2))

    def attend_frames(self, x: Tensor, heard: KeyValue, budget: int | None) -> Tensor:
        """Cross-attention in which every latent frame sees only its own tokens.

        Args:
            x: (B, T * n, C), frame after frame.
            heard: keys and values, (B * T, S, H, D).
            budget: bytes of scores in flight, or None.

        Returns:
            (B, T * n, C).
        """
        frames = heard.key.shape[0] // x.shape[0]
        rows = x.unflatten(1, (frames, -1)).flatten(0, 1)  # (B * T, n, C)
        return self.attend_context(rows, (heard,), budget).view_as(x)


class _Gelu(nn.Module):
    """Holds the first projection of a feed-forward under diffusers' key ``net.0.proj``."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, hidden)


class FeedForward(nn.Module):
    """Linear, GELU, linear under diffusers' keys ``net.0.proj`` and ``net.2``."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.net = nn.ModuleList([_Gelu(dim, hidden), nn.Identity(), nn.Linear(hidden, out or dim)])

    @property
    def up(self) -> nn.Linear:
        """The first projection."""
        return cast("_Gelu", self.net[0]).proj

    def forward(self, x: Tensor, budget: int | None = None) -> Tensor:
        """x: (B, L, C)."""
        return ops.feed_forward(x, self.up, self.net[2], budget)


class TwoLinears(nn.Module):
    """Two linear layers under diffusers' keys ``linear_1`` and ``linear_2``."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(dim_in, dim_out)
        self.linear_2 = nn.Linear(dim_out, dim_out)


class ImageEmbedder(nn.Module):
    """CLIP features to trunk width: norm, exact-GELU feed-forward, norm."""

    def __init__(self, dim_in: int, dim: int, pos_embed_seq_len: int | None, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = AffineNorm(dim_in, eps)
        self.ff = FeedForward(dim_in, dim_in, dim)
        self.norm2 = AffineNorm(dim, eps)
        self.pos_embed = None
        if pos_embed_seq_len is not None:
            self.pos_embed = nn.Parameter(torch.zeros(1, pos_embed_seq_len, dim_in))

    def forward(self, image: Tensor) -> Tensor:
        """image: (B, N, dim_in), or (2B, N, dim_in) for first and last frame; to (B, N or 2N, dim)."""
        if self.pos_embed is not None:
            image = image.reshape(-1, 2 * image.shape[1], image.shape[2]) + self.pos_embed
        x = self.norm1(image)
        x = self.ff.net[2](F.gelu(self.ff.up(x)))
        return self.norm2(x)


class PatchEmbedding(nn.Conv3d):
    """A convolution whose stride is its kernel, as the one matrix product it is.

    Still a ``Conv3d`` that is called, so that LoRA, offload and quantisation hooks find it.
    """

    def forward(self, latents: Tensor) -> Tensor:
        """latents: (B, C, T, H, W); returns (B, dim, T/pt, H/ph, W/pw), what overhangs cut off."""
        (b, c, *size), (pt, ph, pw) = latents.shape, self.kernel_size
        t, h, w = size[0] // pt, size[1] // ph, size[2] // pw
        x = latents[:, :, : t * pt, : h * ph, : w * pw].reshape(b, c, t, pt, h, ph, w, pw)
        x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, t, h, w, c * pt * ph * pw)
        return F.linear(x, self.weight.flatten(1), self.bias).permute(0, 4, 1, 2, 3)


class ConditionEmbedder(nn.Module):
    """Timestep, text and image to trunk width."""

    def __init__(
        self, dim: int, freq_dim: int, text_dim: int, image_dim: int | None, pos_embed_seq_len: int | None
    ) -> None:
        super().__init__()
        self.freq_dim = freq_dim
        self.time_embedder = TwoLinears(freq_dim, dim)
        self.time_proj = nn.Linear(dim, 6 * dim)
        self.text_embedder = TwoLinears(text_dim, dim)
        self.image_embedder = None
        if image_dim is not None:
            self.image_embedder = ImageEmbedder(image_dim, dim, pos_embed_seq_len)

    def time(self, timesteps: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Embed distinct timesteps, in float32 until the trunk's dtype.

        Args:
            timesteps: (B, U), 0 to 1000.
            dtype: the trunk's dtype.

        Returns:
            The embedding (B, U, C) for the head and the table (B, U, 6, C) for the blocks.
        """
        embedder = self.time_embedder
        x = sinusoid(timesteps, self.freq_dim).to(embedder.linear_1.weight.dtype)
        x = embedder.linear_2(F.silu(embedder.linear_1(x))).to(dtype)
        return x, self.time_proj(F.silu(x)).unflatten(-1, (6, -1))

    def text(self, text: Tensor) -> Tensor:
        """text: (B, S, text_dim) to (B, S, C)."""
        embedder = self.text_embedder
        return embedder.linear_2(F.gelu(embedder.linear_1(text), approximate="tanh"))


def after_itself(x: Tensor) -> Tensor:
    """Room in front for a causal convolution of width 3, filled with the first sample. x: (B, C, F)."""
    return F.pad(x, (2, 0), mode="replicate")


def norm_silu(x: Tensor) -> Tensor:
    """LayerNorm without gain over channels, then SiLU. x: (B, C, F)."""
    return F.silu(F.layer_norm(x.mT, x.shape[1:2], eps=1e-6)).mT


def sinusoid(timesteps: Tensor, channels: int) -> Tensor:
    """Cosines, then sines, of a timestep at geometric frequencies.

    Args:
        timesteps: (...,), 0 to 1000.
        channels: width of the result, even.

    Returns:
        (..., channels) float32.

    Source: Wan-Video/Wan2.1 wan/modules/model.py (sinusoidal_embedding_1d).
    """
    half = channels // 2
    # float32 as in diffusers: in float64, as the official code has it, the phase at high
    # frequencies differs by 1e-4, and both stay within the golden tolerance
    powers = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[..., None] * torch.exp(-math.log(10000.0) * powers)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
