"""Authors the ONNX graph of a BERT-like encoder: every shape, variant and precision.

Graphs are written node by node instead of exported from a framework: that takes milliseconds
instead of seconds, and what was timed is exactly what ships.

Interface of every graph: inputs `input_ids`, `attention_mask`, `token_type_ids`, int64
`[B, S]`; output `last_hidden_state`, float32 `[B, S, d]`, or with a head `logits`, float32
`[B, n]`, of a span head `[B, S, 2]`. Both axes are dynamic.

Shape letters: B batch size, S sequence length, L layers, d hidden size, f FFN size, h heads,
q QKV size, a head size (q / h), V vocabulary size, P positions, n number of labels.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.cost import MAX_POSITIONS, VOCAB_SIZE
from supernet.folded_graph import write_folded
from supernet.graph_author import Author, EncoderGraph
from supernet.graph_head import write_head
from supernet.graph_layers import write_attention, write_plain
from supernet.heads import Head, check_head_fits
from supernet.variants import GraphVariant, Part, Precision, check_form, check_part
from supernet.weights import (
    LAYER_NORM_EPSILON,
    FloatArray,
    check_weights,
    table_sizes,
    weight_shapes,
)

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT_NAME = "last_hidden_state"
LOGITS_NAME = "logits"

_WRITERS = {"plain": write_plain, "attention": write_attention, "folded": write_folded}


def build_encoder(
    architecture: Architecture,
    *,
    variant: GraphVariant = "plain",
    precision: Precision = "fp32",
    part: Part = "encoder",
    weights: Mapping[str, FloatArray] | None = None,
    vocab_size: int = VOCAB_SIZE,
    max_positions: int = MAX_POSITIONS,
    layer_norm_epsilon: float = LAYER_NORM_EPSILON,
    head: Head | None = None,
) -> EncoderGraph:
    """Authors the graph of an encoder, and of the head on it if there is one.

    Args:
        architecture: its shape.
        variant: `plain` uses ONNX's own operators and leaves fusing to the runtime; `folded` is
            the same encoder with fewer passes over its activations (see `folded_graph`);
            `attention` uses ONNX Runtime's `com.microsoft.Attention`.
        precision: `fp16` computes in half precision; `int8` stores the word embedding and the
            weights of linear layers as int8 and quantises activations while it runs.
        part: `encoder` for the whole; `embeddings` for those alone, `attention` or `ffn` for those
            and the sub-layers of one kind, so that what a sub-layer takes can be measured. Each
            has the interface of the whole; what it does not need of it is not read.
        weights: float32 weights under the names, shapes and layout of `weight_shapes`, stored in
            the model. Without them every weight is declared external, for the session to bind.
        vocab_size: rows of the word embedding; with `weights`, theirs count.
        max_positions: rows of the position embedding; with `weights`, theirs count.
        layer_norm_epsilon: what every LayerNorm adds to the variance.
        head: what turns the last hidden state into the graph's only output, `logits`. Its weights
            are stored in the model in any case, as float32.

    Raises:
        InputError: if the variant, precision or part is unknown, they do not go together, or the
            weights or the head do not fit the architecture.
    """
    check_form(variant, precision)
    check_part(part)
    if weights is not None:
        vocab_size, max_positions = table_sizes(weights)
        shapes = weight_shapes(
            architecture, vocab_size=vocab_size, max_positions=max_positions, part=part
        )
        check_weights(shapes, weights, architecture)
    if head is not None:
        check_head_fits(head, architecture)
        if part != "encoder":
            raise InputError(f"no head on the part {part} of an encoder: it stands on the whole")
    author = Author(weights, precision=precision, layer_norm_epsilon=layer_norm_epsilon)
    last = f"{OUTPUT_NAME}.half" if precision == "fp16" else OUTPUT_NAME
    _WRITERS[variant](author, architecture, (vocab_size, max_positions), last, part)
    if last != OUTPUT_NAME:
        author.node("Cast", [last], name=OUTPUT_NAME, to=TensorProto.FLOAT)
    name = f"bert-{architecture}" if part == "encoder" else f"bert-{architecture}-{part}"
    output = OUTPUT_NAME
    axes: list[str | int] = ["batch", "sequence", architecture.hidden_size]
    if head is not None:
        output, axes = LOGITS_NAME, write_head(author, head, OUTPUT_NAME, LOGITS_NAME)
        name = f"{name}-{head.kind}"
    return author.finish(name, INPUT_NAMES, output, axes)
