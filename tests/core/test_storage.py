"""Weights as people store them: fp8 in its flavours, GGUF, single files beside ComfyUI's folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.core import official
from tests.core import test_pipeline as checkpoints
from wan_core import SPECS, load
from wan_core.errors import CheckpointError
from wan_core.weights import storage
from wan_core.weights.describe import describe
from wan_core.weights.load import text_encoder, transformer

FP8 = torch.float8_e4m3fn
LAYERS = ("self_attn.q", "cross_attn.k", "ffn.0")


@pytest.fixture(scope="module")
def plain() -> dict[str, Tensor]:
    """A small text-to-video transformer under its original names."""
    return official.trunk_names(checkpoints.transformer("t2v", 0).state_dict())


def quantised(name: str) -> bool:
    return name.startswith("blocks.") and name.removesuffix(".weight").endswith(LAYERS)


def scaled(plain: dict[str, Tensor], ending: str, rows: bool = False) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, tensor in plain.items():
        if not (quantised(name) and name.endswith(".weight")):
            out[name] = tensor.bfloat16()
            continue
        top = tensor.abs().amax(1, keepdim=True) if rows else tensor.abs().max()
        scale = top / 448
        out[name] = (tensor / scale).to(FP8)
        out[name.removesuffix(".weight") + ending] = scale.float()
    return out


def flavour(kind: str, plain: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    match kind:
        case "cast":
            return {
                k: v.to(FP8) if quantised(k) and k.endswith("weight") else v.bfloat16() for k, v in plain.items()
            }, {}
        case "scaled":
            inputs = {"blocks.0.self_attn.q.scale_input": torch.tensor(1.0)}
            return scaled(plain, ".scale_weight") | inputs | {"scaled_fp8": torch.zeros(2, dtype=FP8)}, {}
        case "comfy":
            mark = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
            tensors = scaled(plain, ".weight_scale")
            marks = {k.replace(".weight_scale", ".comfy_quant"): mark.clone() for k in tensors if "_scale" in k}
            return tensors | marks, {}
        case "header":
            layers = {"blocks.0.self_attn.q": {"format": "float8_e4m3fn"}}
            return scaled(plain, ".weight_scale"), {"_quantization_metadata": json.dumps({"layers": layers})}
        case _:
            return scaled(plain, ".weight_scale", rows=True), {}


@pytest.mark.parametrize("kind", ["cast", "scaled", "comfy", "header", "rows"])
def test_fp8_comes_back_within_its_own_error(kind: str, plain: dict[str, Tensor], tmp_path: Path) -> None:
    tensors, metadata = flavour(kind, plain)
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "x.safetensors", metadata)
    found = storage.read(tmp_path / "x.safetensors")
    assert found.keys() == plain.keys()
    for name, weight in plain.items():
        # four bits of mantissa with the leading one; fp8 without a scale runs out of range below 2^-6
        loose = 2**-4 * weight.abs() + (2**-9 if kind == "cast" else 2**-9 * weight.abs().max() / 448 * 2**6)
        bound = loose if quantised(name) else 2**-8 * weight.abs()
        assert ((found[name].float() - weight).abs() <= bound + 1e-9).all(), name
    assert storage.shapes(tmp_path / "x.safetensors") == {k: tuple(v.shape) for k, v in plain.items()}
    model = transformer(tmp_path / "x.safetensors", torch.bfloat16)
    assert model.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16


def test_formats_that_are_not_read_are_named(plain: dict[str, Tensor], tmp_path: Path) -> None:
    mark = torch.tensor(list(json.dumps({"format": "nvfp4"}).encode()), dtype=torch.uint8)
    save_file({"blocks.0.self_attn.q.weight": torch.ones(4, 4), "blocks.0.self_attn.q.comfy_quant": mark},
              tmp_path / "x.safetensors")  # fmt: skip
    with pytest.raises(CheckpointError, match="weights in nvfp4 are not read here"):
        storage.read(tmp_path / "x.safetensors")
    save_file({"blocks.0.self_attn.q.weight": torch.ones(4, 4, dtype=torch.int8)}, tmp_path / "y.safetensors")
    with pytest.raises(CheckpointError, match="weights in int8 are not read here"):
        storage.read(tmp_path / "y.safetensors")


def written_gguf(plain: dict[str, Tensor], path: Path, kind: gguf.GGMLQuantizationType, of: str = "wan") -> Path:
    writer = gguf.GGUFWriter(path, of)
    for name, tensor in plain.items():
        data = tensor.float().numpy()
        if quantised(name) and name.endswith(".weight") and data.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quantize(data, kind), raw_dtype=kind)
        elif data.ndim == 5:  # as converters write what the format has no axes for
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(data.shape))
            writer.add_tensor(name, data.reshape(data.shape[0], -1).astype(np.float32))
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("kind", "error"), [("Q8_0", 2**-7), ("Q5_0", 2**-4), ("Q4_0", 2**-3), ("F16", 2**-10)])
def test_gguf_comes_back_within_its_own_error(kind: str, error: float, tmp_path: Path) -> None:
    wide = checkpoints.transformer("t2v", 0, num_attention_heads=4, attention_head_dim=24, ffn_dim=128)
    plain = official.trunk_names(wide.state_dict())
    path = written_gguf(plain, tmp_path / "wan-Q.gguf", gguf.GGMLQuantizationType[kind])
    found = storage.read(path)
    assert storage.shapes(path) == {k: tuple(v.shape) for k, v in plain.items()}
    assert found.keys() == plain.keys()
    assert any(not torch.equal(found[k], v) for k, v in plain.items())
    for name, weight in plain.items():
        assert found[name].shape == weight.shape
        bound = error * weight.abs().max() if quantised(name) and name.endswith(".weight") else 0
        assert (found[name] - weight).abs().max() <= bound, name
    assert transformer(path, torch.bfloat16).config["in_channels"] == 16


def test_gguf_of_something_else(plain: dict[str, Tensor], tmp_path: Path) -> None:
    path = written_gguf(plain, tmp_path / "x.gguf", gguf.GGMLQuantizationType.Q8_0, "flux")
    with pytest.raises(CheckpointError, match="a model of the kind flux"):
        storage.read(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"x\.gguf: this file is damaged"):
        storage.read(path)


# --- whole models of single files -------------------------------------------------------------------


def shelves(folder: Path) -> Path:
    """ComfyUI's folders around a small model, with a tokenizer where the official code has it."""
    peer = checkpoints.checkpoint("t2v", 2)
    one_head = {"num_attention_heads": 1, "attention_head_dim": 48}  # a file without a config says nothing of heads
    peer.register_modules(
        transformer=checkpoints.transformer("t2v", 0, **one_head),
        transformer_2=checkpoints.transformer("t2v", 1, **one_head),
    )
    for name in ("vae", "text_encoders", "diffusion_models"):
        (folder / name).mkdir(parents=True)
    residuals = peer.vae.config.num_res_blocks
    save_file(official.vae_names(dict(peer.vae.state_dict()), residuals), folder / "vae" / "wan_2.1_vae.safetensors")
    (folder / "vae" / "wan2.2_vae.safetensors").write_bytes(b"of another model")
    text = {k: v.contiguous() for k, v in peer.text_encoder.state_dict().items() if "embed_tokens" not in k}
    piece = {"spiece_model": torch.zeros(9, dtype=torch.uint8)}
    save_file(text | piece, folder / "text_encoders" / "umt5_xxl_fp16.safetensors")
    peer.tokenizer.save_pretrained(folder / "google" / "umt5-xxl")
    for part, expert in (("high", peer.transformer), ("low", peer.transformer_2)):
        prefixed = {f"model.diffusion_model.{k}": v for k, v in official.trunk_names(expert.state_dict()).items()}
        save_file(prefixed, folder / "diffusion_models" / f"{part}.safetensors")
    peer.save_pretrained(folder / "peer")
    return folder


