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
    "norm_silu": [{}],
}
for name, several in CONSTANTS.items():
    kernel = importlib.import_module(f"kernels.fused.{name}")._kernel
    for constants in several:
        constants = constants | {"BLOCK": 2048}
        types = {a: "*bf16" for a in HALF} | {a: "*fp32" for a in WIDE} | {"eps": "fp32", "floor": "fp32"}
        types |= dict.fromkeys(constants, "constexpr")
        signature = {a: types.get(a, "i32") for a in kernel.arg_names}
        for generation in (80, 90):
            source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
            made = triton.compile(source, target=GPUTarget("cuda", generation, 32), options={"num_warps": 4})
            assert f".target sm_{generation}" in made.asm["ptx"]
            print(name, generation)
"""


def test_kernels_compile_without_a_gpu() -> None:
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.split()) == 2 * 2 * 7
