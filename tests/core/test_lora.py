"""LoRAs: every dialect gives the same weights, taking one out restores every bit, bad files are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.core import test_pipeline as checkpoints
from tests.core import tiny
from wan_core import Request
from wan_core.errors import CheckpointError
from wan_core.model.dit import WanDiT
from wan_core.specs import SPECS
from wan_core.weights import keymap, lora
from wan_core.weights.describe import describe

RANK, ALPHA = 4, 2.0
Q = "diffusion_model.blocks.0.self_attn.q"
MODULES = [
    "patch_embedding", "condition_embedder.text_embedder.linear_1", "condition_embedder.time_proj", "proj_out",
    "blocks.0.attn1.to_q", "blocks.0.attn1.to_out.0", "blocks.1.attn2.to_k", "blocks.2.ffn.net.0.proj",
    "blocks.2.ffn.net.2",
]  # fmt: skip
Factors = dict[str, tuple[Tensor, Tensor]]


@pytest.fixture
def model() -> WanDiT:
    made = WanDiT(**(tiny.BASE | tiny.KINDS["t2v"])).eval()
    tiny.shake(made)
    return made


@pytest.fixture
def factors(model: WanDiT) -> Factors:
    g = torch.Generator().manual_seed(9)
    weights = {m: model.get_submodule(m).weight for m in MODULES}
    return {
        m: (torch.randn(RANK, w[0].numel(), generator=g) * 0.1, torch.randn(w.shape[0], RANK, generator=g) * 0.1)
        for m, w in weights.items()
    }


def peft(factors: Factors) -> dict[str, Tensor]:
    halves = {f"transformer.{m}.lora_A.weight": a for m, (a, _) in factors.items()}
    halves |= {f"transformer.{m}.lora_B.weight": b for m, (_, b) in factors.items()}
    return halves | {f"transformer.{m}.alpha": torch.tensor(ALPHA) for m in factors}


def comfy(factors: Factors) -> dict[str, Tensor]:
    named = {f"diffusion_model.{keymap.original(m)}": f for m, f in factors.items()}
    halves = {f"{m}.lora_down.weight": a for m, (a, _) in named.items()}
    halves |= {f"{m}.lora_up.weight": b for m, (_, b) in named.items()}
    return halves | {f"{m}.alpha": torch.tensor(ALPHA) for m in named}


def kohya(factors: Factors, prefix: str = "lora_unet_") -> dict[str, Tensor]:
    named = {prefix + keymap.original(m).replace(".", "_"): f for m, f in factors.items()}
    halves = {f"{m}.lora_down.weight": a for m, (a, _) in named.items()}
    halves |= {f"{m}.lora_up.weight": b for m, (_, b) in named.items()}
    return halves | {f"{m}.alpha": torch.tensor(ALPHA) for m in named}


def fun(factors: Factors) -> dict[str, Tensor]:
    return kohya(factors, "lora_unet__")


def diffsynth(factors: Factors) -> dict[str, Tensor]:
    """Without a prefix and without alpha: the scale is already in it."""
    named = {keymap.original(m): f for m, f in factors.items()}
    halves = {f"{m}.lora_A.default.weight": a * (ALPHA / RANK) for m, (a, _) in named.items()}
    return halves | {f"{m}.lora_B.default.weight": b for m, (_, b) in named.items()}


def differences(factors: Factors) -> dict[str, Tensor]:
    """Whole differences, as extracted LoRAs have them for what is no matrix."""
    return {f"diffusion_model.{keymap.original(m)}.diff": (b @ a) * (ALPHA / RANK) for m, (a, b) in factors.items()}


def conv(factors: Factors) -> dict[str, Tensor]:
    """With the patch embedding's factors in the convolution's shape."""
    tensors = comfy(factors)
    a = tensors["diffusion_model.patch_embedding.lora_down.weight"]
    b = tensors["diffusion_model.patch_embedding.lora_up.weight"]
    tensors["diffusion_model.patch_embedding.lora_down.weight"] = a.view(RANK, 16, 1, 2, 2)
    tensors["diffusion_model.patch_embedding.lora_up.weight"] = b.view(*b.shape, 1, 1, 1)
    return tensors


DIALECTS = (peft, comfy, kohya, fun, diffsynth, differences, conv)


def written(tensors: dict[str, Tensor], folder: Path, name: str = "some.safetensors") -> Path:
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, folder / name)
    return folder / name


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_weights(
    dialect: Callable[[Factors], dict[str, Tensor]], model: WanDiT, factors: Factors, tmp_path: Path
) -> None:
    before = weights(model)
    path = written(dialect(factors), tmp_path)
    assert lora.look(path, model).parameters == len(MODULES)
    with lora.Merged(model, [(path, 0.7)]):
        after = weights(model)
        for name, weight in before.items():
            module = name.removesuffix(".weight")
            if module in factors:
                a, b = factors[module]
                expected = weight + 0.7 * (ALPHA / RANK) * (b @ a).view_as(weight)
                torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=0)
                assert not torch.equal(after[name], weight)
            else:
                assert torch.equal(after[name], weight)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_on_and_off_leaves_the_velocity_bit_identical_in_bf16(model: WanDiT, factors: Factors, tmp_path: Path) -> None:
    model = model.to(torch.bfloat16)
    data = {k: v.bfloat16() if v.is_floating_point() else v for k, v in tiny.inputs("t2v").items()}
    with torch.no_grad():
        before = model(**data, return_dict=False)[0]
        with lora.Merged(model, [(written(comfy(factors), tmp_path), 1.0)]):
            assert not torch.equal(model(**data, return_dict=False)[0], before)
        assert torch.equal(model(**data, return_dict=False)[0], before)


def test_several_add_up_and_biases_and_norms_change_too(model: WanDiT, factors: Factors, tmp_path: Path) -> None:
    bias, norm = torch.full((48,), 0.25), torch.full((48,), 0.125)
    one = written(comfy(factors), tmp_path, "one.safetensors")
    some = {"blocks.0.attn1.to_q": factors["blocks.0.attn1.to_q"]}
    extra = {f"{Q}.diff_b": bias, "diffusion_model.blocks.0.self_attn.norm_q.diff": norm}
    two = written(extra | comfy(some), tmp_path, "two.safetensors")
    before = weights(model)
    with lora.Merged(model, [(one, 1.0), (two, -0.5)]):
        after = model.state_dict()
        a, b = factors["blocks.0.attn1.to_q"]
        expected = before["blocks.0.attn1.to_q.weight"] + 0.5 * (ALPHA / RANK) * b @ a
        torch.testing.assert_close(after["blocks.0.attn1.to_q.weight"], expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(after["blocks.0.attn1.to_q.bias"], before["blocks.0.attn1.to_q.bias"] - 0.125)
        torch.testing.assert_close(
            after["blocks.0.attn1.norm_q.weight"], before["blocks.0.attn1.norm_q.weight"] - 0.0625
        )


def test_one_for_a_model_with_clip_fits_one_without(model: WanDiT, factors: Factors, tmp_path: Path) -> None:
    extra = {"diffusion_model.blocks.0.cross_attn.k_img.lora_down.weight": torch.ones(4, 48),
             "diffusion_model.blocks.0.cross_attn.k_img.lora_up.weight": torch.ones(48, 4)}  # fmt: skip
    sheet = lora.look(written(comfy(factors) | extra, tmp_path), model)
    assert sheet.rank == RANK
    assert len(sheet.left_out) == 2


def without(tensors: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {k: v for k, v in tensors.items() if k != key}


BROKEN: dict[str, tuple[Callable[[Factors], dict[str, Tensor]], str]] = {
    "half": (lambda f: without(comfy(f), f"{Q}.lora_up.weight"), "one half of its product is missing"),
    "other half": (lambda f: without(comfy(f), f"{Q}.lora_down.weight"), "one half of its product is missing"),
    "ranks": (lambda f: comfy(f) | {f"{Q}.lora_up.weight": torch.ones(48, 3)}, "ranks 3 and 4"),
    "no rank": (lambda f: comfy(f) | {f"{Q}.lora_up.weight": torch.ones(48, 0),
                                      f"{Q}.lora_down.weight": torch.ones(0, 48)}, "ranks 0 and 0"),
    "another size": (lambda f: comfy(f) | {f"{Q}.lora_up.weight": torch.ones(64, 4),
                                           f"{Q}.lora_down.weight": torch.ones(4, 64)}, "another size.*48 to 48"),
    "another depth": (lambda f: comfy(f) | {k.replace("blocks.0", "blocks.30"): v for k, v in comfy(f).items()},
                      "parts that this model does not have.*blocks.30"),
    "unknown parts": (lambda f: comfy(f) | {"diffusion_model.double_blocks.0.lora_up.weight": torch.ones(4, 4)},
                      "double_blocks"),
    "leftover": (lambda f: comfy(f) | {"something": torch.ones(3)}, "does not have: something"),
    "dora": (lambda f: comfy(f) | {f"{Q}.dora_scale": torch.ones(48, 1)}, "this is a DoRA"),
    "loha": (lambda f: {f"{Q}.hada_w1_a": torch.ones(4, 4)}, "this is a LoHa"),
    "text encoder": (lambda f: {"lora_te_encoder.lora_up.weight": torch.ones(4, 4)}, "LoRA of a text encoder"),
    "a model": (lambda f: {"blocks.0.self_attn.q.weight": torch.ones(48, 48)}, "there is no LoRA of a Wan"),
    "alpha": (lambda f: comfy(f) | {f"{Q}.alpha": torch.ones(2)}, "alpha must be one number"),
    "alone": (lambda f: comfy(f) | {"diffusion_model.blocks.1.self_attn.q.alpha": torch.tensor(1.0)}, "nothing to mul"),
    "bias": (lambda f: comfy(f) | {f"{Q}.diff_b": torch.ones(7)}, "no bias of size"),
    "difference": (lambda f: comfy(f) | {f"{Q}.diff": torch.ones(7, 7)}, "another size"),
    "numbers": (lambda f: comfy(f) | {f"{Q}.lora_up.weight": torch.full((48, 4), torch.nan)}, "not a finite number"),
    "integers": (lambda f: comfy(f) | {f"{Q}.lora_up.weight": torch.ones(48, 4, dtype=torch.int32)}, "not a finite"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_malformed_files_are_refused_for_the_right_reason(
    fault: str, model: WanDiT, factors: Factors, tmp_path: Path
) -> None:
    make, why = BROKEN[fault]
    before, path = weights(model), written(make(factors), tmp_path)
    with pytest.raises(CheckpointError, match=why):
        lora.Merged(model, [(path, 1.0)])
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("kind", ["cut", "garbage", "missing"])
def test_files_that_are_none(kind: str, model: WanDiT, factors: Factors, tmp_path: Path) -> None:
    path = written(comfy(factors), tmp_path)
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-10] if kind == "cut" else b"a PDF, perhaps")
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        lora.look(path, model)


def test_a_header_is_enough_to_tell(factors: Factors, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = WanDiT(**(tiny.BASE | tiny.KINDS["t2v"]))
    assert lora.look(written(fun(factors), tmp_path), model).rank == RANK


def test_weights_that_nothing_can_be_added_to(model: WanDiT, factors: Factors, tmp_path: Path) -> None:
    model.blocks[0].attn1.to_q.weight.data = model.blocks[0].attn1.to_q.weight.data.to(torch.float8_e4m3fn)
    with pytest.raises(CheckpointError, match="stored as float8_e4m3fn"):
        lora.Merged(model, [(written(comfy(factors), tmp_path), 1.0)])


@pytest.mark.parametrize("kind", [*tiny.KINDS])
def test_every_name_has_one_original(kind: str) -> None:
    with torch.device("meta"):
        model = WanDiT(**(tiny.BASE | tiny.KINDS[kind]))
    for name in model.state_dict():
        assert keymap.rename(keymap.original(name)) == name


# --- in a pipeline ------------------------------------------------------------------------------


def test_a_pipeline_with_and_without(factors: Factors, tmp_path: Path) -> None:
    peer = checkpoints.checkpoint("t2v", 2)
    pipe = checkpoints.ours(peer, tmp_path / "model")
    request = checkpoints.request(peer)
    plain, revision = pipe.latents(request), pipe.spec.revision
    path = written(comfy(factors), tmp_path)
    high, both = (lora.listed(f"{path}:0.5@high"), lora.listed(f"{path}:0.5"))
    pipe.use(high)
    changed = pipe.latents(request)
    assert not torch.equal(changed, plain)
    assert pipe.spec.revision != revision
    pipe.use(both)
    assert not torch.equal(pipe.latents(request), changed)
    pipe.use(high)
    assert torch.equal(pipe.latents(request), changed)
    with pytest.raises(CheckpointError, match=r"cannot be read|damaged"):
        pipe.use(lora.listed(str(tmp_path / "gone.safetensors")))
    bad = written(BROKEN["another size"][0](factors), tmp_path, "bad.safetensors")
    with pytest.raises(CheckpointError, match="another size"):
        pipe.use([*high, lora.Lora(bad, expert=1)])
    assert torch.equal(pipe.latents(request), plain)
    assert pipe.spec.revision == revision


def test_one_for_few_steps_brings_its_recipe(factors: Factors, tmp_path: Path) -> None:
    peer = checkpoints.checkpoint("t2v", 2)
    pipe = checkpoints.ours(peer, tmp_path / "model")
    path = written(comfy(factors), tmp_path, "wan2.2_t2v_a14b_lora_rank64_lightx2v_4step.safetensors")
    plain, named = pipe.spec, f"{path}:1.0"
    pipe.use(lora.listed(named))
    quick = pipe.spec.recipe
    assert (quick.steps, quick.guidance, quick.guidance_low, quick.sampler) == (4, 1.0, 1.0, "euler")
    assert quick.levels == SPECS["lightx2v-t2v-a14b"].recipe.levels
    assert (quick.size, quick.frames, quick.fps) == (plain.recipe.size, plain.recipe.frames, plain.recipe.fps)
    assert describe(tmp_path / "model", named) == pipe.spec
    assert pipe.settle(Request("a ball", seed=1)).num_inference_steps == 4
    pipe.use(())
    assert pipe.spec == plain
    for name in ("style", "epoch4_step2000", "style_24_steps", "lightning_bolts-000014step"):
        pipe.use(lora.listed(str(written(comfy(factors), tmp_path, f"{name}.safetensors"))))
        assert pipe.spec.recipe == plain.recipe


def test_how_a_setting_names_them() -> None:
    assert lora.listed("") == ()
    assert lora.listed("a b.safetensors, /x/c.safetensors:0.8@low,d.safetensors:-1") == (
        lora.Lora(Path("a b.safetensors")),
        lora.Lora(Path("/x/c.safetensors"), 0.8, 1),
        lora.Lora(Path("d.safetensors"), -1.0),
    )
    for text in ("a.ckpt", "a.safetensors:much", "a.safetensors@middle"):
        with pytest.raises(CheckpointError, match="say FILE"):
            lora.listed(text)
