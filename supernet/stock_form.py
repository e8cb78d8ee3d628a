"""An encoder in the form of a stock Hugging Face `BertModel`, where its shape allows.

A stock `BertModel` has no QKV size of its own: its H heads share the hidden size d. A smaller
attention (h heads, q in all) fits exactly if H divides d, H >= h and d / H >= q / h: each head is
padded with zeros from q / h to d / H dimensions, and the heads from h to H are zero altogether.
A stock model divides scores by sqrt(d / H), so queries are scaled to make up for it.

Padding stays zero under training: a padded dimension has zeros on both sides (query and key,
value and output projection), so both gradients are zero. Padding the hidden size would not be
exact, for LayerNorm averages over it; so a QKV size above the hidden size never fits.

Shape letters: d hidden size, h heads, q QKV size, H heads of the stock form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from supernet.architecture import Architecture
from supernet.weights import FloatArray


def stock_architecture(architecture: Architecture) -> Architecture | None:
    """The stock form's shape, whose QKV size is its hidden size; None where there is none.

    Every possible H has the same weights and products, and scores `[H, S, S]`: so the smallest
    H wastes least.
    """
    hidden_size, num_heads = architecture.hidden_size, architecture.num_heads
    for heads in range(num_heads, hidden_size // architecture.head_size + 1):
        if hidden_size % heads == 0:
            return Architecture(
                num_layers=architecture.num_layers,
                hidden_size=hidden_size,
                ffn_size=architecture.ffn_size,
                num_heads=heads,
                qkv_size=hidden_size,
            )
    return None


def to_stock_form(
    weights: Mapping[str, FloatArray], architecture: Architecture, stock: Architecture
) -> dict[str, FloatArray]:
    """Pads the attention of an encoder's weights to that of its stock form.

    Args:
        weights: the names and shapes of `weight_shapes(architecture)`.
        architecture: their shape.
        stock: `stock_architecture(architecture)`.

    Returns:
        The names and shapes of `weight_shapes(stock)`; what needs no padding is not copied.
    """
    head_size = architecture.head_size
    # Where each of the q true dimensions lies among the d of the stock form.
    heads, dimensions = np.divmod(np.arange(architecture.qkv_size), head_size)
    places = heads * stock.head_size + dimensions
    scale = math.sqrt(stock.head_size / head_size)
    padded = dict(weights)
    for index in range(architecture.num_layers):
        prefix = f"encoder.layer.{index}.attention."
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                name = f"{prefix}self.{part}.{kind}"
                value = weights[name]  # [q, d] or [q]
                spread = np.zeros((stock.qkv_size, *value.shape[1:]), dtype=np.float32)
                spread[places] = value * np.float32(scale) if part == "query" else value
                padded[name] = spread
        name = f"{prefix}output.dense.weight"
        columns = np.zeros((stock.hidden_size, stock.qkv_size), dtype=np.float32)
        columns[:, places] = weights[name]  # [d, q]
        padded[name] = columns
    return padded
