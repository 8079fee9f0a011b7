"""Wan2.2-S2V: audio injected after some blocks, a reference and past motion as tokens beside the video.

Everything but the video's own tokens stays as it is over the steps of a clip, so it is computed
once, as a :class:`SpeechContext`: audio keys, values and norms, reference and motion tokens, pose tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from wan_core.model import rope as rope_tables
from wan_core.model.dit import After, Context, Embedded, WanDiT
from wan_core.model.layers import Attention, KeyValue, PatchEmbedding, Tokens, after_itself, norm_silu
from wan_core.model.rope import Rope

MOTION_FRAMES, MOTION_LATENTS = 73, 19
#: The blocks of the 14B model after which audio enters.
INJECT_LAYERS = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)
REFERENCE_TIME = 30  # where on the time axis the reference stands: beyond a clip's 20 latent frames
VIDEO, REFERENCE, MOTION = range(3)  # rows of the mask embedding


@dataclass(frozen=True)
class Injection:
    """What one injector needs at every step.

    Attributes:
        heard: audio keys and values, (B * T, S, H, D).
        shift: (B * T, 1, C), from the clip's overall sound.
        scale: (B * T, 1, C).
    """

    heard: KeyValue
    shift: Tensor
    scale: Tensor


@dataclass(frozen=True)
class SpeechContext(Context):
    """What does not change over the steps of one clip.

    Attributes:
        injections: one per injection layer.
        pose: (B, L, C), added to the video's tokens.
        still: (B, N, C), reference and motion tokens.
        still_rope: their cos and sin, each (N, D/2).
    """

    injections: tuple[Injection, ...] = ()
    pose: Tensor | None = None
    still: Tensor | None = None
    still_rope: Rope | None = None


class _CausalConv(nn.Module):
    """A 1-D convolution that sees only the past; the first sample stands in for what came before."""

    def __init__(self, into: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(into, out, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T) to (B, C', ceil(T / stride))."""
        return self.conv(after_itself(x))


