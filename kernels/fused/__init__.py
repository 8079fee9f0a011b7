"""The operations as Triton kernels for NVIDIA devices: one pass over memory each, float32 inside, no wide copies.

Importing this module imports triton; ``wan_core.ops`` does so only where a CUDA device is. Every operation is
registered with ``torch.library.triton_op``, so that ``torch.compile`` and ``torch.export`` see through it. Under
``TRITON_INTERPRET=1`` the same kernels run on a CPU, which is how they are tested where no GPU is.
"""

from kernels.fused.gate_residual import gate_residual, residual_modulate
from kernels.fused.layer_norm import layer_norm
from kernels.fused.modulate import modulate
from kernels.fused.norm_rope import norm_rope
from kernels.fused.norm_silu import norm_silu

__all__ = ["gate_residual", "layer_norm", "modulate", "norm_rope", "norm_silu", "residual_modulate"]
