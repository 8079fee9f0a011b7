"""Reference mode on small random checkpoints: HuMo and S2V, with sound, without, and for long."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

import wan_core
from tests.core.test_pipeline import text_encoder, tokenizer
from tests.core.tiny import counted, shake, vae
from wan_core import Request, velocity
from wan_core.errors import RequestError
from wan_core.model.adapters import HumoDiT, S2VDiT
from wan_core.pipeline import Pipeline
from wan_core.studio.produce import produce
from wan_core.types import Done, Frames

BASE = {"num_attention_heads": 2, "attention_head_dim": 24, "text_dim": 32, "freq_dim": 32, "ffn_dim": 64}
RATE = 22050


def voice(seconds: float) -> tuple[int, np.ndarray]:
    """A tone that swells and fades."""
    t = np.arange(round(seconds * RATE)) / RATE
    return RATE, (0.5 * np.sin(2 * np.pi * 220 * t) * np.abs(np.sin(3 * t))).astype(np.float32)


def humo(channels: int) -> Any:
    return HumoDiT(**BASE, in_channels=channels, num_layers=2, audio_channels=16, audio_hidden=24, audio_dim=40)


def whisper() -> tuple[Any, Any]:
    torch.manual_seed(2)
    config = WhisperConfig(
        vocab_size=20, d_model=16, encoder_layers=8, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=24, num_mel_bins=80, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return WhisperFeatureExtractor(feature_size=80), WhisperModel(config).eval()


def wav2vec() -> tuple[Any, Any]:
    torch.manual_seed(3)
    config = Wav2Vec2Config(
        vocab_size=20, hidden_size=16, num_hidden_layers=24, num_attention_heads=2, intermediate_size=24,
        conv_dim=(8,) * 7, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    return Wav2Vec2FeatureExtractor(do_normalize=True), Wav2Vec2Model(config).eval()


def checkpoint(folder: Path, kind: str) -> Path:
    """A random model in the layout that the loader reads."""
    if kind == "s2v":
        trunk, hearing = S2VDiT(**BASE, num_layers=3, audio_dim=16, audio_inject_layers=(0, 2)), wav2vec()
    else:
        trunk, hearing = humo(36 if kind == "humo17" else 16), whisper()
    shake(trunk, 1)
    trunk.save_pretrained(folder / "transformer")
    vae("2.1").save_pretrained(folder / "vae")
    tokenizer().save_pretrained(folder / "tokenizer")
    text_encoder().save_pretrained(folder / "text_encoder")
    hearing[0].save_pretrained(folder / "audio_processor")
    hearing[1].save_pretrained(folder / "audio_encoder")
    UniPCMultistepScheduler().save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanSpeechToVideoPipeline"}))
    return folder


@pytest.fixture(scope="module", params=["humo1", "humo17", "s2v"])
def pipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return wan_core.load(checkpoint(tmp_path_factory.mktemp(request.param), request.param), "cpu", torch.float32)


def asked(**fields: Any) -> Request:
    picture = np.full((40, 30, 3), 200, np.uint8)
    return Request(
        "a red star", seed=1, width=64, height=64, num_inference_steps=2,
        **({"reference_images": (picture,)} | fields),
    )  # fmt: skip


def decoded(path: Path, *output: str) -> bytes:
    """What ffmpeg makes of a file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), *output, "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def probe(path: Path) -> tuple[int, float]:
    """Frames of the pictures and seconds of the sound."""
    grey = decoded(path, "-map", "0:v", "-f", "rawvideo", "-pix_fmt", "gray")
    samples = decoded(path, "-map", "0:a", "-f", "s16le", "-ac", "1", "-ar", "48000")
    return len(grey) // (64 * 64), len(samples) / 2 / 48000


