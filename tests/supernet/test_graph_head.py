"""Heads in the graph, against the heads of torch on the hidden state of the same encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from autotinybert.errors import InputError
from supernet.batch import Batch
from supernet.encoder import Encoder
from supernet.heads import HEAD_KINDS, Head, HeadKind
from supernet.model_folder import onnx_content
from supernet.onnx_classifier import OnnxClassifier
from supernet.onnx_graph import LOGITS_NAME, OUTPUT_NAME, build_encoder
from supernet.onnx_score import OnnxEncoder
from supernet.task_head import TaskHead
from supernet.variants import (
    GRAPH_VARIANTS,
    PRECISIONS,
    GraphVariant,
    Part,
    Precision,
    can_write,
)

Make = Callable[..., Encoder]
Inputs = Callable[..., dict[str, npt.NDArray[np.int64]]]
FORMS = [(v, p) for v in GRAPH_VARIANTS for p in PRECISIONS if can_write(v, p)]
SHAPE = "2-36-50-3-51"


def run(content: bytes, inputs: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def in_torch(head: Head | None, hidden: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    assert head is not None
    with torch.no_grad():
        return np.asarray(TaskHead.from_head(head)(torch.from_numpy(hidden)).numpy())


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize(("variant", "precision"), FORMS)
def test_logits_are_the_heads_of_torch_on_the_hidden_state_of_the_same_graph(
    random_encoder: Make,
    random_inputs: Inputs,
    kind: HeadKind,
    variant: GraphVariant,
    precision: Precision,
) -> None:
    encoder = random_encoder(SHAPE, head=kind)
    inputs = random_inputs(3)
    bare = onnx_content(replace(encoder, head=None), variant=variant, precision=precision)
    content = onnx_content(encoder, variant=variant, precision=precision)
    found = OnnxClassifier(content)(*inputs.values())
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    # The head is float32 whatever the body is.
    np.testing.assert_allclose(found, in_torch(encoder.head, run(bare, inputs)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("variant", "precision"), FORMS)
def test_the_body_is_node_for_node_the_graph_without_a_head(
    random_encoder: Make, variant: GraphVariant, precision: Precision
) -> None:
    encoder = random_encoder(SHAPE, head="classification")
    options: dict[str, Any] = {"variant": variant, "precision": precision}
    bare = onnx.load_model_from_string(onnx_content(replace(encoder, head=None), **options))
    whole = onnx.load_model_from_string(onnx_content(encoder, **options))
    nodes, body = list(whole.graph.node), list(bare.graph.node)
    assert nodes[: len(body)] == body
    assert [node.op_type for node in nodes[len(body) :]] == ["Gather", "Gemm", "Tanh", "Gemm"]


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_logits_are_the_only_output_and_only_the_label_axis_is_fixed(
    random_encoder: Make, kind: HeadKind
) -> None:
    encoder = random_encoder(SHAPE, head=kind)
    assert encoder.head is not None
    model = build_encoder(encoder.architecture, weights=encoder.weights, head=encoder.head).model
    onnx.checker.check_model(model, full_check=True)
    (output,) = model.graph.output
    assert output.name == LOGITS_NAME
    axes = [axis.dim_param or axis.dim_value for axis in output.type.tensor_type.shape.dim]
    tokens = ["batch", "sequence"] if kind == "span" else ["batch"]
    assert axes == [*tokens, len(encoder.head.labels)]


@pytest.mark.parametrize(("variant", "precision"), FORMS)
def test_the_hidden_state_of_a_file_with_a_head_can_still_be_had(
    random_encoder: Make, random_inputs: Inputs, variant: GraphVariant, precision: Precision
) -> None:
    encoder, inputs = random_encoder(SHAPE, head="classification"), random_inputs(3)
    ids, mask = (torch.from_numpy(inputs[name]) for name in ("input_ids", "attention_mask"))
    files = [
        OnnxEncoder(onnx_content(each, variant=variant, precision=precision), each.architecture)
        for each in (encoder, replace(encoder, head=None))
    ]
    found, expected = (file(Batch(ids, mask)) for file in files)
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state)
    assert files[0].tells_scores == files[1].tells_scores


def test_segments_left_out_are_all_the_first(random_encoder: Make, random_inputs: Inputs) -> None:
    inputs = random_inputs(3)
    content = onnx_content(
        random_encoder(SHAPE, head="regression"), variant="plain", precision="fp32"
    )
    file = OnnxClassifier(content, threads=1)
    ids, mask, types = inputs.values()
    np.testing.assert_array_equal(
        file(ids.astype(np.int32), mask), file(ids, mask, np.zeros_like(types))
    )
    assert file(ids, mask).shape == (3, 1)


def test_a_file_without_a_head_is_no_classifier(random_encoder: Make) -> None:
    content = onnx_content(random_encoder(SHAPE), variant="plain", precision="fp32")
    with pytest.raises(InputError, match=f"puts out {OUTPUT_NAME}, not logits"):
        OnnxClassifier(content)


def test_a_head_that_fits_no_hidden_size_or_no_part_is_refused(
    random_encoder: Make, random_head: Callable[..., Head]
) -> None:
    shape = random_encoder(SHAPE).architecture
    with pytest.raises(InputError, match="head for hidden size 24 does not fit 2-36-50-3-51"):
        build_encoder(shape, head=random_head("span", 24, 0))
    part: Part = "ffn"
    with pytest.raises(InputError, match="no head on the part ffn"):
        build_encoder(shape, part=part, head=random_head("span", 36, 0))
