"""Writes the nodes, weights and constants of a graph, in any precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from supernet.quantisation import quantise
from supernet.variants import Precision
from supernet.weights import FloatArray

# External data is bound by name through the session's options; no such file is ever opened.
UNBOUND_LOCATION = "bound-by-the-session"

# Gelu is an operator of its own from opset 20; IR 10 is the newest that such runtimes read.
_OPSET = 20
_IR_VERSION = 10

# Makes a weight of the graph from an encoder's weights.
Make = Callable[[Mapping[str, FloatArray]], FloatArray]


@dataclass(frozen=True)
class WeightSpec:
    """What a weight of a graph is.

    Attributes:
        shape: its shape.
        dtype: float32, float16 or int8.
        is_scale: whether int8 values are multiplied by it, so that it must be small.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_scale: bool = False


@dataclass(frozen=True)
class EncoderGraph:
    """A graph and the weights that it takes.

    Attributes:
        model: the ONNX model.
        weights: each initializer that stands for weights, by name, in the order in which the
            graph reads them.
    """

    model: onnx.ModelProto
    weights: Mapping[str, WeightSpec]


class Author:
    """Collects nodes, weights and constants while a graph is written from inputs to output.

    Args:
        weights: an encoder's weights, stored in the model; without them every weight is declared
            external, for the session to bind.
        precision: `fp16` stores and computes everything in half precision; `int8` stores tables
            and the weights of linear layers as int8, and quantises what is multiplied with them
            while it runs, one scale for each tensor.
        layer_norm_epsilon: what every LayerNorm adds to the variance.
    """

    def __init__(
        self,
        weights: Mapping[str, FloatArray] | None,
        *,
        precision: Precision,
        layer_norm_epsilon: float,
    ) -> None:
        half = precision == "fp16"
        self.precision = precision
        self.float_dtype: np.dtype[Any] = np.dtype(np.float16 if half else np.float32)
        self.float_type = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        # Far below any score; in half precision the lowest number and a score would overflow.
        self.masked = float(np.finfo(self.float_dtype).min) / (2 if half else 1)
        self._weights = weights
        self._layer_norm_epsilon = layer_norm_epsilon
        self._specs: dict[str, WeightSpec] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._tensors: list[onnx.TensorProto] = []
        self._quantised: dict[str, tuple[str, str, str]] = {}

    def nodes(
        self,
        op_type: str,
        inputs: Sequence[str],
        *,
        names: Sequence[str],
        domain: str = "",
        **attributes: Any,
    ) -> None:
        """Adds a node with several outputs; it is called as the first of them."""
        self._nodes.append(
            helper.make_node(op_type, inputs, names, name=names[0], domain=domain, **attributes)
        )

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
        self.nodes(op_type, inputs, names=[name], domain=domain, **attributes)
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """A constant, stored once however often it is asked for."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.array(value, dtype=dtype), name)
        return name

    def weight(self, name: str, shape: tuple[int, ...], make: Make | None = None) -> str:
        """Declares a weight: external, or `make(weights)`, by default the one of this name."""
        return self._declare(name, WeightSpec(shape, self.float_dtype), self._made(name, make))

    def rows(self, indices: str, table: str, shape: tuple[int, int], *, name: str) -> str:
        """The rows of a large table at `indices`; in int8 every row has its scale."""
        if self.precision != "int8":
            return self.node("Gather", [self.weight(table, shape), indices], name=name)
        value = self._made(table, None)
        whole, scales = (None, None) if value is None else quantise(value, axis=1)
        self._declare(table, WeightSpec(shape, np.dtype(np.int8)), whole)
        scale = WeightSpec((shape[0], 1), self.float_dtype, is_scale=True)
        self._declare(f"{table}_scale", scale, scales)
        gathered = self.node("Gather", [table, indices], name=f"{name}.int8")
        factors = self.node("Gather", [f"{table}_scale", indices], name=f"{name}.scale")
        floats = self.node("Cast", [gathered], name=f"{name}.cast", to=self.float_type)
        return self.node("Mul", [floats, factors], name=name)

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

        def kernel(state: Mapping[str, FloatArray]) -> FloatArray:
            return state[f"{name}.weight"].T * np.float32(scale)

        bias = self.weight(
            f"{name}.bias", (out_size,), lambda state: state[f"{name}.bias"] * np.float32(scale)
        )
        if self.precision == "int8":
            return self._quantised_linear(hidden, name, in_size, out_size, kernel, bias)
        weight = self.weight(f"{name}.kernel", (in_size, out_size), kernel)
        product = self.node("MatMul", [hidden, weight], name=f"{name}.product")
        return self.node("Add", [product, bias], name=f"{name}.sum")

    def _quantised_linear(
        self, hidden: str, name: str, in_size: int, out_size: int, make: Make, bias: str
    ) -> str:
        """A product of int8 weights and of `hidden`, quantised once however often it is read.

        `MatMulIntegerToFloat` scales the sums and adds the bias while they are in registers.
        """
        value = self._made(name, make)
        whole, scales = (None, None) if value is None else quantise(value, axis=0)
        kernel = self._declare(
            f"{name}.kernel", WeightSpec((in_size, out_size), np.dtype(np.int8)), whole
        )
        scale = self._declare(
            f"{name}.kernel_scale",
            WeightSpec((out_size,), self.float_dtype, is_scale=True),
            None if scales is None else scales[0],
        )
        if hidden not in self._quantised:
            names = (f"{hidden}.uint8", f"{hidden}.scale", f"{hidden}.zero")
            self.nodes("DynamicQuantizeLinear", [hidden], names=names)
            self._quantised[hidden] = names
        uint8, factor, zero = self._quantised[hidden]
        return self.node(
            "MatMulIntegerToFloat",
            [uint8, kernel, factor, scale, zero, "", bias],
            name=f"{name}.sum",
            domain="com.microsoft",
        )

    def layer_norm(
        self,
        hidden: str,
        name: str,
        size: int,
        *,
        output: str | None = None,
        bias: tuple[str, Make] | None = None,
    ) -> str:
        """LayerNorm over the last axis, with its own bias or another (its name and value)."""
        bias_name, make = (f"{name}.bias", None) if bias is None else bias
        return self.node(
            "LayerNormalization",
            [
                hidden,
                self.weight(f"{name}.weight", (size,)),
                self.weight(bias_name, (size,), make),
            ],
            name=output or f"{name}.output",
            axis=-1,
            epsilon=self._layer_norm_epsilon,
        )

    def finish(
        self, name: str, inputs: Sequence[str], output: str, axes: Sequence[str | int]
    ) -> EncoderGraph:
        """The graph: int64 `[B, S]` inputs, and a float32 output with these axes."""
        tokens = ["batch", "sequence"]
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(value, TensorProto.INT64, tokens) for value in inputs],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, list(axes))],
            initializer=[*self._constants.values(), *self._tensors],
        )
        domains = {node.domain for node in self._nodes}
        imports = [helper.make_opsetid(domain, 1 if domain else _OPSET) for domain in domains]
        model = helper.make_model(
            graph,
            opset_imports=sorted(imports, key=lambda each: str(each.domain)),
            ir_version=_IR_VERSION,
            producer_name="autotinybert",
        )
        return EncoderGraph(model, dict(self._specs))

    def _made(self, name: str, make: Make | None) -> FloatArray | None:
        if self._weights is None:
            return None
        return make(self._weights) if make else self._weights[name]

    def _declare(self, name: str, spec: WeightSpec, value: npt.NDArray[Any] | None) -> str:
        self._specs[name] = spec
        if value is None:
            tensor = TensorProto(
                name=name,
                data_type=helper.np_dtype_to_tensor_dtype(spec.dtype),
                dims=spec.shape,
                data_location=TensorProto.EXTERNAL,
            )
            tensor.external_data.add(key="location", value=UNBOUND_LOCATION)
        else:
            tensor = numpy_helper.from_array(np.ascontiguousarray(value, dtype=spec.dtype), name)
        self._tensors.append(tensor)
        return name
