"""The shipped model through the real pipeline: it must show what it was asked for.

These are floors that a wrong sign in guidance, a transposed latent or a broken text path falls
through at once. How good the model is stands in ``assets/tiny/CARD.md``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

import wan_core
from assets.tiny import detect

PROMPTS = [
    ("a red ball standing still on a gray background", "red", "gray"),
    ("a yellow star in the desert", "yellow", "desert"),
    ("緑の四角が夜空で止まっている", "green", "night sky"),
    ("黑色背景上的粉色爱心", "pink", "black"),
    ("a blue heart on green grass", "blue", "grass"),
    ("in a blue sky, an orange ball", "orange", "blue sky"),
]


@pytest.fixture(scope="module")
def pipe() -> wan_core.Pipeline:
    return wan_core.load(wan_core.BUILT_IN, "cpu")


def test_colours_and_backgrounds_follow_the_prompt(pipe: wan_core.Pipeline) -> None:
    seen = [detect.read(pipe(prompt=p, num_inference_steps=12, seed=i).frames) for i, (p, _, _) in enumerate(PROMPTS)]
    colours = sum(s.colour == c for s, (_, c, _) in zip(seen, PROMPTS, strict=True))
    grounds = sum(s.background == b for s, (_, _, b) in zip(seen, PROMPTS, strict=True))
    assert colours >= 4, seen
    assert grounds >= 5, seen


def test_the_first_frame_of_an_image_is_kept(pipe: wan_core.Pipeline) -> None:
    from assets.tiny import world
    from assets.tiny.evaluate import psnr

    first = world.render(world.Scene("red", "ball", "right", "gray"))[0][0]
    clip = pipe(prompt="moving right", image=first.numpy(), num_inference_steps=6, seed=0)
    assert psnr(torch.from_numpy(clip.frames[0]), first) > 24


def test_fast_tiers_leave_out_half_of_many_steps_and_show_the_same(pipe: wan_core.Pipeline) -> None:
    from assets.tiny.evaluate import psnr

    asked = {"prompt": PROMPTS[1][0], "num_inference_steps": 50, "seed": 1}
    runs, clips = {"exact": 0, "fast": 0, "scheduled": 0}, {}
    for tier in runs:

        def count(*_: object, tier: str = tier) -> None:
            runs[tier] += 1

        hook = pipe.parts.experts[0].blocks[0].ffn.register_forward_hook(count)
        clips[tier] = torch.from_numpy(pipe(**asked, tier=tier).frames)
        hook.remove()
    assert runs["exact"] == 50  # both guidance branches at once
    assert runs["fast"] <= 25
    assert 2 * runs["scheduled"] == pipe.plan(wan_core.Request(**asked, tier="scheduled")).passes == 38
    for tier in ("fast", "scheduled"):
        assert 30 < psnr(clips[tier], clips["exact"]) < 80


def test_unknown_words_still_give_a_clean_clip(pipe: wan_core.Pipeline) -> None:
    clip = pipe(prompt="xylophone quarterly Überraschung 42 ~~", num_inference_steps=6, seed=3)
    same = pipe(prompt=clip.settled.read_as, num_inference_steps=6, seed=3)
    assert (clip.frames == same.frames).all()
    assert clip.frames.shape == (33, 128, 128, 3)
    steps = abs(clip.frames[1:].astype(int) - clip.frames[:-1]).mean()
    assert steps < 12  # noise would flicker by far more


def test_folder_is_plain_diffusers() -> None:
    """diffusers' own pipeline loads the folder and computes the same latents."""
    theirs = WanPipeline.from_pretrained(wan_core.BUILT_IN, torch_dtype=torch.float32)
    assert isinstance(theirs.transformer, WanTransformer3DModel)
    mine = wan_core.load(wan_core.BUILT_IN, "cpu", torch.float32)
    recipe = mine.spec.recipe
    theirs.scheduler = UniPCMultistepScheduler.from_config(theirs.scheduler.config, flow_shift=recipe.shift)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        "a red ball bouncing on grass", negative_prompt="", width=128, height=128, num_frames=33,
        num_inference_steps=4, guidance_scale=recipe.guidance, generator=torch.Generator("cpu").manual_seed(2),
        output_type="latent",
    ).frames  # fmt: skip
    request = wan_core.Request("a red ball bouncing on grass", num_inference_steps=4, seed=2)
    assert (mine.latents(request) - expected).abs().max() <= 1e-4


def test_card_and_history_tell_how_it_was_made() -> None:
    card = (Path(wan_core.BUILT_IN) / "CARD.md").read_text(encoding="utf-8")
    for heading in ("Data", "Training", "Figures", "Limits"):
        assert f"## {heading}" in card
    history = json.loads((Path(wan_core.BUILT_IN) / "history.json").read_text())
    assert {"vae", "text", "dit"} <= history.keys()
