"""The Triton kernels compile for NVIDIA devices, which needs none of them: Ampere and Hopper."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="triton is made for Linux only")

CODE = """
import importlib, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HALF, WIDE = ("x", "branch", "out", "normed", "weight"), ("shift", "scale", "gate", "cos", "sin")
CONSTANTS = {
    "modulate": [{}], "norm_rope": [{"TURN": True}, {"TURN": False}],
    "gate_residual": [{"GATED": g, "NORMED": n} for g, n in ((True, False), (True, True), (False, True))],
    "norm_silu": [{"ROWS": 16, "BLOCK": 128}, {"ROWS": 1, "BLOCK": 2048}],
}
for name, several in CONSTANTS.items():
    kernel = importlib.import_module(f"kernels.fused.{name}")._kernel
    for constants in several:
        constants = {"BLOCK": 2048} | constants
        types = {a: "*bf16" for a in HALF} | {a: "*fp32" for a in WIDE} | {"eps": "fp32", "floor": "fp32"}
        types |= dict.fromkeys(constants, "constexpr")
        signature = {a: types.get(a, "i32") for a in kernel.arg_names}
        for generation in (80, 90):
            source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
            made = triton.compile(source, target=GPUTarget("cuda", generation, 32), options={"num_warps": 4})
            assert f".target sm_{generation}" in made.asm["ptx"]
            print(name, generation)
"""
SEEN = """
import kernels.fused
from torch._library.triton import get_triton_kernels_for_op
for name in ("modulate", "norm_rope", "gate_residual", "residual_modulate", "norm_silu"):
    print(name, len(get_triton_kernels_for_op(f"wan::{name}")))
"""


def run(code: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_torch_knows_which_kernels_an_operation_runs() -> None:
    """Or a compiled graph that is kept on disk would outlive a change of its kernels."""
    assert [line.split()[1] for line in run(SEEN).splitlines()] == ["1"] * 5


def test_kernels_compile_without_a_gpu() -> None:
    assert len(run(CODE).split()) == 2 * 2 * 8
