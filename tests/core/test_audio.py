"""What the audio families hear: windows and frames by the published formulas, and decoding of files."""

from __future__ import annotations

import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.core.test_reference import wav2vec, whisper
from wan_core.condition import Conditioning
from wan_core.condition.sound import open_sound
from wan_core.errors import MediaError
from wan_core.memo import Memo
from wan_core.model import audio
from wan_core.parts import Material
from wan_core.shots import speech_shots


def ramp(frames: int) -> torch.Tensor:
    """Tracks whose value is the frame's number plus one, so that zero means outside."""
    return (torch.arange(frames) + 1.0).view(-1, 1, 1).expand(-1, 5, 2)


@pytest.mark.parametrize("frames", [1, 5, 33, 97, 1500])
def test_humo_windows_hold_the_published_frames(frames: int) -> None:
    latents = -(-(frames - 1) // 4) + 1
    windows = audio.humo_windows(ramp(frames), latents, 2)[:, :, 0, 0]
    for i in range(latents):
        wanted = [None] * 3 + list(range(-2, 3)) if i == 0 else list(range(1 + 4 * (i - 1) - 2, 1 + 4 * i + 2))
        numbers = [k + 1 if k is not None and 0 <= k < frames else 0 for k in wanted]
        assert windows[i].tolist() == numbers
    assert not windows[latents:].any()


@pytest.mark.parametrize("frames", [1, 30, 150, 151, 1800])
@pytest.mark.parametrize("clip", [80, 48])
def test_s2v_frames_are_the_nearest_and_zero_behind_the_end(frames: int, clip: int) -> None:
    features = (torch.arange(frames) + 1.0).view(1, -1, 1).expand(25, -1, 3)
    picked = audio.s2v_frames(features, clip)[0, 0]
    clips = int(frames / (clip * 30 / 16)) + 1
    places = np.round(np.linspace(0, clips * clip / 16, clips * clip, endpoint=False) * 30).astype(int)
    assert picked.tolist() == [k + 1 if k < frames else 0 for k in places.tolist()]


@pytest.mark.parametrize("samples", [400, 16000, 31 * 16000])
def test_whisper_states_are_the_encoders_own(samples: int) -> None:
    extractor, model = whisper()
    sound = torch.randn(samples, generator=torch.Generator().manual_seed(0)) * 0.1
    states = audio.whisper_states(sound, extractor, model.encoder)
    assert len(states) == 9
    assert len(states[0]) == -(-samples // 320)
    mel = extractor(sound[: 30 * 16000].numpy(), sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        theirs = model.encoder(mel, output_hidden_states=True).hidden_states
    count = min(len(states[0]), 1500)
    for mine, other in zip(states, theirs, strict=True):
        torch.testing.assert_close(mine[:count], other[0, :count])


def test_wav2vec_states_are_the_encoders_own() -> None:
    processor, model = wav2vec()
    sound = torch.randn(16000, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.no_grad():
        values = processor(sound.numpy(), sampling_rate=16000, return_tensors="pt").input_values
        theirs = model(values, output_hidden_states=True).hidden_states
    torch.testing.assert_close(audio.wav2vec_states(sound, processor, model), torch.cat(theirs))


def test_five_tracks_average_equal_shares() -> None:
    states = [torch.full((10, 2), float(i)) for i in range(33)]
    tracks = audio.humo_tracks(states)
    assert tracks.shape == (5, 5, 2)
    assert tracks[0, :, 0].tolist() == [3.5, 11.5, 19.5, 27.5, 32.0]


def wav(path: Path, rate: int, channels: int, seconds: float = 0.5) -> Path:
    t = np.arange(round(rate * seconds)) / rate
    tone = (np.sin(2 * np.pi * 440 * t) * 12000).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(tone[:, None], channels, 1).tobytes())
    return path


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_rate_is_read(tmp_path: Path, rate: int, channels: int) -> None:
    sound = open_sound(wav(tmp_path / "x.wav", rate, channels))
    assert abs(sound.seconds - 0.5) < 0.005
    assert abs(len(sound.speech) / 16000 - 0.5) < 0.005
    for samples in (sound.speech, sound.stereo):  # 12,000 of 32,768, whatever the channels
        assert abs(np.abs(samples).max() - 0.366) < 0.01


def test_samples_from_a_page_equal_a_file(tmp_path: Path) -> None:
    path = wav(tmp_path / "x.wav", 44100, 1)
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    a, b = open_sound(path), open_sound((44100, samples))
    assert np.abs(a.speech[:7900] - b.speech[:7900]).max() < 1e-3


@pytest.mark.parametrize(
    "content", [b"", b"not a sound", b"RIFF\x24\x00\x00\x00WAVEfmt ", b"ID3" + bytes(50), bytes(4096)]
)
def test_what_is_no_sound_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(MediaError, match="no sound"):
        open_sound(path)


@pytest.mark.parametrize("source", [
    (16000, np.zeros(0, np.float32)), (16000, np.full(100, np.nan, np.float32)), (1, np.zeros(100, np.float32)),
    (16000, np.zeros((2, 3, 4), np.float32)), (8000, np.zeros(601 * 8000, np.int16)),
])  # fmt: skip
def test_samples_that_are_no_sound_are_refused(source: tuple[int, np.ndarray]) -> None:
    with pytest.raises(MediaError):
        open_sound(source)


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file") as error:
        open_sound(tmp_path / "voice.wav")
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("frames", [5, 77, 78, 200])
def test_s2v_shows_every_frame_what_is_heard_at_it(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow each shown frame back to the feature that it was denoised with."""
    heard = (torch.arange(1000.0) + 1).view(1, 1, -1).expand(25, 2, -1)
    monkeypatch.setattr(audio, "wav2vec_states", lambda *_: torch.zeros(25, 2, 2))
    monkeypatch.setattr(audio, "s2v_frames", lambda *_: heard)
    trunk = SimpleNamespace(config={"audio_dim": 2})
    codec = SimpleNamespace(encode=lambda video: torch.zeros(1, 16, (video.shape[2] - 1) // 4 + 1, 8, 8))
    spec = SimpleNamespace(kind="s2v")
    parts = SimpleNamespace(spec=spec, experts=[trunk], codec=codec, hearing=(None, None), memo=Memo())
    scales = {"guidance_scale": 4.5, "audio_guidance_scale": None, "image_guidance_scale": None}
    settled = SimpleNamespace(num_frames=frames, height=64, width=64, seed=0, **scales)
    silence = open_sound((16000, np.zeros(frames * 1000, np.float32)))
    material = Material(settled, [Image.new("RGB", (64, 64))], silence)  # type: ignore[arg-type]
    shown: list[float] = []
    shots = speech_shots(parts, Conditioning(torch.zeros(1, 1, 4)), material)  # type: ignore[arg-type]
    made = None
    for _ in range(1 + (frames + 2) // 80):
        shot = shots.send(made)
        assert shot.before is not None
        lead = 1 + 4 * (shot.before.shape[2] - 1)  # decoded frames that stand before the denoised ones
        features = shot.conditioning.heard["features"][0, 0, 0]
        shown += features[shot.skip - lead :][: shot.take].tolist()
        made = torch.zeros(1, 3, 73, 64, 64)
    assert shown == [k + 1 for k in range(frames)]
