"""Writes a task's head behind an encoder's graph.

The body stays the graph that was profiled, down to its last node: it computes the last hidden
state of every token, though a classifier reads only the first. The head is float32 in every
precision, because it costs next to nothing: two products of one token beside those of whole
layers of all tokens, and a span's two columns. So rounding it would save nothing.

Shape letters: B batch size, S sequence length, d hidden size, n number of labels.
"""

from __future__ import annotations

import numpy as np

from supernet.graph_author import Author
from supernet.heads import Head


def write_head(author: Author, head: Head, hidden: str, output: str) -> list[str | int]:
    """Writes a head, its weights stored in the graph.

    Args:
        author: takes the nodes.
        head: what to write.
        hidden: name of the last hidden state, float32 `[B, S, d]`.
        output: name of the logits, float32 `[B, n]`, of a span head `[B, S, 2]`.

    Returns:
        The axes of the output.
    """
    if head.kind == "span":
        return _write_span(author, head, hidden, output)
    place = author.constant("first_token_place", 0)
    first = author.node("Gather", [hidden, place], name="first_token", axis=1)  # [B, d]
    dense = _gemm(author, head, first, "pooler.dense", "pooler.dense.sum")
    pooled = author.node("Tanh", [dense], name="pooler.output")
    _gemm(author, head, pooled, "classifier", output)
    return ["batch", len(head.labels)]


def _write_span(author: Author, head: Head, hidden: str, output: str) -> list[str | int]:
    """One linear layer on every token, as rows.

    The product of `[B, S, d]` itself would be fused with the transpose that ends `folded`; behind
    the cast of half precision, ONNX Runtime 1.32 crashes as it does that.
    """
    num_labels = len(head.labels)
    rows = author.constant("head_rows", [-1, head.hidden_size])
    tokens = author.node("Reshape", [hidden, rows], name="head_tokens")  # [B S, d]
    found = _gemm(author, head, tokens, "qa_outputs", "qa_outputs.sum")
    axes = author.node("Shape", ["input_ids"], name="head_axes_of_tokens")
    labels = author.constant("label_axis", [num_labels])
    shape = author.node("Concat", [axes, labels], name="logits_shape", axis=0)
    author.node("Reshape", [found, shape], name=output)
    return ["batch", "sequence", num_labels]


def _gemm(author: Author, head: Head, inner: str, layer: str, output: str) -> str:
    """A linear layer of the head on rows, its weights `[out, in]` as they are kept."""
    weight, bias = (
        author.constant(f"{layer}.{part}", head.weights[f"{layer}.{part}"], np.float32)
        for part in ("weight", "bias")
    )
    return author.node("Gemm", [inner, weight, bias], name=output, transB=1)
