"""WanDiT: the Wan video transformer, 2.1 and 2.2, as one class in three parts.

``embed`` turns inputs into tokens and tables, ``trunk`` runs the blocks, ``head`` turns tokens back
into a velocity; a step cache fits between them. Config fields and parameter names are those of
``diffusers.WanTransformer3DModel``, so its checkpoints, pipelines and tools apply unchanged.

Timesteps are handled as *segments*: the few distinct values along a sequence and how many tokens
hold each. One in text mode, two where the first frame is clean. Nothing is computed per token that
is the same for all tokens of a segment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import FromOriginalModelMixin, PeftAdapterMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import apply_lora_scale
from torch import Tensor, nn

from wan_core import ops
from wan_core.model import rope as rope_tables
from wan_core.model.layers import (
    AffineNorm,
    Attention,
    ConditionEmbedder,
    FeedForward,
    KeyValue,
    PatchEmbedding,
    Tokens,
)
from wan_core.model.rope import Rope
from wan_core.ops import Slicing

After = Callable[[int, Tensor], Tensor]
#: Hands out blocks one after another, each fit to compute with until the next is asked for. Whoever places a
#: model's weights may put one in the place of ``iter``; all access to blocks' weights goes through it.
Walk = Callable[[Sequence[Any]], Iterator[Any]]


@dataclass(frozen=True)
class Context:
    """What does not change over the steps: conditioning keys and values of every block.

    Attributes:
        pairs: per block, keys and values of the text and, with an image branch, of the image.
        heard: per block, keys and values of the audio, frame by frame; empty without audio.
    """

    pairs: tuple[tuple[KeyValue, ...], ...]
    heard: tuple[KeyValue, ...] = ()


@dataclass(frozen=True)
class Embedded:
    """Everything the trunk and the head need for one step.

    Attributes:
        tokens: (B, L, C).
        time: (B, U, C), the head's timestep embedding.
        table: (B, U, 6, C), the blocks' modulation before each block adds its own.
        lengths: U token counts that sum to L.
        rope: cos and sin, each (L, D/2).
        grid: patches in time, height and width.
    """

    tokens: Tensor
    time: Tensor
    table: Tensor
    lengths: tuple[int, ...]
    rope: Rope
    grid: tuple[int, int, int]


class WanBlock(nn.Module):
    """Self-attention, cross-attention to the conditioning, feed-forward.

    ``audio_norm`` and ``audio_attn`` exist where a family listens inside its blocks (HuMo).
    """

    audio_norm: AffineNorm | None
    audio_attn: Attention | None

    def __init__(
        self, dim: int, ffn_dim: int, heads: int, cross_attn_norm: bool, eps: float, added_dim: int | None
    ) -> None:
        super().__init__()
        self.eps = eps
        self.attn1 = Attention(dim, heads, eps)
        self.attn2 = Attention(dim, heads, eps, added_dim)
        self.norm2 = AffineNorm(dim, eps) if cross_attn_norm else nn.Identity()
        self.audio_norm = self.audio_attn = None
        self.ffn = FeedForward(dim, ffn_dim)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(
        self,
        x: Tensor,
        context: tuple[KeyValue, ...] | Tokens,
        table: Tensor,
        lengths: tuple[int, ...],
        rope: Rope,
        slicing: Slicing,
        heard: KeyValue | None = None,
    ) -> Tensor:
        """Run the block.

        Args:
            x: (B, L, C).
            context: keys and values from :meth:`WanDiT.context`, or the embedded tokens from which
                they are made here.
            table: (B, U, 6, C), see :class:`Embedded`.
            lengths: U token counts that sum to L.
            rope: cos and sin, each (L, D/2).
            slicing: budgets for large temporaries.
            heard: the audio's keys and values, (B * T, S, H, D), or None.

        Returns:
            (B, L, C).
        """
        rows = self.scale_shift_table[:, None].float() + table.float()  # (B, U, 6, C)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = rows.unbind(2)  # (B, U, C) each

        normed = ops.modulate(x, shift, scale, lengths, self.eps)
        branch = self.attn1.attend_self(normed, rope, slicing.attention)
        x = ops.gate_residual(x, branch, gate, lengths)

        pairs = self.attn2.keys_values(context) if isinstance(context, Tokens) else context
        branch = self.attn2.attend_context(self.norm2(x), pairs, slicing.attention)
        if heard is not None and self.audio_norm is not None and self.audio_attn is not None:
            x = x + branch
            branch = self.audio_attn.attend_frames(self.audio_norm(x), heard, slicing.attention)

        x, normed = ops.residual_modulate(x, branch, None, ffn_shift, ffn_scale, lengths, self.eps)
        return ops.gate_residual(x, self.ffn(normed, slicing.feed_forward), ffn_gate, lengths)


class WanDiT(ModelMixin, ConfigMixin, PeftAdapterMixin, FromOriginalModelMixin, CacheMixin):
    """The Wan transformer for text, 36-channel image, CLIP image, first-last and TI2V models.

    Args:
        patch_size: patch in (time, height, width).
        num_attention_heads: heads H.
        attention_head_dim: channels of one head D.
        in_channels: latent channels in, conditioning channels included.
        out_channels: latent channels out.
        text_dim: width of the text encoder.
        freq_dim: width of the timestep sinusoid.
        ffn_dim: hidden width of the feed-forward.
        num_layers: blocks.
        cross_attn_norm: norm before cross-attention.
        qk_norm: only "rms_norm_across_heads" exists.
        eps: floor of the norms.
        image_dim: width of CLIP features, or None.
        added_kv_proj_dim: width of the image tokens in cross-attention, or None.
        rope_max_seq_len: accepted for configs; positions here have no limit.
        pos_embed_seq_len: tokens of the first-last position embedding, or None.

    Source: Wan-Video/Wan2.2 wan/modules/model.py; config and keys from
    huggingface/diffusers src/diffusers/models/transformers/transformer_wan.py.
    """

    # what diffusers' loading, compiling, offloading and casting look for
    _supports_gradient_checkpointing = False
    _skip_layerwise_casting_patterns: ClassVar = ["patch_embedding", "condition_embedder", "norm"]
    _no_split_modules: ClassVar = ["WanBlock"]
    _repeated_blocks: ClassVar = ["WanBlock"]
    _keep_in_fp32_modules: ClassVar = ["time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"]
    _keys_to_ignore_on_load_unexpected: ClassVar = ["norm_added_q"]

    @register_to_config
    def __init__(  # noqa: PLR0913 - the config fields are diffusers'
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",  # noqa: ARG002 - a field of every config
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,  # noqa: ARG002 - likewise
        pos_embed_seq_len: int | None = None,
    ) -> None:
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        self.patch_embedding = PatchEmbedding(in_channels, dim, patch_size, patch_size)
        self.condition_embedder = ConditionEmbedder(dim, freq_dim, text_dim, image_dim, pos_embed_seq_len)
        self.blocks = nn.ModuleList(
            WanBlock(dim, ffn_dim, num_attention_heads, cross_attn_norm, eps, added_kv_proj_dim)
            for _ in range(num_layers)
        )
        self.proj_out = nn.Linear(dim, out_channels * math.prod(patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.slicing = Slicing()
        self.walk: Walk = iter

    @property
    def _layers(self) -> list[WanBlock]:
        return cast("list[WanBlock]", list(self.blocks))

    # --- once per request ---------------------------------------------------------------------

    def context(self, text: Tensor, image: Tensor | None = None, bias: Tensor | None = None) -> Context:
        """Compute every block's conditioning keys and values.

        Blocks must be resident or placed: under diffusers' group offload, use :meth:`tokens` instead.

        Args:
            text: (B, S, text_dim).
            image: (B, N, image_dim) CLIP features, or None.
            bias: (B, 1, 1, S), see :class:`wan_core.model.layers.KeyValue`, or None.

        Returns:
            The context, to pass to :meth:`trunk` at every step.
        """
        tokens = self.tokens(text, image, bias)
        return Context(tuple(block.attn2.keys_values(tokens) for block in self.walk(self._layers)))

    def tokens(self, text: Tensor, image: Tensor | None = None, bias: Tensor | None = None) -> Tokens:
        """Embed the conditioning tokens; arguments as in :meth:`context`."""
        embedder = self.condition_embedder
        seen = None
        if image is not None and embedder.image_embedder is not None:
            seen = embedder.image_embedder(image)
        return Tokens(embedder.text(text), seen, bias)

    # --- once per step ------------------------------------------------------------------------

    def embed(
        self,
        latents: Tensor,
        timesteps: Tensor,
        lengths: tuple[int, ...],
        dtype: torch.dtype | None = None,
        context: Context | Tokens | None = None,  # noqa: ARG002 - for families with tokens beside the video's
    ) -> Embedded:
        """Latents and timesteps to tokens and tables.

        Args:
            latents: (B, in_channels, T, h, w).
            timesteps: (B, U), the distinct timesteps in the order of their segments, 0 to 1000.
            lengths: U token counts that sum to L.
            dtype: the trunk's dtype; the patch embedding's by default.
            context: the conditioning, for families that put tokens of it beside the video's.

        Returns:
            What :meth:`trunk` and :meth:`head` need.
        """
        ops.ready(latents.device)
        patches = self.patch_embedding(latents)  # (B, C, t, h, w)
        t, h, w = patches.shape[2:]
        grid = (t, h, w)
        # a copy: blocks pass each other fresh, contiguous tensors, and a compiled one takes a view for another shape
        tokens = patches.flatten(2).transpose(1, 2).clone(memory_format=torch.contiguous_format)  # (B, L, C)
        time, table = self.condition_embedder.time(timesteps, dtype or tokens.dtype)
        rope = rope_tables.tables(self.config["attention_head_dim"], grid, str(latents.device))
        return Embedded(tokens, time, table, lengths, rope, grid)

    def trunk(self, embedded: Embedded, context: Context | Tokens, after: After | None = None) -> Tensor:
        """Run the blocks.

        Args:
            embedded: this step's tokens and tables.
            context: from :meth:`context` or :meth:`tokens`.
            after: what a family does to the tokens after each block, given its number.

        Returns:
            (B, L, C) tokens.
        """
        x = embedded.tokens
        for i, block in enumerate(self.walk(self._layers)):
            pairs, heard = context, None
            if isinstance(context, Context):
                pairs, heard = context.pairs[i], context.heard[i] if context.heard else None
            x = block(x, pairs, embedded.table, embedded.lengths, embedded.rope, self.slicing, heard)
            if after is not None:
                x = after(i, x)
        return x

    def head(self, x: Tensor, embedded: Embedded) -> Tensor:
        """Tokens to a velocity. x: (B, L, C); returns (B, out_channels, T, h, w)."""
        rows = self.scale_shift_table[:, None].float() + embedded.time.float()[:, :, None]
        shift, scale = rows.unbind(2)  # (B, U, C) each
        x = self.proj_out(ops.modulate(x, shift, scale, embedded.lengths, self.config["eps"]))
        (t, h, w), (pt, ph, pw) = embedded.grid, self.config["patch_size"]
        x = x.reshape(x.shape[0], t, h, w, pt, ph, pw, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(x.shape[0], -1, t * pt, h * ph, w * pw)

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,  # noqa: ARG002 - read by the decorator
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict a velocity, with the signature of ``diffusers.WanTransformer3DModel``.

        Args:
            hidden_states: (B, in_channels, T, h, w).
            timestep: (B,), or (B, L) with one timestep per token, 0 to 1000.
            encoder_hidden_states: (B, S, text_dim).
            encoder_hidden_states_image: (B, N, image_dim) or None.
            return_dict: wrap the result.
            attention_kwargs: ``{"scale": s}`` sets the strength of loaded LoRAs.

        Returns:
            The velocity, (B, out_channels, T, h, w).
        """
        values, lengths = segments(timestep, hidden_states, self.config["patch_size"])
        embedded = self.embed(hidden_states, values, lengths, encoder_hidden_states.dtype)
        context = self.tokens(encoder_hidden_states, encoder_hidden_states_image)
        velocity = self.head(self.trunk(embedded, context), embedded)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)


def segments(timestep: Tensor, latents: Tensor, patch: tuple[int, int, int]) -> tuple[Tensor, tuple[int, ...]]:
    """Timesteps as diffusers gives them, as the distinct ones and their token counts.

    Args:
        timestep: (B,), or (B, L) with one timestep per token.
        latents: (B, C, T, h, w).
        patch: patch in (time, height, width).

    Returns:
        (B, U) timesteps and U counts that sum to L.
    """
    if timestep.ndim == 2:
        values, counts = torch.unique_consecutive(timestep, dim=1, return_counts=True)
        return values, tuple(counts.tolist())
    return timestep[:, None], (math.prod(n // p for n, p in zip(latents.shape[2:], patch, strict=True)),)
