"""VACE: a branch of blocks beside the trunk, which reads a control video, its mask and references.

The branch sees the video's tokens as they are before the first block, and leaves a hint after some
of the trunk's blocks. A hint is computed when its block has run, so only one stands in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils import apply_lora_scale
from torch import Tensor, nn

from wan_core.model.dit import After, Context, Embedded, WanBlock, WanDiT, segments
from wan_core.model.layers import KeyValue, PatchEmbedding, Tokens


@dataclass(frozen=True)
class ControlContext(Context):
    """What does not change over the steps.

    Attributes:
        control: (B, L, C), tokens of the control latents.
        strengths: what each hint is multiplied with, (B or 1, K).
        beside: keys and values of the text, per block of the branch.
        tokens: the text's tokens where every block makes its keys and values itself, else None.
    """

    control: Tensor | None = None
    strengths: Tensor | None = None
    beside: tuple[tuple[KeyValue, ...], ...] = ()
    tokens: Tokens | None = None


class VaceBlock(WanBlock):
    """A block of the branch: one of the trunk's, with a way in (the first one's only) and a way out."""

    def __init__(
        self, dim: int, ffn_dim: int, heads: int, cross_attn_norm: bool, eps: float, added_dim: int | None, first: bool
    ) -> None:
        super().__init__(dim, ffn_dim, heads, cross_attn_norm, eps, added_dim)
        self.proj_in = nn.Linear(dim, dim) if first else None
        self.proj_out = nn.Linear(dim, dim)


class VaceDiT(WanDiT):
    """The Wan trunk with VACE's branch; config fields and names are ``diffusers.WanVACETransformer3DModel``'s.

    Args:
        patch_size: as for :class:`WanDiT`, like all arguments up to ``pos_embed_seq_len``.
        num_attention_heads: heads H.
        attention_head_dim: channels of one head D.
        in_channels: latent channels in.
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
        vace_layers: the trunk's blocks after which a hint is added; the first is 0.
        vace_in_channels: channels of the control latents: kept, to be changed, and the mask's 64.

    Source: ali-vilab/VACE vace/models/wan/modules/model.py.
    """

    _skip_layerwise_casting_patterns: ClassVar = [*WanDiT._skip_layerwise_casting_patterns, "vace_patch_embedding"]
    _no_split_modules: ClassVar = ["WanBlock", "VaceBlock"]
    _repeated_blocks: ClassVar = ["WanBlock", "VaceBlock"]

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
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        vace_layers: Sequence[int] = (0, 5, 10, 15, 20, 25, 30, 35),
        vace_in_channels: int = 96,
    ) -> None:
        super().__init__(
            patch_size, num_attention_heads, attention_head_dim, in_channels, out_channels, text_dim, freq_dim,
            ffn_dim, num_layers, cross_attn_norm, qk_norm, eps, image_dim, added_kv_proj_dim, rope_max_seq_len,
            pos_embed_seq_len,
        )  # fmt: skip
        dim = num_attention_heads * attention_head_dim
        self.vace_patch_embedding = PatchEmbedding(vace_in_channels, dim, patch_size, patch_size)
        self.vace_blocks = nn.ModuleList(
            VaceBlock(dim, ffn_dim, num_attention_heads, cross_attn_norm, eps, added_kv_proj_dim, first=i == 0)
            for i in range(len(vace_layers))
        )

    @property
    def _branch(self) -> list[VaceBlock]:
        return cast("list[VaceBlock]", list(self.vace_blocks))

    def context(
        self,
        text: Tensor,
        image: Tensor | None = None,
        bias: Tensor | None = None,
        control: Tensor | None = None,
        strength: float | Tensor = 1.0,
    ) -> ControlContext:
        """Compute everything that the steps share.

        Args:
            text: (B, S, text_dim).
            image: (B, N, image_dim) CLIP features, or None.
            bias: (B, 1, 1, S) for the text, or None.
            control: (B, vace_in_channels, T, h, w).
            strength: of the control, for all hints or one number each; (B, 1) or (B, K) for each row apart.

        Returns:
            The context for :meth:`trunk`.
        """
        tokens = self.tokens(text, image, bias)
        pairs, beside = (
            tuple(block.attn2.keys_values(tokens) for block in self.walk(blocks))
            for blocks in (self._layers, self._branch)
        )
        return ControlContext(pairs, (), *self._controlled(control, strength), beside)

    def _controlled(self, control: Tensor | None, strength: float | Tensor) -> tuple[Tensor, Tensor]:
        if control is None:
            raise ValueError("VACE reads a control video; without one, it is a grey one with a mask of ones")
        embedded = self.vace_patch_embedding(control).flatten(2).transpose(1, 2)  # (B, L, C)
        strengths = torch.as_tensor(strength, dtype=torch.float32, device=control.device)
        return embedded, torch.atleast_2d(strengths).expand(-1, len(self.vace_blocks))

    def trunk(self, embedded: Embedded, context: Context | Tokens, after: After | None = None) -> Tensor:
        """The base's, with the branch's hints after some of the blocks."""
        assert isinstance(context, ControlContext)
        assert after is None
        hints, layers = self._hints(embedded, context), tuple(self.config["vace_layers"])
        return super().trunk(
            embedded, context.tokens or context, lambda number, x: x + next(hints) if number in layers else x
        )

    def _hints(self, embedded: Embedded, context: ControlContext) -> Iterator[Tensor]:
        """The branch, as far as it is asked for."""
        assert context.control is not None
        assert context.strengths is not None
        video, control = embedded.tokens, context.control.to(embedded.tokens)
        for number, block in enumerate(self.walk(self._branch)):
            if block.proj_in is not None:
                control = block.proj_in(control) + video
            pairs = context.tokens or context.beside[number]
            control = block(control, pairs, embedded.table, embedded.lengths, embedded.rope, self.slicing)
            yield block.proj_out(control) * context.strengths[:, number, None, None].to(control)

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        control_hidden_states: Tensor | None = None,
        control_hidden_states_scale: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,  # noqa: ARG002 - read by the decorator
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict a velocity, with the signature of ``diffusers.WanVACETransformer3DModel``.

        Args:
            hidden_states: (B, in_channels, T, h, w).
            timestep: (B,), 0 to 1000.
            encoder_hidden_states: (B, S, text_dim).
            encoder_hidden_states_image: (B, N, image_dim) or None.
            control_hidden_states: (B, vace_in_channels, T, h, w).
            control_hidden_states_scale: one strength per hint, or None for 1.
            return_dict: wrap the result.
            attention_kwargs: ``{"scale": s}`` sets the strength of loaded LoRAs.

        Returns:
            The velocity, (B, out_channels, T, h, w).
        """
        values, lengths = segments(timestep, hidden_states, self.config["patch_size"])
        strength = 1.0 if control_hidden_states_scale is None else control_hidden_states_scale
        tokens = self.tokens(encoder_hidden_states, encoder_hidden_states_image)
        controlled = self._controlled(control_hidden_states, strength)
        context = ControlContext((), (), *controlled, tokens=tokens)
        embedded = self.embed(hidden_states, values, lengths, encoder_hidden_states.dtype)
        velocity = self.head(self.trunk(embedded, context), embedded)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)
