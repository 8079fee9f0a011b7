"""What is asked for against what can be made: each error names field, rule and nearest valid value."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from wan_core.errors import RequestError
from wan_core.plan import settle
from wan_core.specs import SPECS, family
from wan_core.types import Geometry, Request

WAN = SPECS["wan2.1-t2v-1.3b"]
TI2V = SPECS["wan2.2-ti2v-5b"]
GRID16 = Geometry(8, 4, (1, 2, 2), 16)
GRID32 = Geometry(16, 4, (1, 2, 2), 48)


def made(spec=WAN, grid=GRID16, picture=None, **fields):
    return settle(Request(**({"prompt": "a red ball"} | fields)), spec, grid, picture)


def test_everything_left_open_comes_from_the_recipe() -> None:
    s = made()
    assert (s.width, s.height, s.num_frames, s.fps) == (832, 480, 81, 16)
    assert (s.num_inference_steps, s.guidance_scale, s.flow_shift) == (50, 5.0, 5.0)
    assert s.negative_prompt.startswith("色调艳丽")
    assert 0 <= s.seed < 2**31


@pytest.mark.parametrize(("fields", "field", "hint"), [
    ({"prompt": ""}, "prompt", "try"),
    ({"prompt": "  \n"}, "prompt", "try"),
    ({"prompt": "x" * 10_000}, "prompt", "shorten it by 8,000"),
    ({"prompt": None}, "prompt", "must be text"),
    ({"num_frames": 0}, "num_frames", "try 1"),
    ({"num_frames": -7}, "num_frames", "try 1"),
    ({"num_frames": 80}, "num_frames", "try 77 or 81"),
    ({"num_frames": 10_000}, "num_frames", "try 161"),
    ({"num_frames": math.nan}, "num_frames", "whole number"),
    ({"num_frames": True}, "num_frames", "whole number"),
    ({"width": 850}, "width", "try 848"),
    ({"height": 0}, "height", "try 16"),
    ({"height": -480}, "height", "try 16"),
    ({"width": 100_000}, "width", "try 1440"),
    ({"width": math.inf}, "width", "whole number"),
    ({"num_inference_steps": 0}, "num_inference_steps", "try 1"),
    ({"num_inference_steps": 101}, "num_inference_steps", "try 100"),
    ({"num_inference_steps": 7.5}, "num_inference_steps", "try 8"),
    ({"guidance_scale": math.nan}, "guidance_scale", "a number from 1 to 20"),
    ({"guidance_scale": -3}, "guidance_scale", "try 1"),
    ({"guidance_scale": 99}, "guidance_scale", "try 20"),
    ({"flow_shift": 0}, "flow_shift", "try 0.1"),
    ({"sampler": "magic"}, "sampler", "unipc, euler"),
    ({"seed": -1}, "seed", "try 1"),
    ({"seed": 2**60}, "seed", "2**53"),
    ({"duration_seconds": 0}, "duration_seconds", "try 0.0625"),
    ({"duration_seconds": 99}, "duration_seconds", "try 10.0625"),
    ({"duration_seconds": 2, "num_frames": 33}, "duration_seconds", "give one of them"),
    ({"image": "x.png"}, "image", "no image mode"),
    ({"last_image": "x.png"}, "last_image", "give image too"),
    ({"image_fit": "stretch"}, "image_fit", "crop, pad"),
    ({"focal_point": (2, 0)}, "focal_point", "try 1"),
    ({"focal_point": "left"}, "focal_point", "0.5, 0.5"),
])  # fmt: skip
def test_bad_input_names_field_rule_and_nearest_value(fields, field, hint) -> None:
    with pytest.raises(RequestError) as caught:
        made(**fields)
    assert caught.value.field == field
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 250


def test_hints_are_valid() -> None:
    for width in (1, 15, 17, 849, 5000):
        with pytest.raises(RequestError) as caught:
            made(width=width)
        made(width=int(caught.value.hint.removeprefix("try ")))


@pytest.mark.parametrize(("seconds", "frames"), [(5, 81), (2, 33), (0.1, 1), (10.0, 161)])
def test_seconds_become_real_frame_counts(seconds, frames) -> None:
    assert made(duration_seconds=seconds).num_frames == frames


def test_image_size_follows_the_picture_at_constant_area() -> None:
    s = made(SPECS["wan2.2-i2v-a14b"], image="x", picture=(3000, 2000))
    assert (s.width, s.height) == (1168, 768)
    assert s.mode == "image"


def test_shift_and_guidance_per_family() -> None:
    small = made(SPECS["wan2.2-i2v-a14b"], image="x", picture=(832, 480), width=832, height=480)
    assert (small.flow_shift, small.guidance_scale, small.guidance_scale_2) == (3.0, 3.5, 3.5)
    assert made(SPECS["wan2.2-t2v-a14b"]).guidance_scale_2 == 3.0
    assert made(TI2V, GRID32).num_frames == 121


def test_a_single_guidance_serves_a_single_model() -> None:
    assert made(guidance_scale=2.0).guidance_scale_2 == 2.0


def test_fixed_size_models_say_so() -> None:
    fixed = replace(WAN, fixed_size=True)
    with pytest.raises(RequestError, match="only makes 832x480; try 832"):
        made(fixed, width=816)


@pytest.mark.parametrize(("changes", "boundary", "name"), [
    ({}, None, "wan2.1-t2v-1.3b"), ({}, 0.875, "wan2.2-t2v-a14b"),
    ({"in_channels": 36}, 0.9, "wan2.2-i2v-a14b"),
    ({"in_channels": 36, "image_dim": 1280}, None, "wan2.1-i2v-14b"),
    ({"in_channels": 36, "image_dim": 1280, "pos_embed_seq_len": 514}, None, "wan2.1-flf2v-14b"),
    ({"in_channels": 48, "out_channels": 48}, None, "wan2.2-ti2v-5b"),
])  # fmt: skip
def test_family_is_read_off_the_config(changes, boundary, name) -> None:
    config = {"in_channels": 16, "out_channels": 16, "image_dim": None} | changes
    spec = family(config, {"boundary_ratio": boundary}, 30)
    assert (spec.name, spec.boundary) == (name, boundary)
