"""Checkpoints in their public layouts, whole and broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from transformers import UMT5EncoderModel

from tests.core.tiny import BASE, KINDS, inputs, pair
from tests.golden.runner import DATA, cases, error_of, tolerance
from wan_core import BUILT_IN
from wan_core.errors import CheckpointError
from wan_core.model.dit import WanDiT
from wan_core.weights import keymap, load
from wan_core.weights.hub import find


@pytest.mark.parametrize(("folder", "case"), list(cases(DATA)), ids=lambda p: p.stem)
def test_golden_numbers_of_the_official_code(folder: Path, case: Path) -> None:
    assert error_of(folder, case) <= tolerance(folder.name)


@pytest.mark.parametrize("name", ["wan_t2v", "wan_i2v", "wan_ti2v"])
def test_original_folder_and_single_file(name: str, tmp_path: Path) -> None:
    """The official layout, plain and with the prefixes of single-file exports."""
    config = json.loads((DATA / name / "config.json").read_text())
    tensors = load_file(DATA / name / "weights.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    first = load.transformer(tmp_path, torch.float32)
    single = tmp_path / "single.safetensors"
    save_file({f"model.diffusion_model.{k}": v for k, v in tensors.items()}, single)
    assert first.config.num_attention_heads == config["num_heads"]
    renamed = keymap.to_diffusers(load_file(single))
    assert renamed.keys() == first.state_dict().keys()
    assert all(torch.equal(renamed[k], v) for k, v in first.state_dict().items())


@pytest.mark.parametrize("kind", sorted(KINDS))
@torch.no_grad()
def test_diffusers_folder_sharded(kind: str, tmp_path: Path) -> None:
    ours, theirs = pair(kind)
    theirs.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = load.transformer(tmp_path, torch.float32)
    assert torch.equal(loaded(**inputs(kind)).sample, ours(**inputs(kind)).sample)


def test_presence_comes_from_the_weights_not_the_config(tmp_path: Path) -> None:
    """A published 5B config names an image branch that its weights do not have."""
    ours, _ = pair("ti2v")
    ours.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_dim": 1280, "added_kv_proj_dim": 5120}))
    assert load.transformer(tmp_path, torch.float32).config.image_dim is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pair("t2v")[0].save_pretrained(tmp_path / "transformer")
    return tmp_path / "transformer"


def damage(folder: Path, change) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_missing_extra_and_mis_shaped_tensors_are_listed(folder: Path) -> None:
    def change(t: dict) -> None:
        del t["blocks.1.attn1.to_q.weight"]
        t["surprise"] = torch.zeros(2)
        t["blocks.0.attn1.norm_q.weight"] = torch.zeros(7)

    damage(folder, change)
    with pytest.raises(CheckpointError) as caught:
        load.transformer(folder, torch.float32)
    said = str(caught.value)
    assert "1 missing: blocks.1.attn1.to_q.weight" in said
    assert "1 unexpected: surprise" in said
    assert "blocks.0.attn1.norm_q.weight is [7], must be [48]" in said


def test_a_truncated_file(folder: Path) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cut short"):
        load.transformer(folder, torch.float32)


def test_not_a_wan_model(tmp_path: Path) -> None:
    save_file({"lm_head.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a Wan transformer"):
        load.transformer(tmp_path, torch.float32)


@pytest.mark.parametrize(("part", "file"), [
    ("vae", "diffusion_pytorch_model-00002-of-00003.safetensors"), ("text_encoder", "model.safetensors"),
])  # fmt: skip
@pytest.mark.parametrize("fault", ["cut", "shape", "missing"])
def test_other_components_are_checked_too(part: str, file: str, fault: str, tmp_path: Path) -> None:
    shutil.copytree(BUILT_IN / part, tmp_path / part)
    path = tmp_path / part / file
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    else:
        tensors = load_file(path)
        key = max(tensors, key=lambda k: tensors[k].numel())
        shape = tensors.pop(key).shape
        if fault == "shape":
            tensors[key] = torch.zeros(shape[0] + 1, *shape[1:])
        save_file(tensors, path, metadata={"format": "pt"})
    cls, dtype = (AutoencoderKLWan, torch.float32) if part == "vae" else (UMT5EncoderModel, torch.bfloat16)
    with pytest.raises(CheckpointError, match=part) as caught:
        load.component(tmp_path / part, cls, dtype)
    assert str(tmp_path) not in str(caught.value)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither model_index\.json nor"):
        find(tmp_path)
    for name in ("./nothing", str(tmp_path / "gone"), "nothing"):
        with pytest.raises(CheckpointError, match="no such folder"):
            find(name)


def test_bf16_loading_keeps_what_needs_float32(folder: Path) -> None:
    dtypes = {k: v.dtype for k, v in load.transformer(folder, torch.bfloat16).state_dict().items()}
    assert dtypes["blocks.0.ffn.net.2.weight"] == torch.bfloat16
    for key in ("scale_shift_table", "blocks.2.norm2.bias", "condition_embedder.time_embedder.linear_2.weight"):
        assert dtypes[key] == torch.float32


def test_original_names_keep_float32_parts_too(tmp_path: Path) -> None:
    shutil.copy(DATA / "wan_t2v/config.json", tmp_path)
    shutil.copy(DATA / "wan_t2v/weights.safetensors", tmp_path)
    dtypes = {k: v.dtype for k, v in load.transformer(tmp_path, torch.bfloat16).state_dict().items()}
    reference = WanDiT(**(BASE | KINDS["t2v"]))
    assert dtypes["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert all(dtypes[k] == torch.float32 for k in dtypes if "norm2" in k or "scale_shift" in k or "time_embedder" in k)
    assert {k.split(".")[0] for k in dtypes} == {k.split(".")[0] for k in reference.state_dict()}
