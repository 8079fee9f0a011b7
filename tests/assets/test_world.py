"""The world, its captions, and the detectors that read it back."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan
from transformers import AutoTokenizer, UMT5EncoderModel

from assets.tiny import detect, train_vae, whole, world
from assets.tiny.captions import ATTRIBUTES, LANGUAGES, WORDS, caption, plain
from wan_core import BUILT_IN
from wan_core.model import text

SCENE = world.Scene("red", "star", "right", "gray")


def test_a_tenth_of_all_combinations_is_held_out() -> None:
    held, kept = world.combinations(True), world.combinations(False)
    assert not set(held) & set(kept)
    assert 0.08 < len(held) / (len(held) + len(kept)) < 0.12
    rng = random.Random(0)
    assert all(world.held_out(world.sample_scene(rng, held=True).key) for _ in range(50))


def test_painting_is_repeatable_and_moves_as_told() -> None:
    clip, cover = world.render(SCENE)
    assert clip.shape == (33, 128, 128, 3)
    assert torch.equal(clip, world.render(SCENE)[0])
    x = torch.arange(128.0)
    centre = (cover.sum(1) * x).sum(1) / cover.sum((1, 2))
    assert (centre.diff() > 0).all()
    assert centre[-1] - centre[0] > 50


def test_every_attribute_changes_the_picture() -> None:
    plain_clip = world.render(SCENE)[0].float()
    for change in ({"colour": "blue"}, {"shape": "ring"}, {"background": "grass"}, {"size": "big"}, {"motion": "spin"}):
        assert (world.render(replace(SCENE, **change))[0].float() - plain_clip).abs().mean() > 0.5, change


def test_captions_say_what_they_claim() -> None:
    rng = random.Random(1)
    for language in LANGUAGES:
        for _ in range(100):
            scene = world.sample_scene(rng)
            words, said = caption(scene, rng, language)
            for name, value in said.items():
                if value and language != "ja":  # in Japanese a particle may be dropped at the end
                    folded = words.lower().replace(" ", "")
                    assert any(w.lower().replace(" ", "") in folded for w in WORDS[language][name][value]), (
                        words,
                        name,
                    )


def test_every_language_has_several_words_for_everything() -> None:
    for language in LANGUAGES:
        for name, values in ATTRIBUTES.items():
            for value in values[1:]:
                assert len(WORDS[language][name][value]) >= 2, (language, name, value)


@pytest.mark.parametrize("scene", [
    SCENE,
    world.Scene("blue", "ring", "circle", "night sky"),
    world.Scene("yellow", "heart", "grow", "desert"),
    world.Scene("green", "square", "spin", "black", "big"),
    world.Scene("purple", "triangle", "bounce", "grass"),
    world.Scene("white", "ball", "still", "blue sky", "small"),
    world.Scene("orange", "star", "up", "gray"),
], ids=lambda s: "-".join(s.key))  # fmt: skip
def test_detectors_read_the_world(scene: world.Scene) -> None:
    seen = detect.read(world.render(scene)[0].numpy())
    assert (seen.colour, seen.shape, seen.motion, seen.background) == scene.key


@torch.no_grad()
def test_training_forward_equals_diffusers() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**train_vae.CONFIG).eval()
    clip = torch.rand(2, 3, 13, 32, 48) * 2 - 1
    moments = whole.encode(vae, clip)
    assert (moments - vae._encode(clip)).abs().max() <= 1e-5
    latents = torch.randn(1, train_vae.WIDE_Z, 4, 2, 3)
    assert (whole.decode(vae, latents).clamp(-1, 1) - vae._decode(latents).sample).abs().max() <= 1e-5
    still = clip[:, :, :1]
    assert (whole.encode(vae, still) - vae._encode(still)).abs().max() <= 1e-5


@torch.no_grad()
def test_text_encoder_says_the_same_in_every_language() -> None:
    """Captions of one scene are nearer to each other across languages than to another scene's."""
    tokenizer = AutoTokenizer.from_pretrained(BUILT_IN / "tokenizer")
    encoder = UMT5EncoderModel.from_pretrained(BUILT_IN / "text_encoder").float().eval()
    rng, right = random.Random(2), 0
    scenes = [world.sample_scene(rng, held=True) for _ in range(20)]

    def vector(scene: world.Scene, language: str) -> torch.Tensor:
        return text.embed(plain(scene, rng, language), tokenizer, encoder)[0].mean(0)

    english = torch.stack([vector(s, "en") for s in scenes])
    for language in ("ja", "zh"):
        other = torch.stack([vector(s, language) for s in scenes])
        nearest = torch.cdist(other, english).argmin(1)
        right += int((nearest == torch.arange(len(scenes))).sum())
    assert right >= 36