def test_the_file_has_a_sound_as_long_as_its_pictures(pipe: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    events = list(produce(pipe, asked(audio=voice(0.9)), path))
    assert isinstance(events[-1], Done)
    fps = events[-1].settled.fps
    frames, seconds = probe(path)
    assert frames == round(0.9 * fps)
    # AAC comes in blocks of 1,024 samples, of which a player drops the first by the file's edit list
    assert abs(seconds - frames / fps) <= 1 / fps
    assert [p.name for p in tmp_path.iterdir()] == ["x.mp4"]


def test_no_sound_makes_a_silent_clip(pipe: Pipeline) -> None:
    clip = pipe(**vars(asked(num_frames=9)))
    assert clip.frames.shape == (9, 64, 64, 3)
    assert clip.sound is None


def test_sound_changes_what_is_seen(pipe: Pipeline) -> None:
    quiet = pipe(**vars(asked(audio=(RATE, np.zeros(RATE // 2, np.float32)))))
    loud = pipe(**vars(asked(audio=voice(0.5))))
    assert quiet.frames.shape == loud.frames.shape
    assert (quiet.frames != loud.frames).any()


def test_long_sound_is_followed_to_its_end(pipe: Pipeline) -> None:
    """S2V makes three clips of 77 and 80 frames; HuMo denoises stretches that overlap.

    Where they meet, pictures and mean colours change no more than anywhere else.
    """
    seconds = 10.5 if pipe.spec.name.startswith("wan2.2-s2v") else 5.0
    fps = pipe.spec.recipe.fps
    request = asked(audio=voice(seconds))
    frames = np.concatenate([event.pixels for event in pipe.run(request) if isinstance(event, Frames)]).astype(float)
    assert len(frames) == round(seconds * fps)
    for values in (frames, frames.mean((1, 2), keepdims=True)):
        steps = np.abs(values[1:] - values[:-1]).mean((1, 2, 3))
        joins = steps[[76, 156]] if pipe.spec.name.startswith("wan2.2-s2v") else steps[40:110]
        assert joins.max() <= 1.3 * np.quantile(steps, 0.95)


def test_references_are_counted(pipe: Pipeline) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(RequestError, match="reference pictures"):
        pipe.settle(asked(reference_images=(picture,) * 4))


@pytest.mark.parametrize("extra", [{}, {"guidance_stop": 0.5}, {"audio_guidance_scale": 4.0}])
def test_a_plan_knows_how_many_branches_run(pipe: Pipeline, extra: dict[str, Any]) -> None:
    request = asked(num_frames=9, guidance_scale=3.0, image_guidance_scale=4.0, **extra)
    with counted(pipe) as rows:
        pipe.latents(request)
    assert sum(rows[0]) == pipe.plan(request).passes


@pytest.mark.parametrize("times", [1.4, 2.2])
def test_a_plan_knows_what_long_sound_comes_to(pipe: Pipeline, times: float) -> None:
    request = asked(audio=voice(times * pipe.spec.max_frames / pipe.spec.recipe.fps))
    plan = pipe.plan(request)
    with counted(pipe) as rows:
        list(pipe.run(request))
    assert sum(rows[0]) == plan.passes


def test_branches_in_one_batch_equal_branches_in_turn(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    shot = next(pipe._shots(pipe._open(asked(audio=voice(0.5)))))
    assert shot.guide is not None
    branches = tuple(shot.guide.weights(990.0, 0))
    latents = torch.randn(1, 16, shot.frames + shot.conditioning.behind, 8, 8)
    found = []
    for most in (10**6, 0):
        monkeypatch.setattr(velocity, "BATCHED_TOKENS", most)
        model = velocity.Conditioned(pipe.parts.experts, shot.conditioning)
        with torch.no_grad():
            found.append(model(latents, torch.tensor(990.0), 0, branches))
    assert len(branches) > 1
    for together, alone in zip(*found, strict=True):
        assert (together - alone).abs().max() <= 1e-5


def test_memory_does_not_grow_with_the_sound(pipe: Pipeline) -> None:
    """From one stretch, or one of S2V's whole clips, on."""
    peaks = [pipe.plan(asked(audio=voice(seconds))).peak for seconds in (1.0, 20.0, 60.0)]
    assert peaks[0] <= peaks[1] == peaks[2]
