"""The operations in torch's own kernels for CPUs: few passes over memory, in pieces that stay in the cache.

The plain forms make wide copies of everything, and on a CPU most of their time goes to fetching fresh memory for
those. What is rounded, and where, is the same.
"""

from kernels.cpu.gate_residual import gate_residual, residual_modulate
from kernels.cpu.layer_norm import layer_norm
from kernels.cpu.modulate import modulate
from kernels.cpu.norm_rope import norm_rope
from kernels.cpu.norm_silu import norm_silu

__all__ = ["gate_residual", "layer_norm", "modulate", "norm_rope", "norm_silu", "residual_modulate"]
