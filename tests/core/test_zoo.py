"""Every published model in full size, on the meta device: its tensors' names and shapes, and its recipe.

``zoo.json.gz`` holds names and shapes of diffusers 0.42.1's and transformers 5.23's classes, and the same
under the original names, with those that S2V, HuMo and VACE add.
"""

from __future__ import annotations

import gzip
import inspect
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from tests.core import official
from wan_core import SPECS, placement
from wan_core.model.adapters import AnimateDiT
from wan_core.model.face import CHANNELS
from wan_core.sample.schedule import solver
from wan_core.specs import NEGATIVE_S2V, NEGATIVE_ZH, PUBLISHED, family
from wan_core.weights import keymap, load, original, original_clip

ZOO: dict[str, dict[str, dict[str, list[int]]]] = json.loads(
    gzip.decompress((Path(__file__).parent / "zoo.json.gz").read_bytes())
)
#: What each is called here, how many numbers it holds, and what beside its tensors tells.
TRUNKS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "t2v13": ("wan2.1-t2v-1.3b", 1_418_996_800, {}),
    "t2v14": ("wan2.1-t2v-14b", 14_288_491_584, {}),
    "i2v14_21": ("wan2.1-i2v-14b", 16_394_878_784, {}),
    "flf": ("wan2.1-flf2v-14b", 16_395_536_704, {}),
    "i2v14_22": ("wan2.2-i2v-a14b", 14_288_901_184, {"boundary_ratio": 0.9}),
    "ti2v5": ("wan2.2-ti2v-5b", 4_999_787_712, {}),
    "vace13": ("wan2.1-vace-1.3b", 2_153_972_032, {}),
    "vace14": ("wan2.1-vace-14b", 17_337_592_896, {}),
    "s2v14": ("wan2.2-s2v-14b", 16_295_755_609, {}),
    "humo17": ("humo-17b", 17_055_925_312, {}),
    "humo1_7": ("humo-1.7b", 1_741_569_088, {}),
}


def shapes(layout: str, name: str) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v) for k, v in ZOO[layout][name].items()}


@pytest.mark.parametrize(
    ("layout", "name"), [(layout, name) for layout in ZOO for name in TRUNKS if name in ZOO[layout]]
)
def test_a_full_size_transformer_has_exactly_the_published_tensors(layout: str, name: str) -> None:
    published = keymap.to_diffusers(shapes(layout, name))
    known, count, index = TRUNKS[name]
    kind, config = keymap.kind_of(set(published)), keymap.config_from(published)
    assert config["attention_head_dim"] == 128
    assert family(config, index, config["num_layers"], kind).name == known
    model = load.build({}, {k: torch.empty(v, device="meta") for k, v in published.items()}, name)
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == published
    assert sum(p.numel() for p in model.parameters()) == count == PUBLISHED[known].parameters
    assert (config["num_layers"], model.config["num_attention_heads"] * 128) == (
        PUBLISHED[known].layers,
        PUBLISHED[known].dim,
    )
    if kind == "vace":
        assert model.config["vace_layers"] == tuple(range(0, config["num_layers"], 2 if name == "vace13" else 5))


def test_every_family_is_published_somewhere() -> None:
    assert PUBLISHED.keys() == SPECS.keys()
    for name, spec in SPECS.items():
        assert PUBLISHED[name].repo.count("/") == 1
        assert spec.licence == "Apache-2.0"
        if spec.like:
            assert PUBLISHED[name].parameters == PUBLISHED[spec.like].parameters


@pytest.mark.parametrize("name", ["t2v13", "t2v14", "vace14", "ti2v5"])
def test_what_is_expected_of_a_model_is_what_it_weighs(name: str) -> None:
    """The picker's verdict goes by this, before anything is loaded."""
    known, _, _ = TRUNKS[name]
    tensors = {k: torch.empty(v, device="meta") for k, v in shapes("diffusers_and_transformers", name).items()}
    blocks = sum(v.numel() for k, v in tensors.items() if "blocks." in k) / PUBLISHED[known].layers
    sizes = placement.expected(SPECS[known])
    assert sizes is not None
    ((layers, block),) = sizes.lanes
    assert layers == PUBLISHED[known].layers
    assert abs(block - 2 * blocks) < 0.03 * block
    small, large = (placement.expected(SPECS[known], dtype) for dtype in (torch.float8_e4m3fn, torch.float32))
    assert small is not None
    assert large is not None
    assert [s.lanes[0][1] / block for s in (small, large)] == pytest.approx([0.5, 2.0], rel=1e-6)
    assert (small.encoders, large.encoders) == (sizes.encoders, 2 * sizes.encoders)


