"""Text mode: the prompt, and nothing else."""

from __future__ import annotations

from torch import Tensor

from wan_core.condition.base import Conditioning


def text_only(text: Tensor, negative: Tensor | None) -> Conditioning:
    """Condition on text alone.

    Args:
        text: (1, n, text_dim).
        negative: (1, m, text_dim) or None.
    """
    return Conditioning(text, negative)
