"""Precision: what a device computes in, and large weights that are kept smaller than that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.core import test_pipeline as checkpoints
from tests.core import tiny
from wan_core import Request, load, precision
from wan_core.placement import weigh
from wan_core.precision import LARGE, choose, native

CPU, CUDA, FP8 = torch.device("cpu"), torch.device("cuda"), torch.float8_e4m3fn
FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86's two, and Arm's


def test_a_cpu_computes_in_bfloat16_if_it_says_that_it_can() -> None:
    listed = Path("/proc/cpuinfo")
    if not listed.exists():
        pytest.skip("this system does not list what its processor can do")
    can = bool(FLAGS & set(listed.read_text().split()))
    assert native(CPU) == (torch.bfloat16 if can else torch.float32)


@pytest.mark.parametrize(
    ("device", "parameters", "asked", "types"),
    [
        (CPU, 10**6, None, ("float32", "float32", "float32")),
        (CPU, 2 * LARGE, None, ("float32", "bfloat16", "bfloat16")),
        (CPU, 2 * LARGE, torch.float32, ("float32", "float32", "float32")),
        (CPU, 10**6, torch.bfloat16, ("bfloat16", "bfloat16", "bfloat16")),
        (CPU, 2 * LARGE, FP8, ("float32", "float8_e4m3fn", "bfloat16")),
        (CUDA, 2 * LARGE, None, ("bfloat16", "bfloat16", "bfloat16")),
        (CUDA, 10**6, FP8, ("bfloat16", "float8_e4m3fn", "bfloat16")),
    ],
)
def test_types_of_a_model_where_the_cpu_has_no_bfloat16(
    device: torch.device, parameters: int, asked: torch.dtype | None, types: tuple[str, str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(precision, "native", lambda d: torch.float32 if d.type == "cpu" else torch.bfloat16)
    found = choose(device, parameters, asked)
    assert tuple(str(t).removeprefix("torch.") for t in (found.compute, found.storage, found.text)) == types


@pytest.mark.parametrize("kind", ["t2v", "clip"])
def test_a_large_model_keeps_its_weights_small_and_computes_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16 weights, cast layer by layer, give what they give in float32 altogether."""
    peer = checkpoints.checkpoint(kind)
    peer.transformer.to(torch.bfloat16)
    peer.save_pretrained(tmp_path)
    monkeypatch.setattr(precision, "native", lambda _: torch.float32)
    wide = load(tmp_path, "cpu")
    assert wide.backend.startswith("cpu float32 torch")
    monkeypatch.setattr(precision, "LARGE", 0)
    small = load(tmp_path, "cpu")
    assert "weights bfloat16" in small.backend
    a, b = (pipe.parts.experts[0] for pipe in (small, wide))
    assert weigh(a) < 0.7 * weigh(b)
    data = tiny.inputs(kind) if kind == "t2v" else None
    if data is not None:
        assert torch.equal(a(**data).sample, b(**data).sample)
    picture = {} if kind == "t2v" else {"image": checkpoints.picture(1)}
    found, expected = (
        pipe.latents(Request("a ball", width=32, height=32, num_frames=5, num_inference_steps=2, seed=1, **picture))
        for pipe in (small, wide)
    )
    assert (found - expected).norm() < 0.05 * expected.norm()  # the text encoder computes in bfloat16
