"""WanDiT against diffusers' WanTransformer3DModel on the same random weights."""

from __future__ import annotations

import pytest
import torch

from tests.core.tiny import BASE, KINDS, inputs, pair
from wan_core.model.dit import WanDiT
from wan_core.ops import Slicing

KIND = pytest.mark.parametrize("kind", sorted(KINDS))


@KIND
@torch.no_grad()
def test_equals_diffusers(kind: str) -> None:
    ours, theirs = pair(kind)
    data = inputs(kind)
    a, b = ours(**data).sample, theirs(**data).sample
    assert b.std() > 0.3
    assert (a - b).abs().max() <= 1e-5


@KIND
def test_same_config_and_keys(kind: str) -> None:
    ours, theirs = pair(kind)
    mine = {k: tuple(v.shape) for k, v in ours.state_dict().items()}
    assert mine == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    public = {k: v for k, v in theirs.config.items() if not k.startswith("_")}
    assert {k: ours.config[k] for k in public} == public


@KIND
@torch.no_grad()
def test_context_computed_once_equals_in_line(kind: str) -> None:
    ours, _ = pair(kind)
    data = inputs(kind)
    plain = ours(**data).sample
    context = ours.context(data["encoder_hidden_states"], data.get("encoder_hidden_states_image"))
    values, lengths = data["timestep"][:, None], (45,)
    if kind == "ti2v":
        values, lengths = torch.stack([data["timestep"][:, 0], data["timestep"][:, -1]], 1), (15, 30)
    embedded = ours.embed(data["hidden_states"], values, lengths)
    assert torch.equal(ours.head(ours.trunk(embedded, context), embedded), plain)


@torch.no_grad()
def test_arbitrary_per_token_timesteps() -> None:
    ours, theirs = pair("ti2v")
    data = inputs("ti2v")
    stamp = torch.randint(0, 5, data["timestep"].shape) * 200.0
    data["timestep"] = stamp
    assert (ours(**data).sample - theirs(**data).sample).abs().max() <= 1e-5


@pytest.mark.parametrize("budget", [1, 5_000, 300_000])
@torch.no_grad()
def test_sliced_trunk_equals_plain(budget: int) -> None:
    ours, _ = pair("clip")
    data = inputs("clip", frames=3, height=6, width=14)
    plain = ours(**data).sample
    ours.slicing = Slicing(attention=budget, feed_forward=budget)
    assert (ours(**data).sample - plain).abs().max() <= 1e-5


@torch.no_grad()
def test_modulation_is_computed_once_per_distinct_timestep() -> None:
    ours, _ = pair("ti2v")
    seen: list[int] = []
    ours.condition_embedder.time_proj.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[1]))
    ours(**inputs("ti2v"))
    assert seen == [2]


def test_fp32_parts_survive_half_precision_loading(tmp_path) -> None:
    ours, _ = pair("clip")
    ours.save_pretrained(tmp_path)
    loaded = WanDiT.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    dtypes = {k: v.dtype for k, v in loaded.state_dict().items()}
    assert dtypes["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert dtypes["blocks.0.scale_shift_table"] == torch.float32
    assert dtypes["blocks.0.norm2.weight"] == torch.float32
    assert dtypes["condition_embedder.time_embedder.linear_1.weight"] == torch.float32


@torch.no_grad()
def test_bf16_stays_close_to_float32() -> None:
    ours, theirs = pair("t2v")
    data = inputs("t2v")
    exact = theirs(**data).sample
    half = {k: v if k == "timestep" else v.bfloat16() for k, v in data.items()}
    mine = (ours.bfloat16()(**half).sample.float() - exact).abs().mean()
    peer = (theirs.bfloat16()(**half).sample.float() - exact).abs().mean()
    assert mine <= 1.1 * peer


@torch.no_grad()
def test_block_compiles_without_graph_breaks() -> None:
    ours, _ = pair("ti2v")
    data = inputs("ti2v")
    plain = ours(**data).sample
    ours.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
    assert (ours(**data).sample - plain).abs().max() <= 1e-5
    torch.compiler.reset()


@torch.no_grad()
def test_group_offload_equals_resident() -> None:
    ours, _ = pair("t2v")
    data = inputs("t2v")
    plain = ours(**data).sample
    cpu = torch.device("cpu")
    ours.enable_group_offload(cpu, cpu, offload_type="block_level", num_blocks_per_group=1)
    assert torch.equal(ours(**data).sample, plain)


@torch.no_grad()
def test_leaf_hooks_reach_every_parameter() -> None:
    """Offload, LoRA and quantisation hook module calls: every weight must be used through one."""
    ours, _ = pair("first_last")
    called: set[str] = set()
    owners = {n for n, m in ours.named_modules() if any(True for _ in m.parameters(recurse=False))}
    for name, module in ours.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    ours(**inputs("first_last"))
    assert owners - called == set()


@torch.no_grad()
def test_layerwise_casting_stores_linears_in_fp8() -> None:
    ours, _ = pair("t2v")
    plain = ours(**inputs("t2v")).sample
    ours.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert ours.blocks[0].attn1.to_q.weight.dtype == torch.float8_e4m3fn
    assert (ours(**inputs("t2v")).sample - plain).abs().mean() < 0.2 * plain.std()


def test_unknown_attention_head_dims_are_accepted() -> None:
    model = WanDiT(**(BASE | KINDS["t2v"] | {"attention_head_dim": 12}))
    assert model.config.attention_head_dim == 12
