"""The authored graphs against a torch encoder written from the BERT paper's equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.onnx_graph import OUTPUT_NAME, build_encoder
from supernet.space import kd_space, mlm_space
from supernet.variants import GRAPH_VARIANTS, PARTS, GraphVariant, Part, Precision, can_write
from supernet.weights import weight_shapes

Make = Callable[..., dict[str, npt.NDArray[Any]]]
Run = Callable[..., npt.NDArray[np.float32]]


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
    architecture: Architecture,
    variant: GraphVariant,
    random_weights: Make,
    random_inputs: Make,
    torch_encoder: Run,
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
def test_every_layer_norm_has_the_epsilon_asked_for(
    variant: GraphVariant, random_weights: Make, random_inputs: Make, torch_encoder: Run
) -> None:
    architecture = Architecture(2, 36, 50, 3, 51)
    weights, inputs = random_weights(architecture, seed=1), random_inputs(2)
    model = build_encoder(
        architecture, variant=variant, weights=weights, layer_norm_epsilon=0.5
    ).model
    (output,) = session_of(model).run([OUTPUT_NAME], inputs)
    expected = torch_encoder(architecture, weights, inputs, layer_norm_epsilon=0.5)
    np.testing.assert_allclose(output, expected, atol=1e-5, rtol=0)
    assert np.abs(output - torch_encoder(architecture, weights, inputs)).max() > 0.01


@pytest.mark.parametrize("variant", GRAPH_VARIANTS)
def test_graph_passes_the_full_onnx_checker(variant: GraphVariant, random_weights: Make) -> None:
    architecture = Architecture(2, 36, 50, 3, 51)
    model = build_encoder(architecture, variant=variant, weights=random_weights(architecture, 0))
    onnx.checker.check_model(model.model, full_check=variant != "attention")


@pytest.mark.parametrize("variant", GRAPH_VARIANTS)
def test_external_weights_bound_to_a_session_give_what_stored_weights_give(
    variant: GraphVariant, random_inputs: Make
) -> None:
    architecture = Architecture(2, 36, 50, 3, 51)
    rng = np.random.default_rng(0)
    graph = build_encoder(architecture, variant=variant, vocab_size=97, max_positions=40)
    values = {
        name: rng.normal(0, 0.05, spec.shape).astype(np.float32)
        for name, spec in graph.weights.items()
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
    assert external == set(graph.weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.layer.1.output.dense.bias": None}, "lack encoder.layer.1.output.dense.bias"),
        ({"embeddings.word_embeddings.weight": None}, "lack embeddings.word_embeddings.weight"),
        (
            {"embeddings.position_embeddings.weight": np.zeros(36, np.float32)},
            r"position_embeddings.weight has shape \[36\]: it must be rows",
        ),
        (
            {"encoder.layer.0.attention.self.query.weight": np.zeros((51, 35), np.float32)},
            r"has shape \[51, 35\], but 2-36-50-3-51 needs \[51, 36\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    change: dict[str, npt.NDArray[np.float32] | None], message: str, random_weights: Make
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
    with pytest.raises(InputError, match="plain, folded, attention"):
        build_encoder(Architecture(1, 8, 8, 1, 8), variant="fused")  # type: ignore[arg-type]


def relative_error(output: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((output - expected) ** 2) / np.mean(expected**2)))


@pytest.mark.parametrize("variant", ["plain", "folded"])
@pytest.mark.parametrize(
    "architecture", [Architecture(2, 36, 50, 3, 51), Architecture(3, 64, 128, 4, 64)], ids=str
)
def test_int8_graph_is_near_torch_although_outputs_differ_in_scale_a_hundredfold(
    architecture: Architecture,
    variant: GraphVariant,
    random_weights: Make,
    random_inputs: Make,
    torch_encoder: Run,
) -> None:
    weights = random_weights(architecture, seed=1)
    for name, value in weights.items():
        # One scale for a whole matrix would leave nothing of its small outputs.
        if value.ndim == 2 and name.startswith("encoder") and not name.endswith("query.weight"):
            value[::2] *= 0.01
    model = build_encoder(architecture, variant=variant, precision="int8", weights=weights).model
    inputs = random_inputs(2)
    (output,) = session_of(model).run([OUTPUT_NAME], inputs)
    expected = torch_encoder(architecture, weights, inputs)
    kept = inputs["attention_mask"].astype(bool)
    assert 0 < relative_error(output[kept], expected[kept]) < 0.04


def test_int8_graph_stores_what_is_large_in_a_byte_each(random_weights: Make) -> None:
    architecture = Architecture(3, 64, 128, 4, 64)
    weights = random_weights(architecture, seed=0)
    graph = build_encoder(architecture, precision="int8", weights=weights)
    large = {name for name, spec in graph.weights.items() if np.prod(spec.shape) >= 64 * 64}
    assert len(large) == 6 * 3 + 1
    assert {graph.weights[name].dtype.name for name in large} == {"int8"}


@pytest.mark.parametrize("variant", GRAPH_VARIANTS)
def test_fp16_graph_is_near_torch(
    variant: GraphVariant, random_weights: Make, random_inputs: Make, torch_encoder: Run
) -> None:
    # The operator of the variant attention has no half-precision kernel on a CPU.
    if variant == "attention":
        pytest.skip("com.microsoft.Attention in half precision needs a GPU")
    architecture = Architecture(2, 36, 50, 3, 51)
    weights, inputs = random_weights(architecture, seed=1), random_inputs(2)
    model = build_encoder(architecture, variant=variant, precision="fp16", weights=weights).model
    (output,) = session_of(model).run([OUTPUT_NAME], inputs)
    assert output.dtype == np.float32
    assert 0 < relative_error(output, torch_encoder(architecture, weights, inputs)) < 0.01


def test_forms_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InputError, match="no int8 graph of the variant attention"):
        build_encoder(Architecture(1, 8, 8, 1, 8), variant="attention", precision="int8")
    with pytest.raises(InputError, match="no precision 'int4': use fp32, fp16, int8"):
        build_encoder(Architecture(1, 8, 8, 1, 8), precision="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("variant", GRAPH_VARIANTS)
def test_every_part_runs_with_the_interface_of_the_whole(
    part: Part,
    precision: Precision,
    variant: GraphVariant,
    random_weights: Make,
    random_inputs: Make,
) -> None:
    if not can_write(variant, precision):
        pytest.skip("no such graph")
    architecture = Architecture(2, 36, 50, 3, 51)
    graph = build_encoder(
        architecture,
        variant=variant,
        precision=precision,
        part=part,
        weights=random_weights(architecture, seed=1),
    )
    inputs = random_inputs(2)
    (output,) = session_of(graph.model).run([OUTPUT_NAME], inputs)
    assert output.shape == (*inputs["input_ids"].shape, 36)
    assert np.isfinite(output).all()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_the_weights_of_its_sub_layers_and_no_others(part: Part) -> None:
    architecture = Architecture(2, 36, 50, 3, 51)
    matrices = {"encoder": 6, "embeddings": 0, "attention": 4, "ffn": 2}[part]
    norms = {"encoder": 2, "embeddings": 0, "attention": 1, "ffn": 1}[part]
    expected = 3 + 2 + 2 * (2 * matrices + 2 * norms)
    assert len(build_encoder(architecture, part=part).weights) == expected
    assert len(weight_shapes(architecture, part=part)) == expected


@pytest.mark.parametrize("variant", GRAPH_VARIANTS)
def test_an_ffn_on_an_attention_is_a_layer(
    variant: GraphVariant, random_weights: Make, random_inputs: Make, torch_encoder: Run
) -> None:
    # With ids that name rows of the attention's output, the embeddings hand it to the FFN.
    architecture = Architecture(1, 36, 50, 3, 51)
    weights, inputs = random_weights(architecture, seed=1), random_inputs(2)

    def run(part: Part, values: Any, ids: Any) -> npt.NDArray[np.float32]:
        model = build_encoder(architecture, variant=variant, part=part, weights=values).model
        return np.asarray(session_of(model).run([OUTPUT_NAME], ids)[0])

    attended = run("attention", weights, inputs)
    norm = "attention.output.LayerNorm"
    rows = attended.reshape(-1, 36)
    # Undone and done again, a LayerNorm changes nothing.
    scale, shift = (weights[f"encoder.layer.0.{norm}.{name}"] for name in ("weight", "bias"))
    handed = {
        **weights,
        "embeddings.word_embeddings.weight": (rows - shift) / scale,
        "embeddings.token_type_embeddings.weight": np.zeros((2, 36), np.float32),
        "embeddings.position_embeddings.weight": np.zeros((64, 36), np.float32),
        "embeddings.LayerNorm.weight": scale,
        "embeddings.LayerNorm.bias": shift,
    }
    ids = np.arange(len(rows), dtype=np.int64).reshape(inputs["input_ids"].shape)
    output = run("ffn", handed, {**inputs, "input_ids": ids})
    np.testing.assert_allclose(
        output, torch_encoder(architecture, weights, inputs), atol=1e-5, rtol=0
    )


def test_a_part_that_no_encoder_has_is_refused() -> None:
    with pytest.raises(InputError, match="no part 'pooler' of an encoder: use encoder, embeddings"):
        build_encoder(Architecture(1, 8, 8, 1, 8), part="pooler")  # type: ignore[arg-type]
