"""Layer norm in one pass: what modulation does, with a scale that is the same for every token."""

from __future__ import annotations

from torch import Tensor

from kernels.fused.modulate import modulate


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """As :func:`kernels.reference.layer_norm`."""
    rows = x.reshape(1, -1, x.shape[-1])
    shift, scale = bias.float()[None, None], weight.float()[None, None] - 1
    return modulate(rows, shift, scale, (rows.shape[1],), eps).view(x.shape)
