"""HuMo: references at the end of the time axis, and audio that each latent frame hears for itself."""

from __future__ import annotations

import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from wan_core.model.dit import Context, WanDiT
from wan_core.model.layers import AffineNorm, Attention, Tokens


class _Layer(nn.Module):
    """Holds a module under the checkpoint's extra name level ``layer``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class AudioProjection(nn.Module):
    """A window of audio features to a few tokens, one window per latent frame.

    Args:
        features: numbers in one window: frames, tracks and channels together.
        hidden: width of the two layers inside.
        tokens: tokens per window.
        dim: width of a token.
    """

    def __init__(self, features: int, hidden: int, tokens: int, dim: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.audio_proj_glob_1 = _Layer(nn.Linear(features, hidden))
        self.audio_proj_glob_2 = _Layer(nn.Linear(hidden, hidden))
        self.audio_proj_glob_3 = _Layer(nn.Linear(hidden, tokens * dim))
        self.audio_proj_glob_norm = _Layer(AffineNorm(dim, 1e-5))

    def forward(self, windows: Tensor) -> Tensor:
        """windows: (B, T, frames, tracks, channels) to (B * T, tokens, dim)."""
        x = F.relu(self.audio_proj_glob_1(windows.flatten(0, 1).flatten(1)))
        x = F.relu(self.audio_proj_glob_2(x))
        x = self.audio_proj_glob_3(x).unflatten(-1, (self.tokens, -1))
        return self.audio_proj_glob_norm(x)


class HumoDiT(WanDiT):
    """The Wan trunk with audio cross-attention in every block.

    Latents hold the video's frames first and one frame per reference after them; audio windows are
    given for all of them, zeros for the references (``model.audio.windows``).

    Args:
        patch_size: as for :class:`WanDiT`, like all arguments up to ``pos_embed_seq_len``.
        num_attention_heads: heads H.
        attention_head_dim: channels of one head D.
        in_channels: 16 (1.7B), or 36 with mask and reference latents (17B).
        out_channels: latent channels out.
        text_dim: width of the text encoder.
        freq_dim: width of the timestep sinusoid.
        ffn_dim: hidden width of the feed-forward.
        num_layers: blocks.
        cross_attn_norm: norm before cross-attention.
        eps: floor of the norms.
        audio_channels: width of the audio encoder.
        audio_window: audio frames per latent frame.
        audio_tracks: groups of the encoder's layers.
        audio_hidden: width inside the audio projection.
        audio_tokens: tokens per latent frame.
        audio_dim: width of an audio token.

    Source: Phantom-video/HuMo humo/models/wan_modules/model_humo.py and audio/audio_proj.py.
    """

    @register_to_config
    def __init__(  # noqa: PLR0913 - config fields
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 12,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 8960,
        num_layers: int = 30,
        cross_attn_norm: bool = True,
        eps: float = 1e-6,
        audio_channels: int = 1280,
        audio_window: int = 8,
        audio_tracks: int = 5,
        audio_hidden: int = 512,
        audio_tokens: int = 16,
        audio_dim: int = 1536,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            eps=eps,
        )
        dim = num_attention_heads * attention_head_dim
        features = audio_window * audio_tracks * audio_channels
        self.audio_proj = AudioProjection(features, audio_hidden, audio_tokens, audio_dim)
        for block in self._layers:
            block.audio_norm = AffineNorm(dim, eps)
            block.audio_attn = Attention(dim, num_attention_heads, eps, context_dim=audio_dim)

    def context(
        self, text: Tensor, image: Tensor | None = None, bias: Tensor | None = None, audio: Tensor | None = None
    ) -> Context:
        """Compute every block's keys and values of text and audio.

        Args:
            text: (B, S, text_dim).
            image: not used by this family.
            bias: (B, 1, 1, S) for the text, or None.
            audio: windows, (B, T, window, tracks, channels), T all latent frames. Zeros where
                there is no sound: silence is something that the model hears.

        Returns:
            The context for :meth:`trunk`.
        """
        if audio is None:
            raise ValueError("HuMo listens in every block; pass zeros for silence")
        tokens = Tokens(self.audio_proj(audio))
        heard = [b.audio_attn.keys_values(tokens)[0] for b in self.walk(self._layers) if b.audio_attn is not None]
        return Context(super().context(text, image, bias).pairs, tuple(heard))
