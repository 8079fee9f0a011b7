"""Phantom, which no library has: its velocities by the official formula, from diffusers' transformer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.core import official
from tests.core import test_pipeline as checkpoints
from wan_core import Pipeline, load
from wan_core.condition.picture import to_tensor
from wan_core.errors import CheckpointError, RequestError
from wan_core.sample.schedule import noise
from wan_core.weights.describe import describe


@pytest.fixture
def models(tmp_path: Path) -> tuple[Pipeline, object]:
    peer = checkpoints.checkpoint("t2v")
    peer.save_pretrained(tmp_path)
    return load(f"phantom-1.3b={tmp_path}", "cpu", torch.float32), peer


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
def test_one_euler_step_by_the_published_formula(models: tuple[Pipeline, object], count: int) -> None:
    mine, peer = models
    pictures = tuple(checkpoints.picture(60 + i) for i in range(count))
    request = replace(
        checkpoints.request(peer, reference_images=pictures),
        sampler="euler", num_inference_steps=1, guidance_scale=6.5, image_guidance_scale=3.5,
    )  # fmt: skip
    found = mine.latents(request)
    start = noise((1, 16, 3 + count, 4, 8), 3)
    shown = torch.cat([mine.parts.codec.encode(to_tensor(p)[:, :, None]) for p in pictures], dim=2)
    said, unsaid = (
        peer.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=512)[0]
        for text in ("a red star on green grass", "blurry")
    )

    def velocity(text: torch.Tensor, tail: torch.Tensor) -> torch.Tensor:
        seen = torch.cat([start[:, :, :3], tail], dim=2)
        return peer.transformer(seen, torch.tensor([1000.0]), text, return_dict=False)[0]

    nothing, of_image, of_both = (
        velocity(unsaid, torch.zeros_like(shown)), velocity(unsaid, shown), velocity(said, shown),
    )  # fmt: skip
    guided = nothing + 3.5 * (of_image - nothing) + 6.5 * (of_both - of_image)
    expected = (start - guided)[:, :, :3]  # one step from noise level 1 to 0
    assert (found - expected).abs().max() <= 2e-4 * expected.abs().max()


def test_it_needs_somebody_to_show(models: tuple[Pipeline, object]) -> None:
    with pytest.raises(RequestError, match=r"phantom-1\.3b has no text mode"):
        models[0].plan(checkpoints.request(models[1]))


def test_a_family_that_these_tensors_cannot_be(tmp_path: Path) -> None:
    checkpoints.checkpoint("t2v").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"are wan2\.1-t2v-1\.3b's, .*or phantom-1\.3b's"):
        load(f"humo-17b={tmp_path}", "cpu", torch.float32)


def test_the_official_file_beside_the_shared_folder(tmp_path: Path) -> None:
    peer = checkpoints.checkpoint("t2v")
    peer.register_modules(transformer=checkpoints.transformer("t2v", 0, num_attention_heads=1, attention_head_dim=48))
    base = tmp_path / "Wan2.1-T2V-1.3B"
    official.write_wan(base, [peer.transformer], peer.vae, peer.text_encoder, peer.tokenizer)
    (tmp_path / "Phantom").mkdir()
    torch.save(official.trunk_names(peer.transformer.state_dict()), tmp_path / "Phantom" / "Phantom-Wan-1.3B.pth")
    mine = load(f"phantom-1.3b={tmp_path / 'Phantom'}", "cpu", torch.float32)
    assert mine.spec.name == describe(f"phantom-1.3b={tmp_path / 'Phantom'}").name == "phantom-1.3b"
    asked = checkpoints.request(peer, reference_images=(checkpoints.picture(3),))
    found = mine.latents(asked)
    peer.save_pretrained(tmp_path / "diffusers")
    assert torch.equal(found, load(f"phantom-1.3b={tmp_path / 'diffusers'}", "cpu", torch.float32).latents(asked))
