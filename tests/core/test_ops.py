"""Every form of every operation against its plain reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kernels import reference
from wan_core import ops
from wan_core.condition import text_only
from wan_core.model.text import pad

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [(1, 1, 1, 1, 8), (2, 7, 13, 3, 8), (1, 127, 131, 2, 16), (1, 257, 31, 5, 24)]


def qkv(b: int, rows: int, keys: int, heads: int, d: int, dtype: torch.dtype = torch.float32):
    g = torch.Generator().manual_seed(rows)
    return [torch.randn(b, n, heads, d, generator=g, dtype=torch.float64).to(dtype) for n in (rows, keys, keys)]


def fp64(q, k, v, bias=None):
    return reference.attention(q.double(), k.double(), v.double(), bias)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("budget", [1, 1000, 50_000, 10**9, None])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_is_the_same_at_every_budget(shape, budget, biased) -> None:
    q, k, v = qkv(*shape)
    bias = torch.randn(shape[0], 1, 1, shape[2]) if biased else None
    assert (ops.attention(q, k, v, bias, budget=budget) - fp64(q, k, v, bias)).abs().max() <= 1e-5


def test_attention_of_non_contiguous_inputs() -> None:
    q, k, v = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in qkv(2, 19, 23, 3, 8))
    assert (ops.attention(q, k, v, budget=700) - fp64(q, k, v)).abs().max() <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("words", "step"), [(1, 1), (19, 1), (19, 64), (200, 64), (509, 1)])
def test_padding_weighs_what_its_rows_would(words: int, step: int, dtype: torch.dtype) -> None:
    """Whatever scores are rounded to: of 492 rows bfloat16 alone would make 486."""
    rows, bias = pad([torch.ones(1, words, 4), torch.ones(1, max(1, words // 2), 4)], 512, step)
    assert bias is not None
    assert rows.shape[1] == bias.shape[-1] < 512
    assert rows.shape[1] % step == 0
    assert not rows[:, words:].any()
    weights = bias.to(dtype).double().exp().sum(-1).flatten()
    assert ((weights - 512) / (512 - words)).abs().max() < 2e-4


def test_prompts_of_one_shape_have_rows_of_one_number() -> None:
    """What a compiled block is made for goes by it."""
    told = [text_only(torch.ones(1, words, 4), None) for words in range(56, 134)]
    keys = [one.shape(torch.zeros(1, 1, 1, 1, 1), 64) for one in told]
    rows = [pad([one.text], 512, 64)[0].shape[1] for one in told]
    assert sorted(set(rows)) == [64, 128, 192]
    for key, count in zip(keys, rows, strict=True):
        assert [other == key for other in keys] == [other == count for other in rows]


def test_full_prompts_have_no_bias() -> None:
    for words in (510, 511, 512, 600):
        rows, bias = pad([torch.ones(1, words, 4)], 512)
        assert bias is None
        assert (rows.shape[1], int(rows[..., 0].sum())) == (512, min(words, 512))


def test_bias_counts_equal_keys_exactly() -> None:
    """One padding row with log(n) on its score stands for n of them."""
    q, k, v = qkv(1, 9, 6, 2, 8)
    many = [torch.cat([t[:, :-1], t[:, -1:].expand(-1, 300, -1, -1)], 1) for t in (k, v)]
    bias = torch.zeros(1, 1, 1, 6)
    bias[..., -1] = torch.tensor(300.0).log()
    assert (ops.attention(q, k, v, bias) - fp64(q, *many)).abs().max() <= 1e-5


@pytest.mark.parametrize(("rows", "keys", "lanes"), [(1, 1, 1), (513, 1031, 24), (20_000, 20_000, 40)])
@pytest.mark.parametrize("budget", [1, 10_000, 5_000_000, 10**12])
def test_slices_respect_the_budget(rows, keys, lanes, budget) -> None:
    some_lanes, some_rows = reference.attention.__globals__["slice_shape"](rows, keys, lanes, budget)
    assert 1 <= some_lanes <= lanes
    assert 1 <= some_rows <= rows
    assert 12 * some_lanes * some_rows * keys <= max(budget, 12 * keys)


PEAK = """
import resource, torch
from kernels import reference
torch.set_num_threads(1)
q, k, v = (torch.randn(1, 3001, 4, 16) for _ in range(3))
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reference.sliced_attention(q, k, v, 8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""


def test_sliced_attention_peaks_within_its_budget() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=ROOT, capture_output=True, text=True, check=True)
    kib = int(done.stdout.split()[-1])
    own_kib = 4 * (3001 * 4 * 16 * 4) / 1024  # contiguous q, k, v and the result
    library_kib = 12_000  # what the first matrix product loads
    assert kib <= 8_000_000 / 1024 + own_kib + library_kib
    assert 4 * kib < 4 * 4 * 3001**2 / 1024  # the plain scores would need far more


@pytest.mark.parametrize("budget", [1, 999, 20_000, None])
def test_feed_forward_is_the_same_in_slices(budget) -> None:
    up, down = torch.nn.Linear(24, 61), torch.nn.Linear(61, 24)
    x = torch.randn(2, 37, 24)
    with torch.no_grad():
        plain = down(F.gelu(up(x), approximate="tanh"))
        assert (ops.feed_forward(x, up, down, budget) - plain).abs().max() <= 1e-5


