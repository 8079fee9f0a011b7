"""RMS norm and SiLU, piece by piece and straight to behind the frames that stand before."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.cpu.pieces import pieces
from kernels.reference.norm_silu import FLOOR


def norm_silu(x: Tensor, weight: Tensor, before: Tensor | None = None) -> Tensor:
    """As :func:`kernels.reference.norm_silu`."""
    batch, frames, *size, channels = x.shape
    past = 0 if before is None else before.shape[1]
    out = x.new_empty((batch, past + frames, *size, channels))
    if before is not None:
        out[:, :past] = before
    gain = weight.float() * channels**0.5
    for rows, to in zip(x.flatten(1, 3), out[:, past:], strict=True):
        to = to.view(-1, channels)
        for some in pieces(rows[None]):
            wide = rows[some].float()
            length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp_(min=FLOOR)
            to[some] = F.silu((wide / length).mul_(gain), inplace=True)
    return out
