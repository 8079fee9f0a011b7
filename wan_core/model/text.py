"""Prompts to text embeddings, as UMT5 gives them to Wan."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import ftfy
import torch
from torch import Tensor, nn

TEXT_LENGTH = 512


def clean(prompt: str) -> str:
    """Mend broken unicode, unescape HTML twice, collapse white space: what Wan was trained on.

    Source: huggingface/diffusers src/diffusers/pipelines/wan/pipeline_wan.py (prompt_clean).
    """
    prompt = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return " ".join(prompt.split())


@torch.no_grad()
def embed(prompt: str, tokenizer: Any, encoder: nn.Module, length: int = TEXT_LENGTH) -> Tensor:
    """Embed one prompt; only its real tokens are computed.

    The transformer sees them followed by zero rows up to ``length``: see :func:`pad`.

    Args:
        prompt: as the user wrote it.
        tokenizer: a transformers tokenizer that adds the end token.
        encoder: a ``UMT5EncoderModel``.
        length: most tokens kept.

    Returns:
        (1, n, text_dim), n at most ``length``.
    """
    ids = tokenizer(clean(prompt), truncation=True, max_length=length, return_tensors="pt").input_ids
    device = next(encoder.parameters()).device
    return encoder(ids.to(device)).last_hidden_state


def pad(prompts: Sequence[Tensor], length: int = TEXT_LENGTH, step: int = 1) -> tuple[Tensor, Tensor | None]:
    """Batch prompts, and stand in for zero rows up to ``length`` without making them.

    All padding rows have equal keys and values, so zero rows with logarithms on their scores that add up to
    their number give the same softmax. Two, as scores may be of 16 bits: of 492 rows bfloat16 makes 486, and
    the second stands for what is left.

    Args:
        prompts: (1, n, text_dim) each.
        length: rows the transformer was trained to see.
        step: rows are made up to a multiple of this, so that few lengths occur.

    Returns:
        (B, n, text_dim), see :func:`padded`, and the bias (B, 1, 1, n), of which the last two rows stand for
        all that are not made; or ``length`` rows and None if that is no fewer.
    """
    longest = padded(max(rows.shape[1] for rows in prompts), step) - 2
    if longest + 2 >= length:
        return torch.cat([_zeros_to(rows[:, :length], length) for rows in prompts]), None
    # a shorter prompt has some of its zero rows made: only what is beyond all prompts is counted
    batch = torch.cat([_zeros_to(rows, longest + 2) for rows in prompts])
    bias = torch.zeros(len(batch), 1, 1, longest + 2, device=batch.device)
    most = _cut(math.log(length - longest))
    bias[..., -2], bias[..., -1] = most, math.log(length - longest - math.exp(most))
    return batch, bias


def padded(words: int, step: int) -> int:
    """How many rows stand for a prompt of so many tokens and its padding: a multiple of ``step``."""
    return -(-(words + 2) // step) * step


def _cut(number: float) -> float:
    """The next lower number above 0 that bfloat16 has; float16 has it too."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(math.floor(mantissa * 256), exponent - 8)


def _zeros_to(rows: Tensor, length: int) -> Tensor:
    return nn.functional.pad(rows, (0, 0, 0, length - rows.shape[1]))
