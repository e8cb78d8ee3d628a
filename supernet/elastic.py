"""Sliced layers: the slicing rule in one place, as functions of weights and sizes.

A SuperPLM has H heads of D dimensions. A slice with h heads of a dimensions takes the first h heads
and the first a dimensions of each: rows of the query, key and value weights and columns of the
output projection alike. Everything else takes its first rows and columns. No width is stored
anywhere: it is an argument, or follows from the input.

Slices are views where memory allows it, so that a small slice costs what a small model costs.

Shape letters: B batch size, S sequence length, d hidden size, f FFN size, h heads, a head size,
q QKV size (h * a); capitals H, D for those of the SuperPLM.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.architecture import Architecture

DepthRule = Literal["evenly-spaced", "first"]
DEPTH_RULES: tuple[DepthRule, ...] = get_args(DepthRule)


def layers_of_depth(num_layers: int, of: int, rule: DepthRule) -> tuple[int, ...]:
    """Which layers of a SuperPLM a slice of some depth takes, in order.

    Args:
        num_layers: of the slice.
        of: of the SuperPLM.
        rule: `first` takes the first ones, as the paper does; `evenly-spaced` spreads them and
            always ends with the last, whose output a teacher's head reads.

    Raises:
        ValueError: if the SuperPLM has fewer layers.
    """
    if not 1 <= num_layers <= of:
        raise ValueError(f"{num_layers} of {of} layers cannot be taken")
    if rule == "first":
        return tuple(range(num_layers))
    from_last = (round((num_layers - 1 - index) * of / num_layers) for index in range(num_layers))
    return tuple(of - 1 - distance for distance in from_last)


def linear(hidden: Tensor, layer: nn.Linear, out_size: int) -> Tensor:
    """The first `out_size` outputs of a layer for an input of any width, `[..., out_size]`."""
    return F.linear(hidden, layer.weight[:out_size, : hidden.shape[-1]], layer.bias[:out_size])


def layer_norm(hidden: Tensor, layer: nn.LayerNorm) -> Tensor:
    """LayerNorm with the first weights of a layer, of the input's shape."""
    size = hidden.shape[-1]
    return F.layer_norm(hidden, (size,), layer.weight[:size], layer.bias[:size], layer.eps)


def head_rows(parameter: Tensor, architecture: Architecture, of: int) -> Tensor:
    """The rows of a slice's heads, `[H * D, ...]` to `[q, ...]`; `of` is H."""
    rest = parameter.shape[1:]
    heads = parameter.view(of, -1, *rest)[: architecture.num_heads, : architecture.head_size]
    return heads.reshape(architecture.qkv_size, *rest)


def head_columns(parameter: Tensor, architecture: Architecture, of: int) -> Tensor:
    """The columns of a slice's heads, `[d, H * D]` to `[d, q]`; `of` is H."""
    heads = parameter.view(len(parameter), of, -1)
    heads = heads[:, : architecture.num_heads, : architecture.head_size]
    return heads.reshape(len(parameter), architecture.qkv_size)


def split_heads(hidden: Tensor, layer: nn.Linear, architecture: Architecture, of: int) -> Tensor:
    """Queries, keys or values of a slice, `[B, S, d]` to `[B, h, S, a]`.

    Args:
        hidden: `[B, S, d]`.
        layer: the query, key or value layer of the SuperPLM.
        architecture: the slice.
        of: H.
    """
    weight = head_rows(layer.weight[:, : hidden.shape[-1]], architecture, of)
    projected = F.linear(hidden, weight, head_rows(layer.bias, architecture, of))
    shape = (*hidden.shape[:2], architecture.num_heads, architecture.head_size)
    return projected.view(shape).transpose(1, 2)


def merge_heads(context: Tensor, layer: nn.Linear, architecture: Architecture, of: int) -> Tensor:
    """The output projection of a slice, `[B, h, S, a]` to `[B, S, d]`; `of` is H."""
    d = architecture.hidden_size
    weight = head_columns(layer.weight[:d], architecture, of)
    return F.linear(context.transpose(1, 2).flatten(2), weight, layer.bias[:d])


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Fused attention, `[B, h, S, a]`; `mask` is True for tokens, `[B, 1, 1, S]`."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def scored_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention with its scores before masking and softmax: `[B, h, S, a]`, `[B, h, S, S]`."""
    scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
    shares = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return shares @ value, scores