@pytest.mark.parametrize(("name", "count"), [("vae21", 126_892_531), ("vae22", 704_688_668)])
def test_a_full_size_vae(name: str, count: int) -> None:
    published = shapes("diffusers_and_transformers", name)
    stored = official.vae_names({k: torch.empty(v, device="meta") for k, v in published.items()}, 2)
    config = original.vae_config({k: tuple(v.shape) for k, v in stored.items()})
    with torch.device("meta"):
        model = AutoencoderKLWan(**config)
    assert {original.vae_name(k, 2): tuple(v.shape) for k, v in stored.items()} == published
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == published
    assert sum(map(math.prod, published.values())) == count


def test_a_full_size_text_encoder() -> None:
    published = shapes("diffusers_and_transformers", "umt5xxl")
    stored = official.text_names({k: torch.empty(v, device="meta") for k, v in published.items()})
    config = original.text_config({k: tuple(v.shape) for k, v in stored.items()})
    with torch.device("meta"):
        model = UMT5EncoderModel(UMT5Config(**config))
    assert {original.text_name(k): tuple(v.shape) for k, v in stored.items()}.items() <= published.items()
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == published


def test_a_full_size_clip() -> None:
    published = shapes("diffusers_and_transformers", "clip_vit_h_vision")
    stored = official.clip_names({k: torch.empty(v, device="meta") for k, v in published.items()})
    fields = original_clip.vision_config({k: tuple(v.shape) for k, v in stored.items()})
    with torch.device("meta"):
        model = CLIPVisionModel(CLIPVisionConfig(**fields))
    renamed = {k: tuple(v.shape) for k, v in original_clip.vision_tensors(stored).items()}
    assert renamed == {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert renamed == {k: v for k, v in published.items() if not k.endswith("position_ids")}


def test_a_full_size_wav2vec() -> None:
    """S2V's ears, from their config as it is published: the library's class has exactly these tensors."""
    with torch.device("meta"):
        model = Wav2Vec2Model(Wav2Vec2Config(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
            feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True,
        ))  # fmt: skip
    published = shapes("diffusers_and_transformers", "wav2vec2_large")
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == published


def test_a_full_size_animate() -> None:
    """No family of the registry, since no videos are made with it; its tensors are all there all the same."""
    published = shapes("diffusers_and_transformers", "animate14")
    model = load.build({}, {k: torch.empty(v, device="meta") for k, v in published.items()}, "animate")
    assert isinstance(model, AnimateDiT)
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == published
    assert sum(p.numel() for p in model.parameters()) == 17_274_816_884
    fields = inspect.signature(AnimateDiT).parameters
    usual = {name: fields[name].default for name in model.config if name in fields}
    sizes = dict(model.config["motion_encoder_channel_sizes"])
    assert sizes.items() <= CHANNELS.items()
    assert (
        dict(model.config).items()
        >= (usual | {"motion_encoder_channel_sizes": sizes, "added_kv_proj_dim": 5120}).items()
    )


# --- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "steps"),
    [
        (5.0, [999, 978, 952, 921, 882, 833, 769, 682, 556, 359]),
        (3.0, [999, 964, 923, 875, 818, 750, 667, 563, 429, 251]),
        (12.0, [999, 990, 979, 965, 947, 923, 889, 837, 750, 573]),
        (8.0, [999, 986, 969, 949, 923, 889, 842, 774, 667, 473]),
    ],
)
def test_noise_levels(shift: float, steps: list[int]) -> None:
    assert solver("unipc", 10, shift, torch.device("cpu")).timesteps.tolist() == steps


@pytest.mark.parametrize(
    ("shift", "steps", "boundary", "high"),
    [(12.0, 40, 0.875, 26), (5.0, 40, 0.9, 15), (5.0, 40, 0.875, 17), (3.0, 40, 0.9, 11), (5.0, 4, 0.9, 2)],
)
def test_steps_of_the_high_noise_expert(shift: float, steps: int, boundary: float, high: int) -> None:
    levels = solver("unipc", steps, shift, torch.device("cpu")).timesteps
    assert int((levels >= 1000 * boundary).sum()) == high