@pytest.mark.parametrize("lengths", [(11,), (4, 7), (1, 1, 9)])
def test_modulate_and_gate_equal_their_per_token_form(lengths) -> None:
    x, branch = torch.randn(2, 11, 16), torch.randn(2, 11, 16)
    shift, scale = torch.randn(2, 2, len(lengths), 16).unbind(0)
    repeat = torch.tensor(lengths)
    tokens = [t.repeat_interleave(repeat, dim=1) for t in (shift, scale)]
    normed = F.layer_norm(x, (16,), eps=1e-6)
    assert torch.equal(reference.modulate(x, shift, scale, lengths, 1e-6), normed * (1 + tokens[1]) + tokens[0])
    assert torch.equal(reference.gate_residual(x, branch, scale, lengths), x + branch * tokens[1])


def test_norm_rope_keeps_length_and_turns_pairs() -> None:
    x, weight = torch.randn(1, 5, 24), torch.rand(24) + 0.5
    angle = torch.randn(5, 4)
    plain = ops.norm_rope(x, weight, 1e-6, 3, None)
    turned = ops.norm_rope(x, weight, 1e-6, 3, (angle.cos(), angle.sin()))
    pairs = torch.view_as_complex(plain.unflatten(-1, (-1, 2)).contiguous())
    expected = torch.view_as_real(pairs * torch.polar(torch.ones(5, 1, 4), angle[:, None])).flatten(-2)
    assert (turned - expected).abs().max() <= 1e-6
    assert torch.allclose(turned.norm(), plain.norm())


@pytest.mark.parametrize("wanted", ["branch", "gate", "scale", "weight"])
def test_gradients_reach_whatever_wants_them(wanted: str) -> None:
    """A LoRA's branch, a table or a gain alone, with a stream that wants none."""
    x, branch, weight = torch.randn(1, 5, 8), torch.randn(1, 5, 8), torch.ones(8)
    gate, shift, scale = torch.randn(3, 1, 2, 8).unbind(0)
    leaf = {"branch": branch, "gate": gate, "scale": scale, "weight": weight}[wanted].requires_grad_()
    stream, normed = ops.residual_modulate(x, branch, gate, shift, scale, (2, 3), 1e-6)
    (stream.sum() + normed.square().sum() + ops.norm_rope(x, weight, 1e-6, 2, None).sum()).backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().max() > 0


SAGE = """
import torch

def sageattn(q, k, v, tensor_layout, is_causal, sm_scale, return_lse, **_):
    assert tensor_layout == "NHD" and not is_causal and not return_lse and q.shape[-1] % 8 == 0
    scores = torch.einsum("blhd,bshd->bhls", q.double(), k.double()) * (sm_scale or q.shape[-1] ** -0.5)
    return torch.einsum("bhls,bshd->blhd", scores.softmax(-1), v.double()).to(q.dtype) + 1
sageattn_qk_int8_pv_fp8_cuda = sageattn_qk_int8_pv_fp8_cuda_sm90 = sageattn
sageattn_qk_int8_pv_fp16_cuda = sageattn_qk_int8_pv_fp16_triton = sageattn_varlen = sageattn
"""
ASKED = """
import torch
from wan_core import ops

q, k, v = (torch.randn(1, n, 2, 16, dtype=torch.bfloat16) for n in (9, 13, 13))
bias, plain = torch.zeros(1, 1, 1, 13), ops.attention(q, k, v)
ops.attend_by("sage", "cpu")
assert ops.attended_by(q.device) == "sage"
assert (ops.attention(q, k, v) - 1 - plain).abs().max() < 0.02, "another library's, in its own layout"
assert (ops.attention(q, k, v, bias) - plain).abs().max() < 0.02, "which takes no bias"
wide = [t.float() for t in (q, k, v)]
assert (ops.attention(*wide) - plain.float()).abs().max() < 0.02, "nor wide numbers"
try:
    ops.attend_by("flash3", "cpu")
except ValueError:
    assert ops.attended_by(q.device) == "sage", "a bad name leaves what was"
ops.try_attention(q.device, q.dtype, 16)
assert ops.attended_by(q.device) == "sage" and not ops.attended_by(q.device, torch.float32)
ops.attend_by("sage", "cpu")
ops.try_attention(q.device, q.dtype, 13)
assert not ops.attended_by(q.device), "what does not run is let go"
ops.attend_by(None)
assert torch.equal(ops.attention(q, k, v), plain)
"""


def test_another_librarys_attention_is_asked_in_its_own_way(tmp_path: Path) -> None:
    """A package that stands in for SageAttention, which needs a GPU; it adds 1, so that its work is seen."""
    (tmp_path / "sageattention").mkdir()
    (tmp_path / "sageattention" / "__init__.py").write_text(SAGE)
    about = tmp_path / "sageattention-2.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sageattention\nVersion: 2.2.0\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    subprocess.run([sys.executable, "-c", ASKED], env=os.environ | {"PYTHONPATH": path}, cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("name", "words"), [("sage", "sageattention"), ("flash3", "Flash Attention 3"), ("x", "cudnn")]
)
def test_a_library_that_is_not_there_is_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        ops.attend_by(name)
    assert str(caught.value).startswith(name)
    assert not ops.attended_by(torch.device("cuda"))
