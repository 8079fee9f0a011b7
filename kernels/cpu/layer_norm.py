"""Layer norm by torch's own kernel, which widens what it needs, piece by piece."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import reference


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """As :func:`kernels.reference.layer_norm`."""
    if weight.dtype in (x.dtype, torch.float32):
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    return reference.layer_norm(x, weight, bias, eps)
