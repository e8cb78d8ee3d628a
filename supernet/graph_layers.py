"""The variants `plain` and `attention`: post-norm transformer layers, batch first, `[B, S, d]`.

Shape letters: B batch size, S sequence length, d hidden size, f FFN size, h heads, q QKV size,
a head size (q / h).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from onnx import TensorProto

from supernet.architecture import Architecture
from supernet.cost import TYPE_VOCAB_SIZE
from supernet.graph_author import Author, Make
from supernet.variants import SUB_LAYERS, Part
from supernet.weights import FloatArray

_Attention = Callable[[Author, Architecture, str, str, str], str]


def write_plain(
    author: Author,
    architecture: Architecture,
    tables: tuple[int, int],
    output: str,
    part: Part = "encoder",
) -> None:
    """Writes the encoder from ONNX's own operators.

    Args:
        author: takes the nodes.
        architecture: its shape.
        tables: rows of the word and of the position embedding.
        output: name of the last hidden state, `[B, S, d]`.
        part: what of it to write.
    """
    mask = score_bias(author) if "attention" in SUB_LAYERS[part] else ""
    _write_layers(author, architecture, tables, output, part, mask, _plain_attention)


def write_attention(
    author: Author,
    architecture: Architecture,
    tables: tuple[int, int],
    output: str,
    part: Part = "encoder",
) -> None:
    """Writes the encoder with one `com.microsoft.Attention` a layer; it takes the mask itself."""
    mask = ""
    if "attention" in SUB_LAYERS[part]:
        mask = author.node("Cast", ["attention_mask"], name="mask", to=TensorProto.INT32)
    _write_layers(author, architecture, tables, output, part, mask, _fused_attention)


def score_bias(author: Author) -> str:
    """What is added to the scores: 0 for a token, a very low number for padding, `[B, 1, 1, S]`."""
    axes = author.constant("mask_axes", [1, 2])
    spread = author.node("Unsqueeze", ["attention_mask", axes], name="mask_spread")
    kept = author.node("Cast", [spread], name="mask_kept", to=author.float_type)
    one = author.constant("one", 1.0, author.float_dtype)
    lowest = author.constant("lowest", author.masked, author.float_dtype)
    padded = author.node("Sub", [one, kept], name="mask_padded")
    return author.node("Mul", [padded, lowest], name="mask")


def embeddings(
    author: Author,
    hidden_size: int,
    tables: tuple[int, int],
    *,
    sequence_first: bool = False,
    bias: tuple[str, Make] | None = None,
    output: str | None = None,
) -> str:
    """Word + segment + position embeddings and their LayerNorm, `[B, S, d]` or `[S, B, d]`.

    Args:
        author: takes the nodes.
        hidden_size: d.
        tables: rows of the word and of the position embedding.
        sequence_first: put the sequence before the batch; ids are cheap to transpose.
        bias: another bias of the LayerNorm: its name and value.
        output: the name of what comes out.
    """
    vocab_size, max_positions = tables
    ids, segments = "input_ids", "token_type_ids"
    if sequence_first:
        ids = author.node("Transpose", [ids], name="words_first", perm=[1, 0])
        segments = author.node("Transpose", [segments], name="segments_first", perm=[1, 0])
    words = author.rows(
        ids,
        "embeddings.word_embeddings.weight",
        (vocab_size, hidden_size),
        name="embeddings.words",
    )
    type_table = author.weight(
        "embeddings.token_type_embeddings.weight", (TYPE_VOCAB_SIZE, hidden_size)
    )
    types = author.node("Gather", [type_table, segments], name="embeddings.types")
    position_table = author.weight(
        "embeddings.position_embeddings.weight", (max_positions, hidden_size)
    )
    length = author.node("Shape", ["input_ids"], name="sequence_length", start=1, end=2)
    first = author.constant("zero", [0])
    positions = author.node(
        "Slice", [position_table, first, length, first], name="embeddings.positions"
    )
    if sequence_first:
        axis = author.constant("batch_axis", [1])
        positions = author.node("Unsqueeze", [positions, axis], name="embeddings.positions_spread")
    total = author.node("Add", [words, types], name="embeddings.words_and_types")
    total = author.node("Add", [total, positions], name="embeddings.total")
    return author.layer_norm(total, "embeddings.LayerNorm", hidden_size, bias=bias, output=output)


def _write_layers(
    author: Author,
    architecture: Architecture,
    tables: tuple[int, int],
    output: str,
    part: Part,
    mask: str,
    attention: _Attention,
) -> None:
    """Writes the post-norm sub-layers of a part, each from `[B, S, d]` to `[B, S, d]`."""
    sub_layers = [
        (f"encoder.layer.{index}.", kind)
        for index in range(architecture.num_layers)
        for kind in SUB_LAYERS[part]
    ]
    hidden = embeddings(
        author, architecture.hidden_size, tables, output=None if sub_layers else output
    )
    for place, (prefix, kind) in enumerate(sub_layers, start=1):
        last = output if place == len(sub_layers) else None
        if kind == "attention":
            context = attention(author, architecture, hidden, mask, prefix)  # [B, S, q]
            hidden = _attended(author, architecture, context, hidden, prefix, last)
        else:
            hidden = _fed_forward(author, architecture, hidden, prefix, last)


def _attended(
    author: Author,
    architecture: Architecture,
    context: str,
    hidden: str,
    prefix: str,
    output: str | None,
) -> str:
    """The end of an attention sub-layer: output projection, residual and LayerNorm."""
    d, q = architecture.hidden_size, architecture.qkv_size
    attended = author.linear(context, f"{prefix}attention.output.dense", q, d)
    total = author.node("Add", [attended, hidden], name=f"{prefix}attention.output.total")
    return author.layer_norm(total, f"{prefix}attention.output.LayerNorm", d, output=output)


def _fed_forward(
    author: Author, architecture: Architecture, middle: str, prefix: str, output: str | None
) -> str:
    """A feed-forward sub-layer with its residual and LayerNorm."""
    d, f = architecture.hidden_size, architecture.ffn_size
    inner = author.linear(middle, f"{prefix}intermediate.dense", d, f)
    active = author.node("Gelu", [inner], name=f"{prefix}intermediate.gelu")  # [B, S, f]
    outer = author.linear(active, f"{prefix}output.dense", f, d)
    total = author.node("Add", [outer, middle], name=f"{prefix}output.total")
    return author.layer_norm(total, f"{prefix}output.LayerNorm", d, output=output)


def _plain_attention(
    author: Author, architecture: Architecture, hidden: str, mask: str, prefix: str
) -> str:
    """Attention from ONNX's own operators; the scale is folded into the query weights."""
    d, q, h = architecture.hidden_size, architecture.qkv_size, architecture.num_heads
    split = author.constant("split_heads", [0, 0, h, architecture.head_size])
    merge = author.constant("merge_heads", [0, 0, q])
    name = f"{prefix}attention.self."
    scale = 1.0 / math.sqrt(architecture.head_size)
    heads: dict[str, str] = {}
    for part, permutation in (
        ("query", [0, 2, 1, 3]),  # [B, h, S, a]
        ("key", [0, 2, 3, 1]),  # [B, h, a, S]
        ("value", [0, 2, 1, 3]),  # [B, h, S, a]
    ):
        projected = author.linear(
            hidden, f"{name}{part}", d, q, scale=scale if part == "query" else 1.0
        )
        shaped = author.node("Reshape", [projected, split], name=f"{name}{part}.split")
        heads[part] = author.node(
            "Transpose", [shaped], name=f"{name}{part}.heads", perm=permutation
        )
    context = attend(author, heads, mask, name)
    mixed = author.node("Transpose", [context], name=f"{name}mixed", perm=[0, 2, 1, 3])
    return author.node("Reshape", [mixed, merge], name=f"{name}output")  # [B, S, q]


