"""The authored graphs against a torch encoder written from the BERT paper's equations."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.onnx_graph import (
    INPUT_NAMES,
    OUTPUT_NAME,
    build_encoder,
)
from supernet.space import kd_space, mlm_space
from supernet.variants import GRAPH_VARIANTS, GraphVariant
from supernet.weights import weight_shapes

Weights = dict[str, npt.NDArray[np.float32]]

VOCAB_SIZE = 97
MAX_POSITIONS = 40


def random_weights(architecture: Architecture, seed: int) -> Weights:
    """Weights large enough for attention to be far from uniform."""
    rng = np.random.default_rng(seed)
    shapes = weight_shapes(architecture, vocab_size=VOCAB_SIZE, max_positions=MAX_POSITIONS)
    weights = {
        name: rng.normal(0, 0.08, shape).astype(np.float32) for name, shape in shapes.items()
    }
    for name in weights:
        if name.endswith("LayerNorm.weight"):
            weights[name] += 1
    return weights


def random_inputs(
    seed: int, *, batch_size: int = 3, sequence_length: int = 17
) -> dict[str, npt.NDArray[np.int64]]:
    """Three sequences: one full, one padded to a half, one of a single token."""
    rng = np.random.default_rng(seed)
    shape = (batch_size, sequence_length)
    lengths = np.array([sequence_length, sequence_length // 2, 1])[:batch_size]
    return {
        "input_ids": rng.integers(0, VOCAB_SIZE, shape),
        "attention_mask": (np.arange(sequence_length) < lengths[:, None]).astype(np.int64),
        "token_type_ids": rng.integers(0, 2, shape),
    }


def torch_encoder(
    architecture: Architecture,
    weights: Mapping[str, npt.NDArray[np.float32]],
    inputs: Mapping[str, npt.NDArray[np.int64]],
) -> npt.NDArray[np.float32]:
    """BERT's encoder, post-norm, erf GELU, in float64 so that the graph alone is in doubt."""
    w = {name: torch.from_numpy(value).double() for name, value in weights.items()}
    ids, mask, types = (torch.from_numpy(inputs[name]) for name in INPUT_NAMES)
    batch_size, length = ids.shape
    d, h, a = architecture.hidden_size, architecture.num_heads, architecture.head_size

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (d,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.token_type_embeddings.weight"][types]
    x = norm(x + w["embeddings.position_embeddings.weight"][:length], "embeddings.LayerNorm")
    for index in range(architecture.num_layers):
        layer = f"encoder.layer.{index}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{part}")
            .reshape(batch_size, length, h, a)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(a)
        scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        context = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch_size, length, h * a)
        attended = linear(context, f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        inner = functional.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return np.asarray(x.float().numpy())


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


ARCHITECTURES = [
    *kd_space().sample(np.random.default_rng(5), 3),
    *mlm_space().sample(np.random.default_rng(6), 3),
    Architecture(2, 36, 50, 3, 51),
    Architecture(1, 8, 8, 1, 1),
    Architecture(5, 564, 1054, 8, 512),
]


@pytest.mark.parametrize("variant", GRAPH_VARIANTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_graph_equals_torch_on_every_position_padded_ones_included(
    architecture: Architecture, variant: GraphVariant
) -> None:
    weights = random_weights(architecture, seed=1)
    model = build_encoder(architecture, variant=variant, weights=weights).model
    session = session_of(model)
    for length in (17, 5):  # the axes are dynamic
        inputs = random_inputs(2, sequence_length=length)
        (output,) = session.run([OUTPUT_NAME], inputs)
        np.testing.assert_allclose(
            output, torch_encoder(architecture, weights, inputs), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("variant", GRAPH_VARIANTS)
def test_graph_passes_the_full_onnx_checker(variant: GraphVariant) -> None:
    architecture = Architecture(2, 36, 50, 3, 51)
    model = build_encoder(architecture, variant=variant, weights=random_weights(architecture, 0))
    onnx.checker.check_model(model.model, full_check=variant == "plain")


@pytest.mark.parametrize("variant", GRAPH_VARIANTS)
def test_external_weights_bound_to_a_session_give_what_stored_weights_give(
    variant: GraphVariant,
) -> None:
    architecture = Architecture(2, 36, 50, 3, 51)
    rng = np.random.default_rng(0)
    graph = build_encoder(
        architecture, variant=variant, vocab_size=VOCAB_SIZE, max_positions=MAX_POSITIONS
    )
    values = {
        name: rng.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in graph.weight_shapes.items()
    }
    options = onnxruntime.SessionOptions()
    ort_values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in values.values()]
    options.add_external_initializers(list(values), ort_values)
    bound = onnxruntime.InferenceSession(
        graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    stored = onnx.ModelProto()
    stored.CopyFrom(graph.model)
    for tensor in stored.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
    inputs = random_inputs(1)
    np.testing.assert_array_equal(
        bound.run(None, inputs)[0], session_of(stored).run(None, inputs)[0]
    )


def test_only_weights_are_external() -> None:
    graph = build_encoder(Architecture(2, 36, 50, 3, 51))
    external = {
        tensor.name
        for tensor in graph.model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    assert external == set(graph.weight_shapes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.layer.1.output.dense.bias": None}, "lack encoder.layer.1.output.dense.bias"),
        ({"embeddings.word_embeddings.weight": None}, "lack embeddings.word_embeddings.weight"),
        (
            {"encoder.layer.0.attention.self.query.weight": np.zeros((51, 35), np.float32)},
            r"has shape \[51, 35\], but 2-36-50-3-51 needs \[51, 36\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    change: dict[str, npt.NDArray[np.float32] | None], message: str
) -> None:
    architecture = Architecture(2, 36, 50, 3, 51)
    weights = {
        name: value
        for name, value in {**random_weights(architecture, 0), **change}.items()
        if value is not None
    }
    with pytest.raises(InputError, match=message):
        build_encoder(architecture, weights=weights)


def test_unknown_variant_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="plain or attention"):
        build_encoder(Architecture(1, 8, 8, 1, 8), variant="fused")  # type: ignore[arg-type]
