"""Requests as shots, where that is more than a first frame: one for most models, clip after clip for S2V."""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from wan_core.condition import Conditioning, humo, phantom, speech, vace
from wan_core.condition.video import nothing, of_frames
from wan_core.model import audio
from wan_core.model.adapters.s2v import MOTION_FRAMES
from wan_core.parts import Material, Parts, Shot
from wan_core.sample.guide import ClassifierFree, Guide, HumoFour, HumoThree, Phantom
from wan_core.types import Branch, Settled

S2V_CLIP = 80  # frames denoised at a time
S2V_FIRST = 3  # of the first clip's, lost to the reference frame that is decoded in front of it


def own_guide(parts: Parts, material: Material) -> Guide | None:
    """How a model guides that knows more than a prompt; None for those that guide by the prompt alone."""
    settled, shown = material.settled, bool(material.pictures)
    text, sound, pictures = settled.guidance_scale, settled.audio_guidance_scale, settled.image_guidance_scale
    match parts.spec.kind:
        case "humo":
            return HumoThree(text, sound, shown) if _joined(parts) else HumoFour(text, sound, pictures, shown)
        case "phantom":
            return Phantom(text, pictures)
        case "s2v":
            return ClassifierFree((text, text), Branch(text=False, audio=False))
    return None


def _joined(parts: Parts) -> bool:
    """Whether a HuMo model sees references among its channels, as the large one does."""
    config = parts.experts[0].config
    return config["in_channels"] > config["out_channels"]


def humo_shot(parts: Parts, base: Conditioning, material: Material, frames: int) -> Shot:
    """The one shot of a HuMo video; long ones are denoised in overlapping stretches.

    Args:
        parts: the model.
        base: the text part.
        material: references and sound.
        frames: latent frames of the video.
    """
    settled, config = material.settled, parts.experts[0].config
    tracks = torch.zeros(settled.num_frames, config["audio_tracks"], config["audio_channels"])
    if material.sound is not None:
        heard = _humo_tracks(parts, material.sound.speech, settled.fps)[: settled.num_frames]
        tracks[: len(heard)] = heard
    size = (settled.height, settled.width)
    windows = audio.humo_windows(tracks, frames, max(1, len(material.pictures)))
    told = humo(base, windows, material.tensors, size, parts.codec.encode, _joined(parts))
    return Shot(told, frames, settled.seed, settled.num_frames, guide=own_guide(parts, material))


def phantom_shot(parts: Parts, base: Conditioning, material: Material, frames: int) -> Shot:
    """The one shot of a Phantom video; arguments as for :func:`humo_shot`."""
    settled = material.settled
    told = phantom(base, material.tensors, parts.codec.encode)
    return Shot(told, frames, settled.seed, settled.num_frames, guide=own_guide(parts, material))


def vace_shot(parts: Parts, base: Conditioning, material: Material, frames: int) -> Shot:
    """The one shot of a VACE video, in any mode: pictures are frames to keep, or references."""
    settled, footage, references = material.settled, material.footage, material.tensors
    if settled.mode == "image":
        first, *last = references
        ends = dict(zip((0, settled.num_frames - 1), (first, *last), strict=False))
        footage = of_frames(ends, settled.num_frames)
        references = []
    elif footage is None:
        footage = nothing(settled.num_frames, settled.height, settled.width)
    codec = parts.codec
    told = vace(base, footage, references, codec.encode, codec.spatial, settled.conditioning_scale)
    return Shot(told, frames, settled.seed, settled.num_frames)


def _humo_tracks(parts: Parts, speech: np.ndarray, fps: float) -> Tensor:
    """A voice as HuMo hears it, one row per video frame."""
    assert parts.hearing is not None
    extractor, encoder = parts.hearing

    def listen() -> Tensor:
        return audio.humo_tracks(audio.whisper_states(torch.from_numpy(speech), extractor, encoder), fps)

    return parts.memo.recall(listen, "humo", encoder, speech, fps)


def speech_clips(settled: Settled) -> int:
    """How many clips an S2V video is made of."""
    return math.ceil((settled.num_frames + S2V_FIRST) / S2V_CLIP)


def speech_shots(parts: Parts, base: Conditioning, material: Material) -> Generator[Shot, Tensor | None, None]:
    """S2V's clips; each is sent the last frames of the one before.

    The first clip loses three frames to the reference that is decoded in front of it. The official
    code plays the sound from its start all the same, so its video leads by 3/16 s; here the sound's
    features are moved back by as many frames instead, and frame k shows what is heard at frame k.

    Args:
        parts: the model.
        base: the text part.
        material: one reference, and sound.

    Yields:
        A shot; expects (1, 3, n, H, W) in [-1, 1] in return.
    """
    settled, encode = material.settled, parts.codec.encode
    clips = speech_clips(settled)
    features = _speech_features(parts, material, clips)
    reference = encode(material.tensors[0][:, :, None])  # (1, C, 1, h, w)
    guide = own_guide(parts, material)
    past = torch.zeros(1, 3, MOTION_FRAMES, settled.height, settled.width)
    left = settled.num_frames
    for clip in range(clips):
        motion = encode(past) if clip else None
        told = speech(base, features[:, :, clip * S2V_CLIP : (clip + 1) * S2V_CLIP], reference, motion)
        skip = MOTION_FRAMES if clip else 1 + S2V_FIRST
        take = min(left, S2V_CLIP if clip else S2V_CLIP - S2V_FIRST)
        left -= take
        made = yield Shot(
            told, S2V_CLIP // 4, settled.seed + clip, take, skip, reference if motion is None else motion, guide,
            clip, clips,
        )  # fmt: skip
        if made is not None:
            past = torch.cat([past.to(made), made], dim=2)[:, :, -MOTION_FRAMES:]


def _speech_features(parts: Parts, material: Material, clips: int) -> Tensor:
    """(layers, C, clips * 80): the sound frame by frame, moved back by the frames that are lost."""
    config, layers = parts.experts[0].config, 25
    frames = torch.zeros(layers, config["audio_dim"], 0)
    if material.sound is not None:
        frames = _s2v_frames(parts, material.sound.speech)
        frames = torch.cat([frames[:, :, :1].expand(-1, -1, S2V_FIRST), frames], dim=2)
    missing = max(0, clips * S2V_CLIP - frames.shape[2])
    return torch.nn.functional.pad(frames, (0, missing))[:, :, : clips * S2V_CLIP]


def _s2v_frames(parts: Parts, speech: np.ndarray) -> Tensor:
    """A voice as S2V hears it, in whole clips."""
    assert parts.hearing is not None
    extractor, encoder = parts.hearing

    def listen() -> Tensor:
        states = audio.wav2vec_states(torch.from_numpy(speech), extractor, encoder)
        return audio.s2v_frames(audio.resample(states, audio.STATES_HZ, audio.S2V_HZ), S2V_CLIP)

    return parts.memo.recall(listen, "s2v", encoder, speech)
