"""The plain forms: what each operation means, in a few lines of torch, fast or not.

Letters: B batch, L tokens, U distinct timesteps, H heads, D channels per head, C = H * D.
"""

from kernels.reference.attention import attention, sliced_attention
from kernels.reference.gate_residual import gate_residual, residual_modulate
from kernels.reference.layer_norm import layer_norm
from kernels.reference.modulate import modulate
from kernels.reference.norm_rope import norm_rope
from kernels.reference.norm_silu import norm_silu

__all__ = [
    "attention",
    "gate_residual",
    "layer_norm",
    "modulate",
    "norm_rope",
    "norm_silu",
    "residual_modulate",
    "sliced_attention",
]
