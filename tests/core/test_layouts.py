"""Every Wan family from every layout it is published in makes what diffusers' pipeline makes of the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPImageProcessor

from tests.core import official
from tests.core import test_pipeline as checkpoints
from tests.core.test_official import tower
from wan_core import load
from wan_core.model.dit import WanDiT
from wan_core.specs import SPECS

FAMILIES = {
    "wan2.1-t2v-1.3b": ("t2v", 1), "wan2.2-t2v-a14b": ("t2v", 2), "wan2.2-i2v-a14b": ("i2v36", 2),
    "wan2.2-ti2v-5b": ("ti2v", 1), "wan2.1-i2v-14b": ("clip", 1), "wan2.1-flf2v-14b": ("first_last", 1),
}  # fmt: skip
ONE_HEAD = {"num_attention_heads": 1, "attention_head_dim": 48}  # a file without a config says nothing of heads


def peer(name: str) -> Any:
    """diffusers' pipeline of small random parts, with what the official layout implies."""
    kind, experts = FAMILIES[name]
    made, fields = checkpoints.checkpoint(kind, experts), dict(ONE_HEAD)
    if kind in ("clip", "first_last"):
        fields["image_dim"] = 80
    if kind == "first_last":
        fields["pos_embed_seq_len"] = 10  # two pictures of five CLIP tokens
    made.register_modules(transformer=checkpoints.transformer(kind, 0, **fields))
    if experts == 2:
        made.register_modules(transformer_2=checkpoints.transformer(kind, 1, **fields))
        made.register_to_config(boundary_ratio=SPECS[name].boundary)
    if kind in ("clip", "first_last"):  # heads as wide as ViT-H's, and pictures squeezed as the official code does
        made.register_modules(
            image_encoder=tower(),
            image_processor=CLIPImageProcessor(do_center_crop=False, size={"height": 32, "width": 32}),
        )
    return made


def trunks(made: Any) -> list[WanDiT]:
    return [t for t in (made.transformer, made.transformer_2) if t is not None]


def folder(made: Any, root: Path) -> str:
    """The official repository's."""
    clip = getattr(made, "image_encoder", None)
    return str(official.write_wan(root, trunks(made), made.vae, made.text_encoder, made.tokenizer, clip))


def single(made: Any, root: Path) -> str:
    """Single files as ComfyUI keeps them, beside the tokenizer that the official code has."""
    folder(made, root / "shared")
    for name in ("vae", "text_encoders", "diffusion_models", "clip"):
        (root / name).mkdir()
    kind = "2.2" if made.vae.config.is_residual else "2.1"
    names = official.vae_names(dict(made.vae.state_dict()), made.vae.config.num_res_blocks)
    save_file({k: v.contiguous() for k, v in names.items()},
              root / "vae" / ("wan2.2_vae.safetensors" if kind == "2.2" else "wan_2.1_vae.safetensors"))  # fmt: skip
    text = {k: v.contiguous() for k, v in made.text_encoder.state_dict().items() if "embed_tokens" not in k}
    save_file(text, root / "text_encoders" / "umt5_xxl_fp16.safetensors")
    (root / "shared" / "google").rename(root / "google")
    for clip in (root / "shared").glob("models_clip*"):
        clip.rename(root / "clip" / clip.name)
    paths = []
    for number, trunk in enumerate(trunks(made)):
        paths.append(root / "diffusion_models" / f"part{number}.safetensors")
        tensors = official.trunk_names(trunk.state_dict()).items()
        save_file({f"model.diffusion_model.{k}": v.contiguous() for k, v in tensors}, paths[-1])
    return "+".join(map(str, paths))


@pytest.mark.parametrize("layout", [folder, single], ids=["official", "single"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_in_a_layout(name: str, layout: Any, tmp_path: Path) -> None:
    made = peer(name)
    pipe = load(layout(made, tmp_path), "cpu", torch.float32)
    assert pipe.spec.name == name
    kind = FAMILIES[name][0]
    pictures = {} if kind in ("t2v", "ti2v") else {"image": checkpoints.picture(0)}
    if kind == "first_last":
        pictures["last_image"] = checkpoints.picture(1)
    checkpoints.compare(pipe, made, checkpoints.request(made, **pictures), **pictures)