def test_single_files_make_what_the_diffusers_folder_makes(tmp_path: Path) -> None:
    folder = shelves(tmp_path)
    peer = load(folder / "peer", "cpu", torch.float32)
    high, low = (folder / "diffusion_models" / f"{part}.safetensors" for part in ("high", "low"))
    mine = load(f"{high}+{low}", "cpu", torch.float32)
    assert mine.spec.name == describe(f"{high}+{low}").name == "wan2.2-t2v-a14b"
    assert mine.spec.boundary == SPECS["wan2.2-t2v-a14b"].boundary
    one = load(high, "cpu", torch.float32)
    assert one.spec.name == "wan2.1-t2v-1.3b"  # by its three layers; one expert alone is a model of 2.1 by its shapes
    request = checkpoints.request(checkpoints.checkpoint("t2v"))
    alone = load(folder / "peer", "cpu", torch.float32)
    alone.parts.experts = alone.parts.experts[:1]
    alone.parts.spec = one.spec
    assert torch.equal(one.latents(request), alone.latents(request))
    assert mine.latents(request).shape == peer.latents(request).shape


def test_an_encoder_under_either_kind_of_names(tmp_path: Path) -> None:
    encoder = checkpoints.text_encoder()
    tensors = {k: v.contiguous() for k, v in encoder.state_dict().items() if "embed_tokens" not in k}
    save_file(tensors, tmp_path / "theirs.safetensors")
    save_file(official.text_names(tensors), tmp_path / "official.safetensors")
    ids = torch.tensor([[5, 6, 7, 1]])
    with torch.no_grad():
        expected = encoder(ids).last_hidden_state
        for name in ("theirs", "official"):
            found = text_encoder(tmp_path / f"{name}.safetensors", torch.float32)(ids).last_hidden_state
            assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q8_0])
