"""The variant `folded`: the same encoder with fewer passes over its activations.

- Tokens run sequence first, as rows `[S B, d]`: heads are split by a view, and the runtime folds
  what transposing is left into the products of the attention.
- A linear layer is one `Gemm` with its bias.
- What a sub-layer adds to its input is added by the product itself: `Gemm(x, W, residual)`. Its
  bias has then to be in the residual already, so it is part of the bias of the LayerNorm that made
  the residual, and what else reads that LayerNorm takes it off in its own bias:
  (y + b) W + (c - b W) = y W + c. All of that is done to the weights, once.

In int8 the product has an operator of its own that adds the bias, so there residuals are added
afterwards and nothing is folded.

Shape letters: B batch size, S sequence length, d hidden size, f FFN size, h heads, q QKV size,
a head size (q / h).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from supernet.architecture import Architecture
from supernet.graph_author import Author, Make
from supernet.graph_layers import attend, embeddings, score_bias
from supernet.variants import SUB_LAYERS, Part, SubLayer
from supernet.weights import FloatArray

_SELF = "attention.self."

# Of each sub-layer: the linear layer that adds to its input, and the LayerNorm that ends it.
_ENDS: dict[SubLayer, tuple[str, str]] = {
    "attention": ("attention.output.dense", "attention.output.LayerNorm"),
    "ffn": ("output.dense", "output.LayerNorm"),
}


def write_folded(
    author: Author,
    architecture: Architecture,
    tables: tuple[int, int],
    output: str,
    part: Part = "encoder",
) -> None:
    """Writes the encoder.

    Args:
        author: takes the nodes.
        architecture: its shape.
        tables: rows of the word and of the position embedding.
        output: name of the last hidden state, `[B, S, d]`.
        part: what of it to write.
    """
    d, h = architecture.hidden_size, architecture.num_heads
    sub_layers = [
        (kind, f"encoder.layer.{index}.")
        for index in range(architecture.num_layers)
        for kind in SUB_LAYERS[part]
    ]
    # What every LayerNorm is raised by: the bias of what adds to it next, if anything does.
    raising = [f"{prefix}{_ENDS[kind][0]}" for kind, prefix in sub_layers]
    has_attention = "attention" in SUB_LAYERS[part]
    mask = score_bias(author) if has_attention else ""
    hidden = embeddings(
        author,
        d,
        tables,
        sequence_first=True,
        bias=_raised(author, "embeddings.LayerNorm", raising[0]) if raising else None,
    )
    axes = author.node("Shape", ["words_first"], name="axes")  # [S, B]
    split = ""
    if has_attention:
        head_axes = author.constant("head_axes", [h, architecture.head_size])
        split = author.node("Concat", [axes, head_axes], name="split_heads", axis=0)
    rows = author.constant("token_rows", [-1, d])
    hidden = author.node("Reshape", [hidden, rows], name="tokens")  # [S B, d]
    for place, (kind, prefix) in enumerate(sub_layers, start=1):
        total = (
            _attended(author, architecture, hidden, mask, split, prefix)
            if kind == "attention"
            else _fed_forward(author, architecture, hidden, prefix)
        )
        norm = f"{prefix}{_ENDS[kind][1]}"
        bias = _raised(author, norm, raising[place]) if place < len(raising) else None
        hidden = author.layer_norm(total, norm, d, bias=bias)
    size = author.constant("hidden_axis", [d])
    shape = author.node("Concat", [axes, size], name="output_shape", axis=0)
    shaped = author.node("Reshape", [hidden, shape], name="sequence_first")
    author.node("Transpose", [shaped], name=output, perm=[1, 0, 2])


def _attended(
    author: Author, architecture: Architecture, hidden: str, mask: str, split: str, prefix: str
) -> str:
    """An attention sub-layer up to its LayerNorm, `[S B, d]` to `[S B, d]`."""
    d, q = architecture.hidden_size, architecture.qkv_size
    attended = f"{prefix}{_ENDS['attention'][0]}"
    name = f"{prefix}{_SELF}"
    heads: dict[str, str] = {}
    for part, permutation in (
        ("query", [1, 2, 0, 3]),  # [B, h, S, a]
        ("key", [1, 2, 3, 0]),  # [B, h, a, S]
        ("value", [1, 2, 0, 3]),  # [B, h, S, a]
    ):
        scale = 1.0 / math.sqrt(architecture.head_size) if part == "query" else 1.0
        projected = _linear(
            author, hidden, f"{name}{part}", (d, q), raised_by=attended, scale=scale
        )
        shaped = author.node("Reshape", [projected, split], name=f"{name}{part}.split")
        heads[part] = author.node(
            "Transpose", [shaped], name=f"{name}{part}.heads", perm=permutation
        )
    context = attend(author, heads, mask, name)
    mixed = author.node("Transpose", [context], name=f"{name}mixed", perm=[2, 0, 1, 3])
    merge = author.constant("merge_heads", [-1, q])
    joined = author.node("Reshape", [mixed, merge], name=f"{name}output")  # [S B, q]
    return _added(author, joined, attended, (q, d), hidden)


def _fed_forward(author: Author, architecture: Architecture, middle: str, prefix: str) -> str:
    """A feed-forward sub-layer up to its LayerNorm, `[S B, d]` to `[S B, d]`."""
    d, f = architecture.hidden_size, architecture.ffn_size
    outer = f"{prefix}{_ENDS['ffn'][0]}"
    inner = _linear(author, middle, f"{prefix}intermediate.dense", (d, f), raised_by=outer)
    active = author.node("Gelu", [inner], name=f"{prefix}intermediate.gelu")  # [S B, f]
    return _added(author, active, outer, (f, d), middle)


def _raised(author: Author, norm: str, by: str) -> tuple[str, Make] | None:
    """The bias of a LayerNorm and that of the linear layer that adds to what it makes."""
    if author.precision == "int8":
        return None
    return f"{norm}.raised_bias", lambda state: state[f"{norm}.bias"] + state[f"{by}.bias"]


def _linear(
    author: Author,
    hidden: str,
    name: str,
    sizes: Sequence[int],
    *,
    raised_by: str,
    scale: float = 1.0,
) -> str:
    """A linear layer times `scale`, of what was raised by the bias of `raised_by`."""
    in_size, out_size = sizes
    if author.precision == "int8":
        return author.linear(hidden, name, in_size, out_size, scale=scale)

    def bias(state: Mapping[str, FloatArray]) -> FloatArray:
        weight = state[f"{name}.weight"].astype(np.float64)
        taken_off = weight @ state[f"{raised_by}.bias"].astype(np.float64)
        value: FloatArray = ((state[f"{name}.bias"] - taken_off) * scale).astype(np.float32)
        return value

    kernel = author.weight(
        f"{name}.kernel",
        (in_size, out_size),
        lambda state: state[f"{name}.weight"].T * np.float32(scale),
    )
    lowered = author.weight(f"{name}.lowered_bias", (out_size,), bias)
    return author.node("Gemm", [hidden, kernel, lowered], name=f"{name}.sum")


def _added(author: Author, inner: str, name: str, sizes: Sequence[int], residual: str) -> str:
    """A linear layer of `inner`, added to `residual`, which holds the layer's bias."""
    in_size, out_size = sizes
    if author.precision == "int8":
        product = author.linear(inner, name, in_size, out_size)
        return author.node("Add", [product, residual], name=f"{name}.total")
    kernel = author.weight(
        f"{name}.kernel", (in_size, out_size), lambda state: state[f"{name}.weight"].T
    )
    return author.node("Gemm", [inner, kernel, residual], name=f"{name}.total")
