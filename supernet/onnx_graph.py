"""Authors the ONNX graph of a BERT-like encoder, one file for every shape and variant.

Graphs are written node by node instead of exported from a framework: that takes milliseconds
instead of seconds, and what was timed is exactly what ships.

Interface of every graph: inputs `input_ids`, `attention_mask`, `token_type_ids`, int64
`[B, S]`; output `last_hidden_state`, float32 `[B, S, d]`. Both axes are dynamic.

Shape letters: B batch size, S sequence length, L layers, d hidden size, f FFN size, h heads,
q QKV size, a head size (q / h), V vocabulary size, P positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.cost import MAX_POSITIONS, TYPE_VOCAB_SIZE, VOCAB_SIZE
from supernet.variants import GRAPH_VARIANTS, GraphVariant, Precision
from supernet.weights import (
    LAYER_NORM_EPSILON,
    FloatArray,
    check_weights,
    table_sizes,
    weight_shapes,
)

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT_NAME = "last_hidden_state"

# Gelu is an operator of its own from opset 20; IR 10 is the newest that such runtimes read.
_OPSET = 20
_IR_VERSION = 10

# External data is bound by name through the session's options; no such file is ever opened.
UNBOUND_LOCATION = "bound-by-the-session"


@dataclass(frozen=True)
class EncoderGraph:
    """A graph and the weights that it takes.

    Attributes:
        model: the ONNX model.
        weight_shapes: shape of each initializer that stands for weights, by name, in the order
            in which the graph reads them.
    """

    model: onnx.ModelProto
    weight_shapes: Mapping[str, tuple[int, ...]]


def build_encoder(
    architecture: Architecture,
    *,
    variant: GraphVariant = "plain",
    precision: Precision = "fp32",
    weights: Mapping[str, FloatArray] | None = None,
    vocab_size: int = VOCAB_SIZE,
    max_positions: int = MAX_POSITIONS,
    layer_norm_epsilon: float = LAYER_NORM_EPSILON,
) -> EncoderGraph:
    """Authors the graph of an encoder.

    Args:
        architecture: its shape.
        variant: `plain` uses ONNX's own operators and leaves fusing to the runtime; `attention`
            uses ONNX Runtime's `com.microsoft.Attention`.
        precision: what products are computed in.
        weights: weights under the names, shapes and layout of `weight_shapes`, stored in the
            model. Without them every weight is declared external, for the session to bind.
        vocab_size: rows of the word embedding; with `weights`, theirs count.
        max_positions: rows of the position embedding; with `weights`, theirs count.
        layer_norm_epsilon: what every LayerNorm adds to the variance.

    Raises:
        InputError: if the variant is unknown, or the weights do not fit the architecture.
    """
    if variant not in GRAPH_VARIANTS:
        raise InputError(f"no graph variant {variant!r}: use {' or '.join(GRAPH_VARIANTS)}")
    if precision != "fp32":
        raise InputError(f"no {precision} graph yet")
    if weights is not None:
        vocab_size, max_positions = table_sizes(weights)
        shapes = weight_shapes(architecture, vocab_size=vocab_size, max_positions=max_positions)
        check_weights(shapes, weights, architecture)
    author = _Author(weights, layer_norm_epsilon)
    mask = _attention_bias(author, variant)
    hidden = _embeddings(author, architecture, vocab_size, max_positions)
    attention = _plain_attention if variant == "plain" else _fused_attention
    for index in range(architecture.num_layers):
        is_last = index == architecture.num_layers - 1
        hidden = _layer(
            author,
            architecture,
            hidden,
            mask,
            prefix=f"encoder.layer.{index}.",
            attention=attention,
            output=OUTPUT_NAME if is_last else None,
        )
    return author.finish(architecture, variant)


class _Author:
    """Collects nodes, weights and constants while a graph is written from inputs to output."""

    def __init__(self, weights: Mapping[str, FloatArray] | None, layer_norm_epsilon: float) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._weights = weights
        self._layer_norm_epsilon = layer_norm_epsilon
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._tensors: list[onnx.TensorProto] = []

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        *,
        name: str,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Adds a node whose only output is called `name`."""
        self._nodes.append(
            helper.make_node(op_type, inputs, [name], name=name, domain=domain, **attributes)
        )
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """A constant, stored once however often it is asked for."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.array(value, dtype=dtype), name)
        return name

    def weight(
        self,
        name: str,
        shape: tuple[int, ...],
        make: Callable[[Mapping[str, FloatArray]], FloatArray] | None = None,
    ) -> str:
        """Declares a weight: external, or `make(weights)`, by default the one of this name."""
        self.shapes[name] = shape
        if self._weights is None:
            tensor = TensorProto(
                name=name,
                data_type=TensorProto.FLOAT,
                dims=shape,
                data_location=TensorProto.EXTERNAL,
            )
            tensor.external_data.add(key="location", value=UNBOUND_LOCATION)
        else:
            value = make(self._weights) if make else self._weights[name]
            tensor = numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name)
        self._tensors.append(tensor)
        return name

    def linear(
        self,
        hidden: str,
        name: str,
        in_size: int,
        out_size: int,
        *,
        scale: float = 1.0,
    ) -> str:
        """`hidden @ weight.T + bias`, times `scale`, which is folded into the weights."""
        kernel = self.weight(
            f"{name}.kernel", (in_size, out_size), lambda state: state[f"{name}.weight"].T * scale
        )
        bias = self.weight(f"{name}.bias", (out_size,), lambda state: state[f"{name}.bias"] * scale)
        product = self.node("MatMul", [hidden, kernel], name=f"{name}.product")
        return self.node("Add", [product, bias], name=f"{name}.sum")

    def layer_norm(self, hidden: str, name: str, size: int, *, output: str | None = None) -> str:
        return self.node(
            "LayerNormalization",
            [
                hidden,
                self.weight(f"{name}.weight", (size,)),
                self.weight(f"{name}.bias", (size,)),
            ],
            name=output or f"{name}.output",
            axis=-1,
            epsilon=self._layer_norm_epsilon,
        )

    def finish(self, architecture: Architecture, variant: GraphVariant) -> EncoderGraph:
        axes = ["batch", "sequence"]
        graph = helper.make_graph(
            self._nodes,
            f"bert-{architecture}",
            [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in INPUT_NAMES],
            [
                helper.make_tensor_value_info(
                    OUTPUT_NAME, TensorProto.FLOAT, [*axes, architecture.hidden_size]
                )
            ],
            initializer=[*self._constants.values(), *self._tensors],
        )
        imports = [helper.make_opsetid("", _OPSET)]
        if variant == "attention":
            imports.append(helper.make_opsetid("com.microsoft", 1))
        model = helper.make_model(
            graph, opset_imports=imports, ir_version=_IR_VERSION, producer_name="autotinybert"
        )
        return EncoderGraph(model, dict(self.shapes))


def _attention_bias(author: _Author, variant: GraphVariant) -> str:
    """What is added to the scores: 0 for a token, the lowest float for padding, `[B, 1, 1, S]`.

    `com.microsoft.Attention` takes the mask itself, as int32 `[B, S]`.
    """
    if variant == "attention":
        return author.node("Cast", ["attention_mask"], name="mask", to=TensorProto.INT32)
    axes = author.constant("mask_axes", [1, 2])
    spread = author.node("Unsqueeze", ["attention_mask", axes], name="mask_spread")
    kept = author.node("Cast", [spread], name="mask_kept", to=TensorProto.FLOAT)
    one = author.constant("one", 1.0, np.float32)
    lowest = author.constant("lowest", np.finfo(np.float32).min, np.float32)
    padded = author.node("Sub", [one, kept], name="mask_padded")
    return author.node("Mul", [padded, lowest], name="mask")


def _embeddings(
    author: _Author, architecture: Architecture, vocab_size: int, max_positions: int
) -> str:
    """Word + segment + position embeddings and their LayerNorm, `[B, S, d]`."""
    d = architecture.hidden_size
    word_table = author.weight("embeddings.word_embeddings.weight", (vocab_size, d))
    type_table = author.weight("embeddings.token_type_embeddings.weight", (TYPE_VOCAB_SIZE, d))
    position_table = author.weight("embeddings.position_embeddings.weight", (max_positions, d))
    words = author.node("Gather", [word_table, "input_ids"], name="embeddings.words")
    types = author.node("Gather", [type_table, "token_type_ids"], name="embeddings.types")
    length = author.node("Shape", ["input_ids"], name="sequence_length", start=1, end=2)
    first = author.constant("zero", [0])
    positions = author.node(
        "Slice", [position_table, first, length, first], name="embeddings.positions"
    )
    total = author.node("Add", [words, types], name="embeddings.words_and_types")
    total = author.node("Add", [total, positions], name="embeddings.total")
    return author.layer_norm(total, "embeddings.LayerNorm", d)


def _layer(
    author: _Author,
    architecture: Architecture,
    hidden: str,
    mask: str,
    *,
    prefix: str,
    attention: Callable[[_Author, Architecture, str, str, str], str],
    output: str | None,
) -> str:
    """One post-norm transformer layer, `[B, S, d]` to `[B, S, d]`."""
    d, f, q = architecture.hidden_size, architecture.ffn_size, architecture.qkv_size
    context = attention(author, architecture, hidden, mask, prefix)  # [B, S, q]
    attended = author.linear(context, f"{prefix}attention.output.dense", q, d)
    total = author.node("Add", [attended, hidden], name=f"{prefix}attention.output.total")
    middle = author.layer_norm(total, f"{prefix}attention.output.LayerNorm", d)
    inner = author.linear(middle, f"{prefix}intermediate.dense", d, f)
    active = author.node("Gelu", [inner], name=f"{prefix}intermediate.gelu")  # [B, S, f]
    outer = author.linear(active, f"{prefix}output.dense", f, d)
    total = author.node("Add", [outer, middle], name=f"{prefix}output.total")
    return author.layer_norm(total, f"{prefix}output.LayerNorm", d, output=output)


def _plain_attention(
    author: _Author, architecture: Architecture, hidden: str, mask: str, prefix: str
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
    scores = author.node("MatMul", [heads["query"], heads["key"]], name=f"{name}scores")
    biased = author.node("Add", [scores, mask], name=f"{name}biased_scores")
    shares = author.node("Softmax", [biased], name=f"{name}shares", axis=-1)  # [B, h, S, S]
    context = author.node("MatMul", [shares, heads["value"]], name=f"{name}context")
    mixed = author.node("Transpose", [context], name=f"{name}mixed", perm=[0, 2, 1, 3])
    return author.node("Reshape", [mixed, merge], name=f"{name}output")  # [B, S, q]


def _fused_attention(
    author: _Author, architecture: Architecture, hidden: str, mask: str, prefix: str
) -> str:
    """Attention as one `com.microsoft.Attention` node, QKV merged; it applies the scale itself."""
    d, q = architecture.hidden_size, architecture.qkv_size
    name = f"{prefix}attention.self."
    parts = [f"{name}{part}" for part in ("query", "key", "value")]
    kernel = author.weight(
        f"{name}qkv.kernel",
        (d, 3 * q),
        lambda state: np.concatenate([state[f"{part}.weight"].T for part in parts], axis=1),
    )
    bias = author.weight(
        f"{name}qkv.bias",
        (3 * q,),
        lambda state: np.concatenate([state[f"{part}.bias"] for part in parts]),
    )
    return author.node(
        "Attention",
        [hidden, kernel, bias, mask],
        name=f"{name}output",
        domain="com.microsoft",
        num_heads=architecture.num_heads,
        qkv_hidden_sizes=[q, q, q],
        mask_filter_value=float(np.finfo(np.float32).min),
    )
