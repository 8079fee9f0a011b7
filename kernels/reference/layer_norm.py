"""Layer norm with a gain and a bias of its own."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LN(x) * weight + bias over the last axis, in float32 inside.

    Args:
        x: (..., C).
        weight: (C,).
        bias: (C,).
        eps: the norm's floor.

    Returns:
        (..., C) in x's dtype.
    """
    return F.layer_norm(x.float(), x.shape[-1:], weight.float(), bias.float(), eps).to(x.dtype)