#: Official values: steps, shift (below 720p), guidance (at low noise), boundary, fps, frames, size.
RECIPES = {
    "wan2.1-t2v-1.3b": (50, 5.0, None, 5.0, None, None, 16, 81, (832, 480)),
    "wan2.1-t2v-14b": (50, 5.0, None, 5.0, None, None, 16, 81, (1280, 720)),
    "wan2.1-i2v-14b": (40, 5.0, 3.0, 5.0, None, None, 16, 81, (1280, 720)),
    "wan2.1-flf2v-14b": (50, 16.0, None, 5.0, None, None, 16, 81, (1280, 720)),
    "wan2.1-vace-1.3b": (50, 16.0, None, 5.0, None, None, 16, 81, (832, 480)),
    "wan2.1-vace-14b": (50, 16.0, None, 5.0, None, None, 16, 81, (1280, 720)),
    "wan2.2-t2v-a14b": (40, 12.0, None, 4.0, 3.0, 0.875, 16, 81, (1280, 720)),
    "wan2.2-i2v-a14b": (40, 5.0, 3.0, 3.5, 3.5, 0.9, 16, 81, (1280, 720)),
    "wan2.2-vace-fun-a14b": (40, 12.0, None, 4.0, 3.0, 0.875, 16, 81, (1280, 720)),
    "wan2.2-ti2v-5b": (50, 5.0, None, 5.0, None, None, 24, 121, (1280, 704)),
    "wan2.2-s2v-14b": (40, 3.0, None, 4.5, None, None, 16, 77, (832, 448)),
    "humo-1.7b": (50, 5.0, None, 7.5, None, None, 25, 97, (832, 480)),
    "humo-17b": (50, 5.0, None, 5.0, None, None, 25, 97, (832, 480)),
    "phantom-1.3b": (50, 5.0, None, 7.5, None, None, 16, 81, (832, 480)),
    "phantom-14b": (50, 5.0, None, 7.5, None, None, 24, 121, (1280, 720)),
    "fastwan2.1-t2v-1.3b": (3, 8.0, None, 1.0, None, None, 16, 81, (832, 480)),
    "fastwan2.1-t2v-14b": (3, 8.0, None, 1.0, None, None, 16, 81, (832, 480)),
    "fastwan2.2-ti2v-5b": (3, 5.0, None, 1.0, None, None, 24, 121, (1280, 704)),
    "lightx2v-t2v-14b": (4, 5.0, None, 1.0, None, None, 16, 81, (832, 480)),
    "lightx2v-i2v-14b": (4, 5.0, None, 1.0, None, None, 16, 81, (832, 480)),
    "lightx2v-t2v-a14b": (4, 5.0, None, 1.0, 1.0, 0.875, 16, 81, (832, 480)),
    "lightx2v-i2v-a14b": (4, 5.0, None, 1.0, 1.0, 0.9, 16, 81, (832, 480)),
}
SHAKE = {"wan2.1-i2v-14b": "镜头晃动，" + NEGATIVE_ZH, "wan2.1-flf2v-14b": "镜头切换，" + NEGATIVE_ZH,
         "wan2.2-s2v-14b": NEGATIVE_S2V}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_the_published_recipe(name: str) -> None:
    spec, recipe = SPECS[name], SPECS[name].recipe
    found = (recipe.steps, recipe.shift, recipe.shift_small, recipe.guidance, recipe.guidance_low, spec.boundary,
             recipe.fps, recipe.frames, recipe.size)  # fmt: skip
    assert found == RECIPES[name]
    assert recipe.negative == SHAKE.get(name, NEGATIVE_ZH)


def test_no_recipe_is_left_out() -> None:
    assert SPECS.keys() == RECIPES.keys()


DISTILLED = {
    "fastwan2.1-t2v-1.3b": [1000, 757, 522], "fastwan2.1-t2v-14b": [1000, 757, 522],
    "fastwan2.2-ti2v-5b": [1000, 757, 522], "lightx2v-t2v-a14b": [1000, 937.5, 833.3333, 625],
    "lightx2v-i2v-a14b": [1000, 937.5, 833.3333, 625],
}  # fmt: skip


@pytest.mark.parametrize("name", DISTILLED)
def test_distilled_models_run_at_the_noise_levels_they_were_made_for(name: str) -> None:
    recipe, boundary = SPECS[name].recipe, SPECS[name].boundary
    steps = solver(recipe.sampler, recipe.steps, recipe.shift, torch.device("cpu"), recipe.levels)
    assert steps.timesteps.tolist() == pytest.approx(DISTILLED[name])
    assert steps.sigmas.tolist() == pytest.approx([level / 1000 for level in DISTILLED[name]] + [0])
    if boundary is not None:
        assert int((steps.timesteps >= 1000 * boundary).sum()) == 2  # two steps for either expert


def test_renoising_by_its_formula() -> None:
    """With the true velocity, every step lands on the same clean video under fresh noise, and the last on itself."""
    clean = torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    steps = solver("renoise", 3, 8.0, torch.device("cpu"), (1000, 757, 522), seed=5)
    noise = x = torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    seen = [noise]
    for t, sigma in zip(steps.timesteps, [0.757, 0.522, 0.0], strict=True):
        x = steps.step(noise - clean, t, x)[0]
        if sigma:
            noise = (x - (1 - sigma) * clean) / sigma
            assert noise.std() == pytest.approx(1, abs=0.15)
            assert all((noise - before).abs().max() > 0.5 for before in seen)
            seen.append(noise)
    torch.testing.assert_close(x, clean, atol=1e-5, rtol=0)


def test_a_distilled_folder_is_known_by_its_pipeline() -> None:
    config = {"in_channels": 16, "out_channels": 16, "image_dim": None}
    assert family(config, {"_class_name": "WanDMDPipeline"}, 30).name == "fastwan2.1-t2v-1.3b"
    assert family(config, {"_class_name": "WanPipeline"}, 30).name == "wan2.1-t2v-1.3b"
    assert family(config, {"boundary_ratio": 0.875}, 40, "wan", "lightx2v-t2v-a14b").recipe.steps == 4
