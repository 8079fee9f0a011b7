"""Attention: the plain softmax form, and the same numbers in slices of bounded size."""

from __future__ import annotations

import torch
from torch import Tensor


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V with every score held at once.

    Args:
        query: (B, L, H, D).
        key: (B, S, H, D).
        value: (B, S, H, D).
        bias: (B, 1, 1, S), added to every row of scores, or None.

    Returns:
        (B, L, H, D).
    """
    q, k, v = (t.transpose(1, 2) for t in (query, key, value))  # (B, H, L, D)
    scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()  # (B, H, L, S)
    if bias is not None:
        scores = scores + bias.float()
    return (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2)


def slice_shape(rows: int, keys: int, lanes: int, budget: int) -> tuple[int, int]:
    """How many lanes (batch times heads) and query rows may be in flight at once.

    Scores, their softmax and its cast are float32 at most: twelve bytes a score.

    Args:
        rows: query tokens L.
        keys: key tokens S.
        lanes: B * H.
        budget: bytes that the slices may take.

    Returns:
        (lanes, rows), each at least one: below one row there is nothing left to slice.
    """
    scores = max(1, budget // (12 * keys))
    if scores >= lanes:
        return lanes, min(rows, scores // lanes)
    return scores, 1


def sliced_attention(query: Tensor, key: Tensor, value: Tensor, budget: int, bias: Tensor | None = None) -> Tensor:
    """The same numbers as :func:`attention`, with scores bounded by a byte budget.

    Rows of the score matrix are independent, so slicing over heads and queries is exact: the
    reduction over keys is untouched.

    Args:
        query: (B, L, H, D).
        key: (B, S, H, D).
        value: (B, S, H, D).
        budget: bytes that the scores in flight may take.
        bias: (B, 1, 1, S), added to every row of scores, or None.

    Returns:
        (B, L, H, D).
    """
    b, rows, heads, d = query.shape
    q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (query, key, value))  # (B*H, L, D)
    lanes_at_once, rows_at_once = slice_shape(rows, k.shape[1], b * heads, budget)
    if bias is not None:
        bias = bias.expand(b, heads, 1, k.shape[1]).flatten(0, 1).float()  # (B*H, 1, S)
    out = torch.empty_like(q)
    for lane in range(0, b * heads, lanes_at_once):
        lanes = slice(lane, lane + lanes_at_once)
        keys = k[lanes].transpose(-1, -2)
        for row in range(0, rows, rows_at_once):
            some = q[lanes, row : row + rows_at_once] * d**-0.5
            scores = (some @ keys).float()
            if bias is not None:
                scores += bias[lanes]
            weights = scores.softmax(-1).to(v.dtype)
            out[lanes, row : row + rows_at_once] = weights @ v[lanes]
    return out.unflatten(0, (b, heads)).transpose(1, 2)