def test_an_encoder_in_gguf(kind: gguf.GGMLQuantizationType, tmp_path: Path) -> None:
    """Under the names that the gguf package itself has for it."""
    encoder = checkpoints.text_encoder()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 2)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "t5encoder")
    for name, tensor in encoder.state_dict().items():
        known = names.get_name(name, try_suffixes=(".weight",))
        if "embed_tokens" in name:
            continue
        assert known
        data = tensor.numpy()
        if kind == gguf.GGMLQuantizationType.Q8_0 and data.ndim == 2 and data.shape[1] % 32 == 0:
            writer.add_tensor(known, gguf.quantize(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(known, data)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    ids = torch.tensor([[5, 6, 7, 1]])
    with torch.no_grad():
        expected = encoder(ids).last_hidden_state
        found = text_encoder(tmp_path / "x.gguf", torch.float32)(ids).last_hidden_state
    assert (found - expected).abs().max() <= (1e-6 if kind == gguf.GGMLQuantizationType.F32 else 0.1)
    assert torch.equal(found, expected) == (kind == gguf.GGMLQuantizationType.F32)


def test_what_is_missing_beside_a_file_is_said(tmp_path: Path) -> None:
    folder = shelves(tmp_path / "all")
    shutil.rmtree(folder / "text_encoders")
    with pytest.raises(CheckpointError, match=r"models_t5_umt5-xxl-enc-bf16\.pth is missing"):
        load(folder / "diffusion_models" / "high.safetensors", "cpu")


def test_three_files_are_no_model(tmp_path: Path) -> None:
    file = shelves(tmp_path) / "diffusion_models" / "high.safetensors"
    with pytest.raises(CheckpointError, match="one transformer, or two"):
        describe(f"{file}+{file}+{file}")


def test_experts_in_two_folders_and_a_missing_one(tmp_path: Path) -> None:
    folder = shelves(tmp_path) / "diffusion_models"
    (folder / "Low").mkdir()
    low = (folder / "low.safetensors").rename(folder / "Low" / "low.safetensors")
    spec = describe(f"{folder / 'high.safetensors'}+{low}")
    assert (spec.name, len(spec.revision)) == ("wan2.2-t2v-a14b", 12)
    with pytest.raises(CheckpointError, match=r"^gone\.safetensors: there is no such file"):
        describe(f"{folder / 'high.safetensors'}+{tmp_path / 'gone.safetensors'}")


def test_files_that_are_no_transformers(tmp_path: Path) -> None:
    folder = shelves(tmp_path) / "diffusion_models"
    for name in ("a", "b"):
        save_file({"something.lora_up.weight": torch.ones(2, 2)}, folder / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="this is not a Wan transformer"):
        describe(f"{folder / 'a.safetensors'}+{folder / 'b.safetensors'}")


def test_a_family_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no such family; there are .*humo-17b"):
        describe(f"wan9={tmp_path}")


def test_what_is_quantised_is_not_what_was_read(plain: dict[str, Tensor], tmp_path: Path) -> None:
    """The test's own check: fp8 on disk is smaller."""
    for kind in ("scaled", "cast"):
        tensors, _ = flavour(kind, plain)
        save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / f"{kind}.safetensors")
        assert load_file(tmp_path / f"{kind}.safetensors")["blocks.0.self_attn.q.weight"].dtype == FP8
