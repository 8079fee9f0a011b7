"""Wan2.2-Animate's transformer against diffusers', alone and in diffusers' pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanAnimatePipeline, WanAnimateTransformer3DModel

from tests.core import test_pipeline as checkpoints
from tests.core import tiny
from wan_core import load
from wan_core.errors import CheckpointError
from wan_core.model.adapters import AnimateDiT
from wan_core.weights.describe import describe
from wan_core.weights.load import transformer

SIZES = {"4": 12, "8": 10, "16": 8, "32": 6}
CONFIG = tiny.BASE | tiny.KINDS["clip"] | {
    "num_layers": 4, "latent_channels": 16, "motion_encoder_channel_sizes": SIZES, "motion_encoder_size": 32,
    "motion_style_dim": 14, "motion_dim": 5, "motion_encoder_dim": 16, "face_encoder_hidden_dim": 20,
    "face_encoder_num_heads": 2, "inject_face_latents_blocks": 2,
}  # fmt: skip


def pair() -> tuple[AnimateDiT, WanAnimateTransformer3DModel]:
    theirs = WanAnimateTransformer3DModel(**CONFIG).eval()
    tiny.shake(theirs)
    g = torch.Generator().manual_seed(9)
    for parameter in theirs.motion_encoder.parameters():  # scaled by their fan-in where they are used
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=g)
    ours = AnimateDiT(**CONFIG).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def inputs() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(2)
    data = tiny.inputs("clip", frames=4)  # the person's picture, then three latent frames
    data["pose_hidden_states"] = torch.randn(2, 16, 3, 6, 10, generator=g)
    data["face_pixel_values"] = torch.rand(2, 3, 9, 32, 32, generator=g) * 2 - 1
    return data


@torch.no_grad()
def test_same_velocity_as_diffusers() -> None:
    ours, theirs = pair()
    data = inputs()
    expected = theirs(**data, return_dict=False)[0]
    torch.testing.assert_close(ours(**data, return_dict=False)[0], expected, atol=1e-5, rtol=0)
    context = ours.context(
        data["encoder_hidden_states"], data["encoder_hidden_states_image"],
        pose=data["pose_hidden_states"], face=data["face_pixel_values"],
    )  # fmt: skip
    embedded = ours.embed(data["hidden_states"], data["timestep"][:, None], (60,), context=context)
    torch.testing.assert_close(ours.head(ours.trunk(embedded, context), embedded), expected, atol=1e-5, rtol=0)
    for changed in ("pose_hidden_states", "face_pixel_values"):
        other = ours(**data | {changed: -data[changed]}, return_dict=False)[0]
        assert (other - expected).abs().max() > 1e-3  # both are followed


@torch.no_grad()
def test_it_drops_into_diffusers_pipeline_and_its_folder_loads(tmp_path: Path) -> None:
    ours, theirs = pair()
    clip = checkpoints.checkpoint("clip")
    parts = {
        name: getattr(clip, name)
        for name in ("vae", "tokenizer", "text_encoder", "scheduler", "image_encoder", "image_processor")
    }
    theirs.save_pretrained(tmp_path / "transformer")
    loaded = transformer(tmp_path / "transformer", torch.float32)
    assert isinstance(loaded, AnimateDiT)
    assert {k: v for k, v in loaded.config.items() if k in CONFIG} == {k: ours.config[k] for k in CONFIG}
    frames = [checkpoints.picture(seed) for seed in range(13)]
    faces = [checkpoints.picture(50 + seed).resize((32, 32)) for seed in range(13)]
    videos = []
    for model in (theirs, ours, loaded):
        pipe = WanAnimatePipeline(transformer=model, **parts)
        pipe.set_progress_bar_config(disable=True)
        videos.append(pipe(
            image=checkpoints.picture(99), pose_video=frames, face_video=faces, prompt="a walk", height=32, width=64,
            segment_frame_length=9, num_inference_steps=3, guidance_scale=2.0, output_type="latent",
            generator=torch.Generator().manual_seed(3),
        ).frames)  # fmt: skip
    assert videos[0].std() > 0.1
    for found in videos[1:]:
        assert (found - videos[0]).abs().max() <= 1e-4


def test_no_videos_are_made_with_it_here_and_that_is_said(tmp_path: Path) -> None:
    clip = checkpoints.checkpoint("clip")
    clip.save_pretrained(tmp_path)
    pair()[1].save_pretrained(tmp_path / "transformer")
    for ask in (describe, load):
        with pytest.raises(CheckpointError, match=r"this is Wan2\.2-Animate, .* no videos are made with it here"):
            ask(tmp_path)