class _Windows(nn.Module):
    """Audio at four times the latent rate to tokens per latent frame."""

    def __init__(self, audio_dim: int, dim: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.conv1_local = _CausalConv(audio_dim, dim // 4 * tokens)
        self.conv1_global = _CausalConv(audio_dim, dim // 4)
        self.conv2 = _CausalConv(dim // 4, dim // 2, 2)
        self.conv3 = _CausalConv(dim // 2, dim, 2)
        self.final_linear = nn.Linear(dim, dim)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def _tail(self, x: Tensor) -> Tensor:
        """The layers that both paths share. x: (N, dim/4, F) to (N, F/4, dim)."""
        x = norm_silu(self.conv2(norm_silu(x)))
        return norm_silu(self.conv3(x)).transpose(1, 2)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features: (B, audio_dim, F) to global (B, T, 1, dim) and local (B, T, tokens + 1, dim)."""
        b = features.shape[0]
        whole = self.final_linear(self._tail(self.conv1_global(features)))[:, :, None]
        heads = self.conv1_local(features).unflatten(1, (self.tokens, -1)).flatten(0, 1)  # (B * n, dim/4, F)
        local = self._tail(heads).unflatten(0, (b, self.tokens)).transpose(1, 2)  # (B, T, n, dim)
        pad = self.padding_tokens.expand(b, local.shape[1], 1, -1)
        return whole, torch.cat([local, pad], dim=2)


class AudioEncoder(nn.Module):
    """A learned mix of the speech encoder's layers, then :class:`_Windows`; float32 throughout."""

    def __init__(self, audio_dim: int, dim: int, tokens: int, layers: int = 25) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(1, layers, 1, 1) * 0.01)
        self.encoder = _Windows(audio_dim, dim, tokens)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features to global and local tokens of every latent frame.

        Args:
            features: (B, layers, audio_dim, F), at the video's frame rate.

        Returns:
            (B, T, 1, dim) and (B, T, tokens + 1, dim), T about F / 4.
        """
        with torch.autocast(features.device.type, enabled=False):
            weights = F.silu(self.weights.float())
            mixed = (features.float() * weights).sum(1) / weights.sum(1)
            return self.encoder(mixed)


class _AdaptiveNorm(nn.Module):
    """Shift and scale from the clip's overall sound."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)

    def rows(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        """sound: (N, 1, C) to shift and scale, each (N, 1, C)."""
        shift, scale = self.linear(F.silu(sound)).chunk(2, dim=-1)
        return shift, scale


class AudioInjector(nn.Module):
    """Audio cross-attention after some blocks, behind a norm that the overall sound steers."""

    def __init__(self, dim: int, heads: int, eps: float, layers: int) -> None:
        super().__init__()
        self.injector = nn.ModuleList(Attention(dim, heads, eps) for _ in range(layers))
        self.injector_adain_layers = nn.ModuleList(_AdaptiveNorm(dim) for _ in range(layers))


class _FramePacker(nn.Module):
    """Past motion to tokens: the nearer, the finer."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = PatchEmbedding(channels, dim, (1, 2, 2), (1, 2, 2))
        self.proj_2x = PatchEmbedding(channels, dim, (2, 4, 4), (2, 4, 4))
        self.proj_4x = PatchEmbedding(channels, dim, (4, 8, 8), (4, 8, 8))

    def forward(self, motion: Tensor) -> tuple[Tensor, list[tuple[list[int], int, int]]]:
        """Pack motion latents.

        Args:
            motion: (B, C, 19, h, w).

        Returns:
            (B, N, dim) and, per scale, its times and its grid's height and width.
        """
        far, middle, near = motion[:, :, -MOTION_LATENTS:].split((16, 2, 1), dim=2)
        tokens, places = [], []
        for layer, some, times in (
            (self.proj, near, [-1]),
            (self.proj_2x, middle, [-3]),
            (self.proj_4x, far, [-19, -14, -9, -4]),
        ):
            packed = layer(some)  # (B, dim, t, h', w')
            tokens.append(packed.flatten(2).transpose(1, 2))
            places.append((times, *packed.shape[3:]))
        return torch.cat(tokens, dim=1), places


class S2VDiT(WanDiT):
    """The Wan trunk of the speech-to-video model.

    Use :meth:`context` once a clip, then :meth:`embed`, :meth:`trunk` and :meth:`head` at every step.

    Args:
        patch_size: as for :class:`WanDiT`, like all arguments up to ``eps``.
        num_attention_heads: heads H.
        attention_head_dim: channels of one head D.
        in_channels: latent channels in.
        out_channels: latent channels out.
        text_dim: width of the text encoder.
        freq_dim: width of the timestep sinusoid.
        ffn_dim: hidden width of the feed-forward.
        num_layers: blocks.
        cross_attn_norm: norm before cross-attention.
        eps: floor of the norms.
        cond_dim: channels of the pose latents.
        audio_dim: width of the speech encoder.
        num_audio_token: audio tokens per latent frame, the padding token not counted.
        audio_inject_layers: blocks after which audio enters.
        zero_timestep: reference and motion tokens are at timestep 0, not at the video's.

    Source: Wan-Video/Wan2.2 wan/modules/s2v (model_s2v.py, audio_utils.py, motioner.py).
    """

    @register_to_config
    def __init__(  # noqa: PLR0913 - config fields
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
        eps: float = 1e-6,
        cond_dim: int = 16,
        audio_dim: int = 1024,
        num_audio_token: int = 4,
        audio_inject_layers: tuple[int, ...] = INJECT_LAYERS,
        zero_timestep: bool = True,  # noqa: ARG002 - read from the config
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
        self.cond_encoder = PatchEmbedding(cond_dim, dim, patch_size, patch_size)
        self.trainable_cond_mask = nn.Embedding(3, dim)
        self.frame_packer = _FramePacker(in_channels, dim)
        self.casual_audio_encoder = AudioEncoder(audio_dim, dim, num_audio_token)  # the checkpoints' spelling
        self.audio_injector = AudioInjector(dim, num_attention_heads, eps, len(audio_inject_layers))

    # --- once per clip ------------------------------------------------------------------------

    def hear(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Audio features of a clip to the tokens of its latent frames.

        Args:
            features: (B, 25, audio_dim, 4T), at the video's frame rate.

        Returns:
            Global (B, T, 1, C) and local (B, T, n + 1, C) tokens.
        """
        past = features[..., :1].expand(-1, -1, -1, MOTION_FRAMES)
        whole, local = self.casual_audio_encoder(torch.cat([past, features], dim=-1))
        return whole[:, MOTION_LATENTS:], local[:, MOTION_LATENTS:]

    def context(
        self,
        text: Tensor,
        image: Tensor | None = None,
        bias: Tensor | None = None,
        features: Tensor | None = None,
        reference: Tensor | None = None,
        motion: Tensor | None = None,
        pose: Tensor | None = None,
    ) -> SpeechContext:
        """Compute everything that the steps of one clip share.

        Args:
            text: (B, S, text_dim).
            image: not used by this family.
            bias: (B, 1, 1, S) for the text, or None.
            features: (B, 25, audio_dim, 4T); zeros for silence.
            reference: (B, C, 1, h, w) latents of the reference image.
            motion: (B, C, 19, h, w) latents of what came before, or None for a first clip.
            pose: (B, cond_dim, T, h, w), or None for no pose, which is zeros.

        Returns:
            The clip, for :meth:`embed` and :meth:`trunk`.
        """
        if features is None or reference is None:
            raise ValueError("S2V needs audio features (zeros for silence) and a reference")
        frames, mask = features.shape[-1] // 4, self.trainable_cond_mask.weight
        if pose is None:
            pose = reference.new_zeros(reference.shape[0], self.config["cond_dim"], frames, *reference.shape[3:])
        posed = self.cond_encoder(pose).flatten(2).transpose(1, 2) + mask[VIDEO]
        still, still_rope = self._still(reference, motion)
        base = super().context(text, image, bias)
        return SpeechContext(base.pairs, (), self._injections(features, text.dtype), posed, still, still_rope)

    def _injections(self, features: Tensor, dtype: torch.dtype) -> tuple[Injection, ...]:
        whole, local = (t.flatten(0, 1).to(dtype) for t in self.hear(features))
        injector = self.audio_injector
        made = []
        for attention, norm in zip(injector.injector, injector.injector_adain_layers, strict=True):
            heard = attention.keys_values(Tokens(local))[0]  # pyright: ignore[reportCallIssue]
            made.append(Injection(heard, *norm.rows(whole)))  # pyright: ignore[reportCallIssue]
        return tuple(made)

    def _still(self, reference: Tensor, motion: Tensor | None) -> tuple[Tensor, Rope]:
        """Reference and motion tokens and their positions."""
        mask, head_dim = self.trainable_cond_mask.weight, self.config["attention_head_dim"]
        patches = self.patch_embedding(reference)  # (B, C, 1, h', w')
        height, width = patches.shape[3:]
        tokens = [patches.flatten(2).transpose(1, 2) + mask[REFERENCE]]
        ropes = [rope_tables.at(head_dim, [REFERENCE_TIME], range(height), range(width), str(reference.device))]
        if motion is not None:
            packed, places = self.frame_packer(motion)
            tokens.append(packed + mask[MOTION])
            ropes += [
                rope_tables.at(head_dim, times, _spread(height, h), _spread(width, w), str(reference.device))
                for times, h, w in places
            ]
        cos, sin = (torch.cat(part) for part in zip(*ropes, strict=True))
        return torch.cat(tokens, dim=1), (cos, sin)

    # --- once per step ------------------------------------------------------------------------

    def embed(
        self,
        latents: Tensor,
        timesteps: Tensor,
        lengths: tuple[int, ...],
        dtype: torch.dtype | None = None,
        context: Context | Tokens | None = None,
    ) -> Embedded:
        """The base's, with the clip's tokens behind the video's; they are clean."""
        assert isinstance(context, SpeechContext)
        assert context.pose is not None
        assert context.still is not None
        assert context.still_rope is not None
        lengths = (*lengths, context.still.shape[1])
        beside = timesteps[:, :1] * (0 if self.config["zero_timestep"] else 1)
        timesteps = torch.cat([timesteps, beside], dim=1)
        video = super().embed(latents, timesteps, lengths, dtype)
        tokens = torch.cat([video.tokens + context.pose, context.still], dim=1)
        cos, sin = (torch.cat(pair) for pair in zip(video.rope, context.still_rope, strict=True))
        return Embedded(tokens, video.time, video.table, lengths, (cos, sin), video.grid)

    def trunk(self, embedded: Embedded, context: Context | Tokens, after: After | None = None) -> Tensor:
        """The base's, with the clip's audio after some of the blocks."""
        assert isinstance(context, SpeechContext)
        assert after is None
        return super().trunk(embedded, context, lambda number, x: self._inject(number, x, context))

    def _inject(self, number: int, x: Tensor, context: SpeechContext) -> Tensor:
        layers = tuple(self.config["audio_inject_layers"])
        if number not in layers:
            return x
        assert context.pose is not None
        place = layers.index(number)
        injection, attention = context.injections[place], self.audio_injector.injector[place]
        video, still = x.split((context.pose.shape[1], x.shape[1] - context.pose.shape[1]), dim=1)
        rows = video.unflatten(1, (injection.shift.shape[0] // x.shape[0], -1)).flatten(0, 1)  # (B * T, n, C)
        normed = F.layer_norm(rows.float(), rows.shape[-1:], eps=1e-5) * (1 + injection.scale) + injection.shift
        heard = attention.attend_frames(  # pyright: ignore[reportCallIssue]
            normed.to(x.dtype).view_as(video), injection.heard, self.slicing.attention
        )
        return torch.cat([video + heard, still], dim=1)

    def head(self, x: Tensor, embedded: Embedded) -> Tensor:
        """The video's tokens to a velocity; the others are left behind."""
        tokens = embedded.lengths[0]
        video = Embedded(embedded.tokens, embedded.time[:, :1], embedded.table, (tokens,), embedded.rope, embedded.grid)
        return super().head(x[:, :tokens], video)


def _spread(full: int, count: int) -> list[int]:
    """Positions of a coarse grid over a fine one, first and last included."""
    return torch.linspace(0, full - 1, count).int().tolist()
