"""Official folders, .pth files and all: the same pipeline as from diffusers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5EncoderModel

import wan_core
from tests.core.official import clip_names, text_names, vae_names, write, write_wan
from tests.core.test_pipeline import text_encoder, tokenizer
from tests.core.test_reference import BASE, asked, checkpoint, humo, probe, voice, wav2vec, whisper
from tests.core.tiny import pair, shake, vae
from wan_core.errors import CheckpointError
from wan_core.model.adapters import HumoDiT, S2VDiT
from wan_core.model.dit import WanDiT
from wan_core.pipeline import Pipeline
from wan_core.specs import SPECS
from wan_core.studio.produce import produce
from wan_core.types import Done
from wan_core.weights import load
from wan_core.weights.describe import describe
from wan_core.weights.hub import find

KINDS = {"humo1": "humo-1.7b", "humo17": "humo-17b", "s2v": "wan2.2-s2v-14b"}


def trunk(kind: str) -> Any:
    if kind == "s2v":
        return S2VDiT(**BASE, num_layers=3, audio_dim=16, audio_inject_layers=(0, 2))
    if kind == "humo17":
        return humo(36)
    # a bare .pth does not tell its heads: width 48 is taken for one, as 1536 is for twelve of 128
    one = BASE | {"num_attention_heads": 1, "attention_head_dim": 48}
    return HumoDiT(**one, in_channels=16, num_layers=2, audio_channels=16, audio_hidden=24, audio_dim=40)


def official(folder: Path, kind: str) -> Path:
    model = trunk(kind)
    shake(model, 1)
    hearing = wav2vec() if kind == "s2v" else whisper()
    return write(folder, model, vae("2.1"), text_encoder(), tokenizer(), hearing, kind)


@pytest.fixture(scope="module", params=list(KINDS))
def pipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    root = official(tmp_path_factory.mktemp(request.param), request.param)
    pipe = wan_core.load(root, "cpu", torch.float32)
    assert pipe.spec.name == KINDS[request.param] == describe(root).name
    return pipe


@pytest.mark.parametrize("kind", ["humo17", "s2v"])
def test_both_layouts_make_the_same_video(kind: str, tmp_path: Path) -> None:
    ours, theirs = (
        wan_core.load(root, "cpu", torch.float32)
        for root in (checkpoint(tmp_path / "ours", kind), official(tmp_path / "theirs", kind))
    )
    first, second = (p(**vars(asked(audio=voice(0.5)))) for p in (ours, theirs))
    assert (first.frames == second.frames).all()


@pytest.mark.parametrize("clips", [1, 3])
def test_from_the_official_folder_to_a_file_with_sound(pipe: Pipeline, clips: int, tmp_path: Path) -> None:
    """One clip, then three: 77 and 80 frames each for S2V, overlapping stretches for HuMo."""
    fps = pipe.spec.recipe.fps
    seconds = 0.8 if clips == 1 else 2.2 * pipe.spec.max_frames / fps
    *_, done = produce(pipe, asked(audio=voice(seconds)), tmp_path / "x.mp4")
    assert isinstance(done, Done)
    frames, heard = probe(tmp_path / "x.mp4")
    assert frames == round(seconds * fps)
    assert abs(heard - frames / fps) <= 1 / fps


def test_no_sound_and_silence(pipe: Pipeline) -> None:
    assert pipe(**vars(asked(num_frames=9))).frames.shape == (9, 64, 64, 3)
    silent = pipe(**vars(asked(audio=(16000, torch.zeros(8000).numpy()))))
    assert silent.sound is not None
    assert not silent.sound.any()


@pytest.mark.parametrize(("kind", "experts", "name"), [
    ("t2v", 1, "wan2.1-t2v-1.3b"), ("t2v", 2, "wan2.2-t2v-a14b"), ("i2v36", 2, "wan2.2-i2v-a14b"),
    ("ti2v", 1, "wan2.2-ti2v-5b"),
])  # fmt: skip
def test_official_wan_folders(kind: str, experts: int, name: str, tmp_path: Path) -> None:
    trunks = [pair(kind)[0] for _ in range(experts)]
    root = write_wan(tmp_path, trunks, vae("2.2" if kind == "ti2v" else "2.1"), text_encoder(), tokenizer())
    spec = describe(root)
    assert (spec.name, spec.boundary) == (name, SPECS[name].boundary)
    pipe = wan_core.load(root, "cpu", torch.float32)
    assert pipe.spec == spec
    assert len(pipe.parts.experts) == experts
    picture = None if kind == "t2v" else np.full((40, 30, 3), 200, np.uint8)
    clip = pipe(prompt="a star", image=picture, width=64, height=64, num_frames=5, num_inference_steps=2, seed=1)
    assert clip.frames.shape == (5, 64, 64, 3)


def tower(layers: int = 3) -> CLIPVisionModel:
    """A small vision tower with heads as wide as ViT-H's."""
    model = CLIPVisionModel(CLIPVisionConfig(
        hidden_size=80, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=1, image_size=32,
        patch_size=16, hidden_act="gelu",
    )).eval()  # fmt: skip
    shake(model)
    return model