def attend(author: Author, heads: Mapping[str, str], mask: str, name: str) -> str:
    """What each head makes of its queries, keys and values, `[B, h, S, a]`.

    Args:
        author: takes the nodes.
        heads: `query` `[B, h, S, a]`, scaled; `key` `[B, h, a, S]`; `value` `[B, h, S, a]`.
        mask: what is added to the scores.
        name: prefix of the nodes' names; the scores are `name` + `scores`.
    """
    scores = author.node("MatMul", [heads["query"], heads["key"]], name=f"{name}scores")
    biased = author.node("Add", [scores, mask], name=f"{name}biased_scores")
    shares = author.node("Softmax", [biased], name=f"{name}shares", axis=-1)  # [B, h, S, S]
    return author.node("MatMul", [shares, heads["value"]], name=f"{name}context")


def _fused_attention(
    author: Author, architecture: Architecture, hidden: str, mask: str, prefix: str
) -> str:
    """Attention as one `com.microsoft.Attention` node, QKV merged; it applies the scale itself."""
    d, q = architecture.hidden_size, architecture.qkv_size
    name = f"{prefix}attention.self."
    parts = [f"{name}{part}" for part in ("query", "key", "value")]

    def kernel(state: Mapping[str, FloatArray]) -> FloatArray:
        return np.concatenate([state[f"{part}.weight"].T for part in parts], axis=1)

    def bias(state: Mapping[str, FloatArray]) -> FloatArray:
        return np.concatenate([state[f"{part}.bias"] for part in parts])

    return author.node(
        "Attention",
        [
            hidden,
            author.weight(f"{name}qkv.kernel", (d, 3 * q), kernel),
            author.weight(f"{name}qkv.bias", (3 * q,), bias),
            mask,
        ],
        name=f"{name}output",
        domain="com.microsoft",
        num_heads=architecture.num_heads,
        qkv_hidden_sizes=[q, q, q],
        mask_filter_value=author.masked,
    )
