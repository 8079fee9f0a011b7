"""The fast forms against the plain ones and a float64 yardstick; Triton's under its interpreter where no GPU is."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import reference
from wan_core import ops
from wan_core.model import rope as rope_tables

FORMS = {"cpu": "kernels.cpu", "cpu in pieces": "kernels.cpu", "fused": "kernels.fused"}

WHERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
#: batch, segments' tokens, channels: one and many, powers of two and not
SHAPES = [(1, (5,), 64), (2, (7, 13), 96), (2, (0, 9), 40), (1, (3, 1, 4), 1536), (3, (1,), 5120)]
TYPES = [torch.float32, torch.bfloat16]


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(WHERE, dtype)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Two, which share every operation's work, however many tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=FORMS)
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The operations of one form."""
    if request.param == "cpu in pieces":
        monkeypatch.setattr("kernels.cpu.pieces.CACHE", 1024)  # a few tokens each, as real models have them
    if request.param != "fused":
        if WHERE.type != "cpu":
            pytest.skip("a form for CPUs")
    else:
        pytest.importorskip("triton", reason="triton is made for Linux only")
    return importlib.import_module(FORMS[request.param])


def check(fast: Any, name: str, exact: Callable[..., Any], *inputs: Any) -> None:
    """No further from float64 than the plain form is, but for one rounding of the result's type."""
    found, plain = getattr(fast, name)(*inputs), getattr(reference, name)(*inputs)
    wide = exact(*(x.double() if isinstance(x, Tensor) else x for x in inputs))
    several = [(found, plain, wide)] if isinstance(found, Tensor) else list(zip(found, plain, wide, strict=True))
    for mine, theirs, truth in several:
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        step = torch.finfo(mine.dtype).eps * truth.abs().max()
        assert (mine.double() - truth).abs().max() <= 1.05 * (theirs.double() - truth).abs().max() + 2 * step


def tables(batch: int, segments: int, channels: int) -> list[Tensor]:
    """Gate, shift and scale as a block has them: views of one table."""
    return list(draw(batch, segments, 6, channels, seed=3).unbind(2))[:3]


def at(row: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """A table's rows repeated for every token. (B, U, C) to (B, L, C)."""
    return torch.cat([row[:, u : u + 1].expand(-1, n, -1) for u, n in enumerate(lengths)], 1)


def normed(x: Tensor, shift: Tensor, scale: Tensor, lengths: tuple[int, ...], eps: float) -> Tensor:
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
    return x * (1 + at(scale, lengths)) + at(shift, lengths)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("batch", "lengths", "channels"), SHAPES)
def test_modulate(fast: Any, batch: int, lengths: tuple[int, ...], channels: int, dtype: torch.dtype) -> None:
    x = 3 + draw(batch, sum(lengths), channels, dtype=dtype)
    _, shift, scale = tables(batch, len(lengths), channels)
    check(fast, "modulate", normed, x, shift, scale, lengths, 1e-6)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("batch", "lengths", "channels"), SHAPES)
def test_layer_norm(fast: Any, batch: int, lengths: tuple[int, ...], channels: int, dtype: torch.dtype) -> None:
    x = 3 + draw(batch, sum(lengths), channels, dtype=dtype)
    weight, bias = 1 + 0.1 * draw(channels, seed=5), draw(channels, seed=6)

    def exact(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt() * weight + bias

    check(fast, "layer_norm", exact, x, weight, bias, 1e-6)


def test_what_is_tried_on_a_device_runs(fast: Any) -> None:
    ops.every_kernel(fast, WHERE)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("batch", "lengths", "channels"), SHAPES)
def test_gate_residual(fast: Any, batch: int, lengths: tuple[int, ...], channels: int, dtype: torch.dtype) -> None:
    x, branch = (draw(batch, sum(lengths), channels, dtype=dtype, seed=i) for i in (1, 2))
    gate, _, _ = tables(batch, len(lengths), channels)
    check(
        fast, "gate_residual", lambda x, branch, gate, lengths: x + branch * at(gate, lengths), x, branch, gate, lengths
    )


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("batch", "lengths", "channels"), SHAPES)
def test_residual_modulate(
    fast: Any, batch: int, lengths: tuple[int, ...], channels: int, dtype: torch.dtype, gated: bool
) -> None:
    x, branch = (draw(batch, sum(lengths), channels, dtype=dtype, seed=i) for i in (1, 2))
    gate, shift, scale = tables(batch, len(lengths), channels)

    def exact(x: Tensor, branch: Tensor, gate: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
        stream = x + branch * (1 if gate is None else at(gate, lengths))
        return stream, normed(stream.to(dtype).double(), *rest)  # the norm is of the stream as it is kept

    check(fast, "residual_modulate", exact, x, branch, gate if gated else None, shift, scale, lengths, 1e-6)


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("batch", "grid", "heads", "dim"), [(1, (1, 1, 1), 1, 8), (2, (3, 2, 5), 3, 16), (1, (2, 3, 3), 12, 128)]
)
def test_norm_rope(
    fast: Any, batch: int, grid: tuple[int, int, int], heads: int, dim: int, dtype: torch.dtype, turned: bool
) -> None:
    tokens = grid[0] * grid[1] * grid[2]
    x, weight = draw(batch, tokens, heads * dim, dtype=dtype), 1 + 0.1 * draw(heads * dim, dtype=dtype, seed=5)
    rope = rope_tables.tables(dim, grid, str(WHERE)) if turned else None

    def exact(x: Tensor, weight: Tensor, eps: float, heads: int, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        x = (x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight).unflatten(-1, (heads, dim))
        if rope is None:
            return x
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        turn = torch.complex(*(t.double() for t in rope))[:, None]
        return torch.view_as_real(pairs * turn).flatten(-2)

    check(fast, "norm_rope", exact, x, weight, 1e-6, heads, rope)


@pytest.mark.parametrize("past", [0, 2])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("batch", "frames", "side", "channels"), [(1, 1, 3, 12), (2, 4, 5, 64), (1, 2, 3, 384)])
def test_norm_silu(fast: Any, batch: int, frames: int, side: int, channels: int, dtype: torch.dtype, past: int) -> None:
    x = 2 * draw(batch, frames, side, side + 1, channels, dtype=dtype)
    x[:, 0, 0, 0] = 0  # a row without a length
    weight = (1 + 0.1 * draw(channels, seed=4)).to(dtype)
    before = draw(batch, past, side, side + 1, channels, dtype=dtype, seed=5) if past else None

    def exact(x: Tensor, weight: Tensor, before: Tensor | None) -> Tensor:
        length = x.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
        out = torch.nn.functional.silu(x / length * x.shape[-1] ** 0.5 * weight)
        return out if before is None else torch.cat([before, out], 1)

    check(fast, "norm_silu", exact, x, weight, before)


def test_tables_that_a_batch_shares_and_inputs_that_are_not_contiguous(fast: Any) -> None:
    x, branch = (draw(20, 3, 64, seed=i).transpose(0, 1) for i in (1, 2))  # (3, 20, 64)
    gate, shift, scale = tables(1, 2, 64)
    lengths = (4, 16)
    assert (
        fast.modulate(x, shift, scale, lengths, 1e-6) - reference.modulate(x, shift, scale, lengths, 1e-6)
    ).abs().max() < 1e-5
    assert (
        fast.gate_residual(x, branch, gate, lengths) - reference.gate_residual(x, branch, gate, lengths)
    ).abs().max() < 1e-5


def test_triton_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, wan_core.ops, wan_core.model.dit; sys.exit('kernels.fused' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
