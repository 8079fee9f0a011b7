"""Recipes: what a video says is what it was made from, and what would differ now is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.test_provenance import video
from wan_core import BUILT_IN
from wan_core.errors import MediaError
from wan_core.specs import SPECS, ModelSpec
from wan_core.studio.recipe import recipe_in_address, recipe_of, restore
from wan_core.types import Settled, Started
from wan_core.weights.describe import describe
from wan_core.weights.places import Root
from wan_core.weights.revision import revision

SPEC = SPECS["wan2.2-ti2v-5b"]
SETTLED = Settled(
    prompt="a red star; 100 %", negative_prompt="", width=1280, height=704, num_frames=121, num_inference_steps=50,
    guidance_scale=5.0, guidance_scale_2=5.0, audio_guidance_scale=1.0, image_guidance_scale=1.0,
    conditioning_scale=1.0, flow_shift=5.0, sampler="unipc", seed=2**53 - 1, fps=24, mode="text", image_fit="crop",
    focal_point=(0.25, 0.5),
)  # fmt: skip


def told(path: Path, spec: ModelSpec | None = SPEC, **changes: object) -> tuple[dict, list[str]]:
    recipe = recipe_of(Started(SETTLED, model=SPEC.name, revision=SPEC.revision, backend="cpu")) | changes
    return restore(video(path / "x.mp4", **recipe), dict.fromkeys(("text", "image", "reference"), spec))


def test_every_choice_comes_back(tmp_path: Path) -> None:
    fields, differs = told(tmp_path)
    assert differs == []
    same = SETTLED.as_json() | {"focal_point": list(SETTLED.focal_point)}
    assert fields == {k: v for k, v in same.items() if k not in ("fps", "in_front", "read_as")}  # facts


def test_a_prompt_that_is_read_otherwise_now_is_told(tmp_path: Path) -> None:
    spec = describe(BUILT_IN)
    assert spec.vocabulary is not None
    read = spec.reads(SETTLED.prompt, SETTLED.seed, "text")
    for then, as_now in ((read, True), ("", False), ("one red star spinning in the desert", False)):
        _, differs = told(tmp_path, spec, read_as=then, model=spec.name)
        assert as_now != any("read otherwise" in sentence for sentence in differs), then


def test_what_a_recipe_is_too_old_to_say_is_as_it_was(tmp_path: Path) -> None:
    """Or a page would keep what somebody has moved since, and say that all came back."""
    recipe = recipe_of(Started(SETTLED, model=SPEC.name, revision=SPEC.revision, backend="cpu"))
    old = {k: v for k, v in recipe.items() if not k.startswith(("guidance_s", "guidance_m")) or k == "guidance_scale"}
    assert "guidance_stop" not in old
    fields, differs = restore(video(tmp_path / "x.mp4", **old), dict.fromkeys(("text", "image", "reference"), SPEC))
    assert (fields["guidance_method"], fields["guidance_start"], fields["guidance_stop"]) == ("plain", 0.0, 1.0)
    assert differs == []


@pytest.mark.parametrize(("changes", "spec", "words"), [
    ({"model": "wan2.1-t2v-14b"}, SPEC, "made by wan2.1-t2v-14b"),
    ({"mode": "image"}, SPEC, "first frame"),
    ({"mode": "image", "in_front": 33}, SPEC, "the video that it goes on from"),
    ({"mode": "reference"}, SPECS["humo-1.7b"], "voice"),
    ({"mode": "reference"}, None, "Nothing that is loaded"),
    ({"version": 99}, SPEC, "another version"),
    ({"magic": 1}, SPEC, "Not understood here: magic"),
    ({"width": "wide", "focal_point": [1, 2, 3], "num_frames": True}, SPEC, "focal_point, num_frames, width"),
    ({"revision": "0123456789ab"}, SPEC, "other weights"),
    ({"application": "0.0.1"}, SPEC, "version 0.0.1"),
    ({"fps": 16}, SPEC, "frames a second"),
    ({"tier": "scheduled"}, replace(SPEC, recipe=replace(SPEC.recipe, magnitudes=())), "no schedule"),
    ({}, replace(SPEC, fixed_size=True, recipe=replace(SPEC.recipe, size=(128, 128))), "only makes 128x128"),
    ({"num_frames": 200}, SPEC, "at most 161 frames"),
])  # fmt: skip
def test_what_would_differ_is_told(tmp_path: Path, changes: dict, spec: ModelSpec | None, words: str) -> None:
    _, differs = told(tmp_path, spec, **changes)
    assert any(words in sentence for sentence in differs)


def test_a_revision_changes_with_the_weights_and_only_with_them(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    weights = tmp_path / "vae" / "model.safetensors"
    weights.write_bytes(bytes(200_000))
    before = revision(Root(tmp_path))
    (tmp_path / "README.md").write_text("words")
    assert revision(Root(tmp_path)) == before
    weights.write_bytes(bytes(199_999) + b"1")
    assert revision(Root(tmp_path)) != before
    commit = tmp_path / "snapshots" / ("ab" * 20)
    commit.mkdir(parents=True)
    assert revision(Root(commit)) == "ab" * 6


@pytest.mark.parametrize(
    "change", [{"prompt": 7}, {"seed": None}, {"mode": ["text"]}, {"mode": "magic"}, {"seed": 1e9}]
)
def test_a_video_without_a_recipe(tmp_path: Path, change: dict) -> None:
    with pytest.raises(MediaError, match="no recipe"):
        told(tmp_path, **change)


def test_a_recipe_in_an_address() -> None:
    said = '{"mode": "image", "prompt": "a", "seed": 3, "width": "wide", "fps": 16}'
    assert recipe_in_address(said) == {"mode": "image", "prompt": "a", "seed": 3}  # what is no number is left out
    assert recipe_in_address('{"prompt": "a"}')["mode"] == "text"


@pytest.mark.parametrize("text", ["", "x", "[1]", "3", '{"magic": 1}', '{"prompt": '])
def test_an_address_without_a_recipe(text: str) -> None:
    assert recipe_in_address(text) == {}
