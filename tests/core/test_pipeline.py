"""Whole pipelines against diffusers' own, on the same small random checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.core.tiny import BASE, KINDS, shake, vae
from wan_core import Request, load, velocity
from wan_core.condition import fit
from wan_core.errors import Cancelled, MediaError, RequestError
from wan_core.model.dit import WanDiT
from wan_core.pipeline import Pipeline

WORDS = ["<pad>", "</s>", "<unk>", *"a red star bouncing on green grass blurry and dark".split()]


def tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def text_encoder() -> UMT5EncoderModel:
    torch.manual_seed(5)
    config = UMT5Config(vocab_size=len(WORDS), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    return UMT5EncoderModel(config).eval()


def transformer(kind: str, seed: int, cls: type = WanTransformer3DModel, **changes: Any) -> Any:
    model = cls(**(BASE | KINDS[kind] | changes)).eval()
    shake(model, seed)
    return model


def clip_tower() -> tuple[CLIPImageProcessor, CLIPVisionModel]:
    torch.manual_seed(6)
    config = CLIPVisionConfig(hidden_size=40, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                              image_size=32, patch_size=16)  # fmt: skip
    size = {"shortest_edge": 32}
    return CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}), CLIPVisionModel(config).eval()


def checkpoint(kind: str, experts: int = 1) -> Any:
    """A diffusers pipeline of random parts."""
    codec: AutoencoderKLWan = vae("2.2" if kind == "ti2v" else "2.1")
    parts: dict[str, Any] = {
        "transformer": transformer(kind, 0), "vae": codec, "tokenizer": tokenizer(),
        "text_encoder": text_encoder(),
        "scheduler": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=7.0),
        "transformer_2": transformer(kind, 1) if experts == 2 else None,
        "boundary_ratio": 0.8 if experts == 2 else None,
    }  # fmt: skip
    if kind in ("t2v", "ti2v"):
        return WanPipeline(**parts, expand_timesteps=kind == "ti2v")
    processor, tower = clip_tower() if kind in ("clip", "first_last") else (None, None)
    return WanImageToVideoPipeline(**parts, image_processor=processor, image_encoder=tower)


def ours(peer: Any, folder: Path) -> Pipeline:
    """The same checkpoint through our own loader, in float32."""
    peer.save_pretrained(folder)
    return load(folder, "cpu", torch.float32)


def picture(seed: int, size: tuple[int, int] = (64, 32)) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (4, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def test_a_video_is_gone_on_from_its_last_frame(tmp_path: Path) -> None:
    """The one before stands in front, whole; what is made begins after its last frame, and is what that frame gives."""
    mine = ours(checkpoint("ti2v"), tmp_path)
    before = np.stack([np.asarray(picture(seed)) for seed in range(5)])
    asked = {"prompt": "a red star", "num_inference_steps": 2, "num_frames": 9, "seed": 3}
    longer = mine(**asked, extends=before).frames
    alone = mine(**asked, image=Image.fromarray(before[-1]), width=64, height=32).frames
    assert (len(longer), len(alone)) == (5 + 8, 9)
    assert np.array_equal(longer[:5], before)
    assert np.array_equal(longer[5:], alone[1:])
    plan = mine.plan(Request(**asked, extends=before))
    assert (plan.settled.in_front, plan.settled.frames) == (5, 13)
    cancel = iter([False] * 3 + [True] * 9)
    with pytest.raises(Cancelled):  # between the frames that stand in front, too
        list(mine.run(Request(**asked, extends=before), lambda: next(cancel)))


@pytest.mark.parametrize("how", ["crop", "pad"])
def test_what_stands_in_front_is_framed_as_what_follows(how: str, tmp_path: Path) -> None:
    mine = ours(checkpoint("ti2v"), tmp_path)
    before = np.stack([np.asarray(picture(seed)) for seed in range(5)])
    asked = {"prompt": "a", "num_inference_steps": 2, "num_frames": 5, "seed": 3, "width": 32, "height": 32}
    longer = mine(**asked, extends=before, image_fit=how).frames
    last = np.asarray(fit(Image.fromarray(before[-1]), (32, 32), how))
    assert np.array_equal(longer[4], last)
    alone = mine(**asked, image=Image.fromarray(before[-1]), image_fit=how).frames
    assert np.array_equal(longer[5:], alone[1:])


def test_what_cannot_be_gone_on_from_is_said(tmp_path: Path) -> None:
    before = np.zeros((5, 32, 64, 3), np.uint8)
    image, both, text = (ours(checkpoint(kind), tmp_path / kind) for kind in ("ti2v", "first_last", "t2v"))
    for pipe, given, match in (
        (image, {"image": picture(1)}, "image.*leave it out"),
        (image, {"num_frames": 1}, "num_frames.*try 5"),
        (image, {"reference_images": (picture(1),)}, "no reference mode"),
        (text, {}, "extends.*has no image mode"),
    ):
        with pytest.raises(RequestError, match=match):
            pipe.settle(Request(prompt="a", extends=before, **given))
    for odd, match in (
        (np.zeros((16 * 61, 2, 2, 3), np.uint8), "longer than 60 seconds"),
        (np.zeros((1, 3000, 3001, 3), np.uint8), "at most 9 megapixels"),
    ):
        with pytest.raises(MediaError, match=match):
            both.settle(Request(prompt="a", extends=odd))
    assert both.settle(Request(prompt="a", extends=before, last_image=picture(2))).in_front == 5


def common(peer: Any) -> dict[str, Any]:
    two = peer.config.boundary_ratio is not None
    return {"prompt": "a red star on green grass", "negative_prompt": "blurry", "width": 64, "height": 32,
            "num_frames": 9, "num_inference_steps": 6, "guidance_scale": 4.0,
            "guidance_scale_2": 2.5 if two else None}  # fmt: skip


def compare(mine: Pipeline, peer: Any, request: Request, **extra: Any) -> None:
    generator = torch.Generator("cpu").manual_seed(3)
    arguments = common(peer) | {k: v for k, v in extra.items() if v is not None}
    peer.set_progress_bar_config(disable=True)
    expected = peer(**arguments, generator=generator, output_type="latent").frames
    found = mine.latents(request)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= 1e-4


def request(peer: Any, **extra: Any) -> Request:
    return Request(**common(peer), flow_shift=7.0, seed=3, **extra)


def test_guidance_on_some_of_the_steps(tmp_path: Path) -> None:
    """On all, it is as if nobody had said so; on none, as if it were off; and it costs what it runs."""
    mine = ours(checkpoint("t2v"), tmp_path)

    def asked(**extra: Any) -> Request:
        return Request("a ball", width=32, height=32, num_frames=5, num_inference_steps=4, seed=1, **extra)

    whole, off = mine.latents(asked()), mine.latents(asked(guidance_scale=1.0))
    assert torch.equal(mine.latents(asked(guidance_start=0.0, guidance_stop=1.0, guidance_method="plain")), whole)
    assert torch.equal(mine.latents(asked(guidance_stop=0.0)), off)
    half = mine.latents(asked(guidance_stop=0.5))
    assert min((half - whole).abs().max(), (half - off).abs().max()) > 1e-3
    assert [mine.plan(asked(guidance_stop=stop)).passes for stop in (0.0, 0.5, 1.0)] == [4, 6, 8]
    assert (mine.latents(asked(guidance_method="zero_star")) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("experts", [1, 2])
def test_text(experts: int, tmp_path: Path) -> None:
    peer = checkpoint("t2v", experts)
    compare(ours(peer, tmp_path), peer, request(peer))


def test_text_ti2v(tmp_path: Path) -> None:
    peer = checkpoint("ti2v")
    compare(ours(peer, tmp_path), peer, request(peer))


def test_image_ti2v(tmp_path: Path) -> None:
    peer = checkpoint("ti2v")
    mine = ours(peer, tmp_path)
    as_image = WanImageToVideoPipeline(**{**peer.components, "image_processor": None, "image_encoder": None},
                                       expand_timesteps=True)  # fmt: skip
    compare(mine, as_image, request(as_image, image=picture(0)), image=picture(0))


@pytest.mark.parametrize("experts", [1, 2])
@pytest.mark.parametrize("last", [None, picture(1)], ids=["first", "first-last"])
def test_image_36_channels(experts: int, last: Image.Image | None, tmp_path: Path) -> None:
    peer = checkpoint("i2v36", experts)
    compare(ours(peer, tmp_path), peer, request(peer, image=picture(0), last_image=last),
            image=picture(0), last_image=last)  # fmt: skip


def test_image_clip(tmp_path: Path) -> None:
    peer = checkpoint("clip")
    compare(ours(peer, tmp_path), peer, request(peer, image=picture(0)), image=picture(0))


def test_first_last_clip(tmp_path: Path) -> None:
    peer = checkpoint("first_last")
    # 32 px at patch 16 is 5 CLIP tokens; two pictures make the learned position table 10 long
    for part in ("transformer",):
        model = transformer("first_last", 0, pos_embed_seq_len=10)
        peer.register_modules(**{part: model})
    compare(ours(peer, tmp_path), peer, request(peer, image=picture(0), last_image=picture(1)),
            image=picture(0), last_image=picture(1))  # fmt: skip


def test_euler_matches_diffusers_scheduler(tmp_path: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    peer = checkpoint("t2v")
    mine = ours(peer, tmp_path)
    peer.register_modules(scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0))
    compare(mine, peer, replace(request(peer), sampler="euler"))


def test_our_transformer_drops_into_diffusers_pipelines() -> None:
    peer = checkpoint("ti2v")
    generator = torch.Generator("cpu")
    peer.set_progress_bar_config(disable=True)
    arguments = common(peer) | {"output_type": "latent"}
    expected = peer(**arguments, generator=generator.manual_seed(3)).frames
    mine = WanDiT(**(BASE | KINDS["ti2v"])).eval()
    mine.load_state_dict(peer.transformer.state_dict())
    peer.register_modules(transformer=mine)
    found = peer(**arguments, generator=generator.manual_seed(3)).frames
    assert (found - expected).abs().max() <= 1e-4


def test_guidance_of_one_runs_one_branch(tmp_path: Path) -> None:
    mine = ours(checkpoint("t2v"), tmp_path)
    branches: list[int] = []
    mine.parts.experts[0].proj_out.register_forward_hook(lambda _, __, out: branches.append(len(out)))
    base = Request("a red star", width=32, height=32, num_frames=5, num_inference_steps=4, seed=0)
    mine.latents(replace(base, guidance_scale=1.0))
    assert sum(branches) == 4
    mine.latents(replace(base, guidance_scale=3.0))
    assert sum(branches) == 12


@pytest.mark.parametrize("kind", ["t2v", "ti2v", "clip"])
def test_branches_in_one_batch_equal_branches_in_turn(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ours(checkpoint(kind), tmp_path)
    picture = None if kind == "t2v" else np.full((32, 32, 3), 90, np.uint8)
    # prompts of different lengths: the shorter one is padded to the longer
    request = Request(
        "a red star", negative_prompt="blurred, very blurred, and not sharp at all", image=picture, width=32,
        height=32, num_frames=5, num_inference_steps=4, seed=0, guidance_scale=3.0,
    )  # fmt: skip
    together = mine.latents(request)
    monkeypatch.setattr(velocity, "BATCHED_TOKENS", 0)
    assert (mine.latents(request) - together).abs().max() <= 1e-5
