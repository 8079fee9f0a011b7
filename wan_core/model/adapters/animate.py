"""Wan2.2-Animate: a person follows the poses and the face of another.

Poses are latents added to the video's tokens; the face's motion enters by a cross-attention after
every few blocks, in which a latent frame sees only its own tokens. Both are the same at every step.
The first latent frame is the person's picture, which has no pose and a face that says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils import apply_lora_scale
from torch import Tensor, nn

from wan_core import ops
from wan_core.model.dit import After, Context, Embedded, WanDiT, segments
from wan_core.model.face import FaceEncoder, MotionEncoder
from wan_core.model.layers import KeyValue, PatchEmbedding, Tokens


@dataclass(frozen=True)
class MotionContext(Context):
    """What does not change over the steps.

    Attributes:
        pose: (B, L', C), tokens of the poses, of all latent frames but the first.
        face: per adapter, keys and values of the face's motion, (B * T, S, H, D).
        tokens: the text's tokens where every block makes its keys and values itself, else None.
    """

    pose: Tensor | None = None
    face: tuple[KeyValue, ...] = ()
    tokens: Tokens | None = None


class FaceAttention(nn.Module):
    """Cross-attention of a latent frame's tokens to the face's tokens of that frame.

    Args:
        dim: width of queries and results.
        heads: heads H.
        eps: floor of the norms.

    Source: Wan-Video/Wan2.2 wan/modules/animate/face_blocks.py (FaceBlock).
    """

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads, self.eps = heads, eps
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.Linear(dim, dim)
        # over each head apart, unlike the trunk's
        self.norm_q, self.norm_k = (nn.RMSNorm(dim // heads, eps=eps) for _ in range(2))

    def keys_values(self, face: Tensor) -> KeyValue:
        """face: (B, T, S, C)."""
        x = F.layer_norm(face, face.shape[-1:], eps=self.eps).flatten(0, 1)  # (B * T, S, C)
        key = self.norm_k(self.to_k(x).unflatten(-1, (self.heads, -1)))
        return KeyValue(key, self.to_v(x).unflatten(-1, (self.heads, -1)))

    def forward(self, x: Tensor, face: KeyValue, budget: int | None) -> Tensor:
        """What is added to the tokens.

        Args:
            x: (B, T * n, C), frame after frame.
            face: from :meth:`keys_values`.
            budget: bytes of scores in flight, or None.

        Returns:
            (B, T * n, C).
        """
        rows = x.unflatten(1, (face.key.shape[0] // x.shape[0], -1)).flatten(0, 1)  # (B * T, n, C)
        query = self.to_q(F.layer_norm(rows, rows.shape[-1:], eps=self.eps))
        query = self.norm_q(query.unflatten(-1, (self.heads, -1)))
        return self.to_out(ops.attention(query, face.key, face.value, budget=budget).flatten(2)).view_as(x)


class AnimateDiT(WanDiT):
    """The Wan trunk that follows poses and a face; the fields are ``diffusers.WanAnimateTransformer3DModel``'s.

    Args:
        patch_size: as for :class:`WanDiT`, like all arguments up to ``pos_embed_seq_len``.
        num_attention_heads: heads H.
        attention_head_dim: channels of one head D.
        in_channels: latent channels in: noise, mask and what is known.
        latent_channels: channels of the pose latents; (in_channels - 4) / 2 by default.
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
        motion_encoder_channel_sizes: see :class:`MotionEncoder`, like the four below.
        motion_encoder_size: side of the pictures of the face.
        motion_style_dim: width of what is seen of them.
        motion_dim: motions in the basis.
        motion_encoder_dim: width of a motion.
        face_encoder_hidden_dim: see :class:`FaceEncoder`.
        face_encoder_num_heads: tokens of the face per latent frame.
        inject_face_latents_blocks: the face enters after every so many blocks, the first included.
        motion_encoder_batch_size: pictures of the face that are looked at together.

    Source: Wan-Video/Wan2.2 wan/modules/animate/model_animate.py.
    """

    _skip_layerwise_casting_patterns: ClassVar = [
        *WanDiT._skip_layerwise_casting_patterns, "motion_encoder", "face_encoder",
    ]  # fmt: skip
    _keep_in_fp32_modules: ClassVar = [*WanDiT._keep_in_fp32_modules, "motion_synthesis_weight"]

    @register_to_config
    def __init__(  # noqa: PLR0913 - the config fields are diffusers'
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 36,
        latent_channels: int | None = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = 1280,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        motion_encoder_channel_sizes: Mapping[str, int] | None = None,
        motion_encoder_size: int = 512,
        motion_style_dim: int = 512,
        motion_dim: int = 20,
        motion_encoder_dim: int = 512,
        face_encoder_hidden_dim: int = 1024,
        face_encoder_num_heads: int = 4,
        inject_face_latents_blocks: int = 5,
        motion_encoder_batch_size: int = 8,  # noqa: ARG002 - read from the config
    ) -> None:
        super().__init__(
            patch_size, num_attention_heads, attention_head_dim, in_channels, out_channels, text_dim, freq_dim,
            ffn_dim, num_layers, cross_attn_norm, qk_norm, eps, image_dim, added_kv_proj_dim, rope_max_seq_len,
            pos_embed_seq_len,
        )  # fmt: skip
        dim = num_attention_heads * attention_head_dim
        posed = latent_channels or (in_channels - 4) // 2
        self.pose_patch_embedding = PatchEmbedding(posed, dim, patch_size, patch_size)
        self.motion_encoder = MotionEncoder(
            motion_encoder_size, motion_style_dim, motion_dim, motion_encoder_dim, motion_encoder_channel_sizes
        )
        self.face_encoder = FaceEncoder(motion_encoder_dim, dim, face_encoder_hidden_dim, face_encoder_num_heads)
        self.face_adapter = nn.ModuleList(
            FaceAttention(dim, num_attention_heads, eps) for _ in range(num_layers // inject_face_latents_blocks)
        )

    @property
    def _adapters(self) -> list[FaceAttention]:
        return cast("list[FaceAttention]", list(self.face_adapter))

    def context(
        self,
        text: Tensor,
        image: Tensor | None = None,
        bias: Tensor | None = None,
        pose: Tensor | None = None,
        face: Tensor | None = None,
    ) -> MotionContext:
        """Compute everything that the steps share.

        Args:
            text: (B, S, text_dim).
            image: (B, N, image_dim) CLIP features of the person, or None.
            bias: (B, 1, 1, S) for the text, or None.
            pose: (B, latent_channels, T - 1, h, w), latents of the poses.
            face: (B, 3, F, size, size) in [-1, 1], the face to follow, F = 4 (T - 1) - 3.

        Returns:
            The context for :meth:`embed` and :meth:`trunk`.
        """
        pairs = super().context(text, image, bias).pairs
        return MotionContext(pairs, (), *self._followed(pose, face))

    def _followed(self, pose: Tensor | None, face: Tensor | None, together: int | None = None) -> Any:
        """Tokens of the poses, and the face's keys and values per adapter."""
        if pose is None or face is None:
            raise ValueError("Wan2.2-Animate follows poses and a face: both are needed")
        posed = self.pose_patch_embedding(pose).flatten(2).transpose(1, 2)  # (B, L', C)
        pictures = face.transpose(1, 2).flatten(0, 1)  # (B * F, 3, size, size)
        batches = pictures.split(together or self.config["motion_encoder_batch_size"])
        motions = torch.cat([self.motion_encoder(some) for some in batches])
        told = self.face_encoder(motions.unflatten(0, (face.shape[0], -1)))  # (B, T - 1, S, C)
        told = torch.cat([torch.zeros_like(told[:, :1]), told], dim=1)  # (B, T, S, C)
        return posed, tuple(adapter.keys_values(told) for adapter in self._adapters)

    def embed(
        self,
        latents: Tensor,
        timesteps: Tensor,
        lengths: tuple[int, ...],
        dtype: torch.dtype | None = None,
        context: Context | Tokens | None = None,
    ) -> Embedded:
        """The base's, with the poses added to all latent frames but the first."""
        assert isinstance(context, MotionContext)
        assert context.pose is not None
        embedded = super().embed(latents, timesteps, lengths, dtype)
        first = embedded.tokens.shape[1] - context.pose.shape[1]
        posed = F.pad(context.pose.to(embedded.tokens), (0, 0, first, 0))
        return replace(embedded, tokens=embedded.tokens + posed)

    def trunk(self, embedded: Embedded, context: Context | Tokens, after: After | None = None) -> Tensor:
        """The base's, with the face's motion after some of the blocks."""
        assert isinstance(context, MotionContext)
        assert after is None
        every, adapters = self.config["inject_face_latents_blocks"], self._adapters

        def follow(number: int, x: Tensor) -> Tensor:
            if number % every:
                return x
            which = number // every
            return x + adapters[which](x, context.face[which], self.slicing.attention)

        return super().trunk(embedded, context.tokens or context, follow)

    @apply_lora_scale("attention_kwargs")
    def forward(  # noqa: PLR0913 - diffusers' signature
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        pose_hidden_states: Tensor | None = None,
        face_pixel_values: Tensor | None = None,
        motion_encode_batch_size: int | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,  # noqa: ARG002 - read by the decorator
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict a velocity, with the signature of ``diffusers.WanAnimateTransformer3DModel``.

        Args:
            hidden_states: (B, in_channels, T, h, w).
            timestep: (B,), 0 to 1000.
            encoder_hidden_states: (B, S, text_dim).
            encoder_hidden_states_image: (B, N, image_dim) or None.
            pose_hidden_states: (B, latent_channels, T - 1, h, w).
            face_pixel_values: (B, 3, F, size, size) in [-1, 1], F = 4 (T - 1) - 3.
            motion_encode_batch_size: pictures of the face that are looked at together.
            return_dict: wrap the result.
            attention_kwargs: ``{"scale": s}`` sets the strength of loaded LoRAs.

        Returns:
            The velocity, (B, out_channels, T, h, w).
        """
        values, lengths = segments(timestep, hidden_states, self.config["patch_size"])
        tokens = self.tokens(encoder_hidden_states, encoder_hidden_states_image)
        followed = self._followed(pose_hidden_states, face_pixel_values, motion_encode_batch_size)
        context = MotionContext((), (), *followed, tokens=tokens)
        embedded = self.embed(hidden_states, values, lengths, encoder_hidden_states.dtype, context)
        velocity = self.head(self.trunk(embedded, context), embedded)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)