@pytest.mark.parametrize("names", ["official", "comfy"])
def test_a_single_clip_file_sees_what_transformers_sees(names: str, tmp_path: Path) -> None:
    model, path = tower(), tmp_path / ("clip.pth" if names == "official" else "clip_vision_h.safetensors")
    if names == "official":
        torch.save(clip_names(model.state_dict()), path)
    else:
        theirs = {f"vision_model.{k}": v.contiguous() for k, v in model.state_dict().items()}
        beside = {"visual_projection.weight": torch.ones(4, 80), "vision_model.embeddings.position_ids": torch.ones(5)}
        save_file(theirs | beside, path)
    processor, loaded = load.vision((path, path), torch.float32)
    picture = Image.effect_noise((50, 32), 90).convert("RGB")
    pixels = processor(images=[picture], return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 32, 32)  # the whole picture, squeezed
    with torch.no_grad():
        ours, theirs = (m(pixels, output_hidden_states=True).hidden_states[-2] for m in (loaded, model))
    assert torch.equal(ours, theirs)


def test_an_official_folder_with_clip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = WanDiT(**pair("clip")[0].config | {"image_dim": 80})
    shake(trunk)
    root = write_wan(tmp_path, [trunk], vae("2.1"), text_encoder(), tokenizer(), tower())
    pipe = wan_core.load(root, "cpu", torch.float32)
    assert "image" in describe(root).modes
    picture = np.full((40, 30, 3), 200, np.uint8)
    clip = pipe(prompt="a star", image=picture, width=64, height=64, num_frames=5, num_inference_steps=2, seed=1)
    assert clip.frames.shape == (5, 64, 64, 3)


def test_a_clip_that_is_none(tmp_path: Path) -> None:
    tensors = clip_names(tower().state_dict())
    for broken in ({k: v for k, v in tensors.items() if "mlp.2.bias" not in k}, {"x": torch.zeros(1)}):
        torch.save(broken, tmp_path / "clip.pth")
        with pytest.raises(CheckpointError, match=r"clip\.pth"):
            load.vision((tmp_path / "clip.pth",) * 2, torch.float32)


def test_vae_names_are_those_that_diffusers_reads() -> None:
    """Its own converter knows the 2.1 kind, with two residual blocks a stage."""
    model = AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 2, 4, 4])
    shake(model)
    converted = convert_wan_vae_to_diffusers(vae_names(model.state_dict(), 2))
    assert converted.keys() == model.state_dict().keys()
    assert all(torch.equal(converted[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("kind", ["2.1", "2.2", "full 2.1"])
def test_official_vae(kind: str, tmp_path: Path) -> None:
    model = AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 2, 4, 4]) if kind == "full 2.1" else vae(kind)
    shake(model)
    path = tmp_path / "Wan_VAE.pth"
    torch.save(vae_names(model.state_dict(), model.config["num_res_blocks"]), path)
    loaded = load.vae(path)
    told = ("base_dim", "z_dim", "dim_mult", "num_res_blocks", "temperal_downsample", "patch_size", "is_residual")
    assert [loaded.config[k] for k in told] == [model.config[k] for k in told]
    clip = torch.randn(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.encode(clip).latent_dist.mode(), model.encode(clip).latent_dist.mode())


def test_official_text_encoder(tmp_path: Path) -> None:
    model = text_encoder()
    path = tmp_path / "models_t5_umt5-xxl-enc-bf16.pth"
    torch.save(text_names(model.state_dict()), path)
    loaded = load.text_encoder(path, torch.float32)
    assert isinstance(loaded, UMT5EncoderModel)
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).last_hidden_state, model(ids).last_hidden_state)


@pytest.mark.parametrize("damage", ["cut", "text", "code", "another model", "missing"])
def test_broken_official_files(damage: str, tmp_path: Path) -> None:
    root = official(tmp_path, "s2v")
    path = root / "Wan2.1_VAE.pth"
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:2000])
        case "text":
            path.write_text("not a checkpoint")
        case "code":
            torch.save({"conv1.weight": print}, path)
        case "another model":
            torch.save({"weight": torch.zeros(3)}, path)
        case "missing":
            path.unlink()
    with pytest.raises(CheckpointError, match=r"Wan2\.1_VAE\.pth"):
        wan_core.load(root, "cpu")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither"):
        find(tmp_path)
