"""Sound as the two audio families hear it: encoder states, resampled and cut along the video's frames.

Nothing here decodes files or owns an encoder's weights: transformers' Whisper and wav2vec2 are
passed in, waveforms come at 16 kHz.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

RATE = 16000  # samples per second, for both encoders
STATES_HZ = 50  # both encoders' frames per second
HUMO_HZ, HUMO_WINDOW = 25, 8
WHISPER_SECONDS = 30
S2V_HZ, S2V_FPS = 30, 16


def resample(features: Tensor, rate: float, to: float) -> Tensor:
    """Linear interpolation along time, first and last frame kept.

    Args:
        features: (N, T, C) at ``rate`` frames per second.
        rate: frames per second in.
        to: frames per second out.

    Returns:
        (N, int(T / rate * to), C).

    Source: Wan-Video/Wan2.2 wan/modules/s2v/audio_encoder.py (linear_interpolation).
    """
    length = int(features.shape[1] / float(rate) * to)
    turned = features.transpose(1, 2)
    return F.interpolate(turned, size=length, align_corners=True, mode="linear").transpose(1, 2)


# --- HuMo -------------------------------------------------------------------------------------


@torch.no_grad()
def whisper_states(wave: Tensor, extractor: Any, encoder: torch.nn.Module) -> list[Tensor]:
    """All hidden states of Whisper's encoder for a waveform of any length.

    Args:
        wave: (samples,) float32 at 16 kHz.
        extractor: a ``WhisperFeatureExtractor``.
        encoder: a ``WhisperEncoder``.

    Returns:
        Per layer, its input first, (T, C) at 50 frames per second; T = ceil(samples / 320).
    """
    chunk, weight = WHISPER_SECONDS * RATE, next(encoder.parameters())
    parts: list[list[Tensor]] = []
    for start in range(0, max(len(wave), 1), chunk):
        mel = extractor(wave[start : start + chunk].numpy(), sampling_rate=RATE, return_tensors="pt").input_features
        out = encoder(mel.to(weight.device, weight.dtype), output_hidden_states=True)
        parts.append([s[0].float().cpu() for s in out.hidden_states])
    frames = math.ceil(len(wave) / (RATE // STATES_HZ))
    return [torch.cat(states)[:frames] for states in zip(*parts, strict=True)]


def humo_tracks(states: list[Tensor], fps: float = HUMO_HZ) -> Tensor:
    """Five tracks of a Whisper encoder's states: four averages of equal shares, and the last state.

    Args:
        states: 4k+1 tensors (T50, C).
        fps: of the video.

    Returns:
        (F, 5, C), one row per video frame.
    """
    share = (len(states) - 1) // 4
    groups = [torch.stack(states[i * share : (i + 1) * share]).mean(0) for i in range(4)]
    tracks = torch.stack([*groups, states[-1]])  # (5, T50, C)
    return resample(tracks, STATES_HZ, fps).transpose(0, 1)


def humo_windows(tracks: Tensor, latent_frames: int, references: int) -> Tensor:
    """Cut tracks into one window per latent frame; what lies outside the sound is zero.

    The first latent frame stands for one video frame, every other for four; a window holds those
    and two more on either side.

    Args:
        tracks: (F, tracks, C), one row per video frame.
        latent_frames: T, of the video.
        references: latent frames behind the video; each gets a window of zeros.

    Returns:
        (T + references, 8, tracks, C).
    """
    first = torch.arange(HUMO_WINDOW) - 5  # three places that stay empty, then frames -2 to 2
    index = first + 4 * torch.arange(latent_frames)[:, None]  # (T, 8)
    index[0, :3] = -1
    inside = (index >= 0) & (index < len(tracks))
    windows = tracks[index.clamp(0, max(len(tracks) - 1, 0))] * inside[:, :, None, None]
    return torch.cat([windows, windows.new_zeros(references, *windows.shape[1:])])


# --- S2V --------------------------------------------------------------------------------------


@torch.no_grad()
def wav2vec_states(wave: Tensor, processor: Any, encoder: torch.nn.Module) -> Tensor:
    """All hidden states of a wav2vec2 encoder.

    Args:
        wave: (samples,) float32 at 16 kHz.
        processor: its feature extractor, which normalises the waveform.
        encoder: a ``Wav2Vec2Model``.

    Returns:
        (25, T50, C): the layers' input, then every layer.
    """
    weight = next(encoder.parameters())
    values = processor(wave.numpy(), sampling_rate=RATE, return_tensors="pt").input_values
    out = encoder(values.to(weight.device, weight.dtype), output_hidden_states=True)
    return torch.stack([s[0].float().cpu() for s in out.hidden_states])


def s2v_frames(features: Tensor, clip_frames: int) -> Tensor:
    """Pick the features of every video frame, for as many whole clips as the sound needs.

    Args:
        features: (25, N, C) at 30 frames per second.
        clip_frames: video frames per clip.

    Returns:
        (25, C, clips * clip_frames) at 16 frames per second; zeros behind the sound's end.

    Source: Wan-Video/Wan2.2 wan/modules/s2v/audio_encoder.py (get_audio_embed_bucket_fps).
    """
    count = features.shape[1]
    clips = int(count / (clip_frames * S2V_HZ / S2V_FPS)) + 1
    # exact halves go to the even neighbour, as in the reference's float64 rounding
    seconds = torch.arange(clips * clip_frames, dtype=torch.float64) / S2V_FPS
    index = (seconds * S2V_HZ).round().long()
    picked = features[:, index.clamp(max=count - 1)] * (index < count)[None, :, None]
    return picked.transpose(1, 2)
