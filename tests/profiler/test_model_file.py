from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autotinybert.errors import InputError
from device_profiles.target import Configuration, Target, Workload
from profiler.model_file import WORD_TABLE, ModelFile
from supernet.architecture import Architecture
from supernet.heads import SPAN_LABELS, Head, HeadKind, head_shapes
from supernet.onnx_graph import build_encoder
from supernet.variants import Precision
from supernet.weights import weight_shapes

ARCHITECTURE = Architecture(1, 24, 40, 3, 27)
VOCAB_SIZE = 9


def exported(path: Path) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    shapes = weight_shapes(ARCHITECTURE, vocab_size=VOCAB_SIZE, max_positions=16)
    weights = {name: rng.normal(0, 0.02, shape).astype("f4") for name, shape in shapes.items()}
    model = build_encoder(ARCHITECTURE, weights=weights).model
    onnx.save(model, path)
    return model


def test_an_exported_file_runs_under_a_workload_with_tokens_that_it_knows(tmp_path: Path) -> None:
    exported(tmp_path / "model.onnx")
    file = ModelFile.read(tmp_path / "model.onnx")
    assert file.vocab_size() == VOCAB_SIZE
    run = file.open(Configuration(ARCHITECTURE, Workload(2, 16)), np.random.default_rng(0))
    output: Any = run()
    assert np.array(output).shape == (1, 2, 16, ARCHITECTURE.hidden_size)
    assert np.isfinite(output).all()


def test_an_int8_file_runs_with_tokens_that_it_knows() -> None:
    rng = np.random.default_rng(0)
    shapes = weight_shapes(ARCHITECTURE, vocab_size=VOCAB_SIZE, max_positions=16)
    weights = {name: rng.normal(0, 0.02, shape).astype("f4") for name, shape in shapes.items()}
    model = build_encoder(ARCHITECTURE, precision="int8", weights=weights).model
    file = ModelFile(model.SerializeToString(), "")
    assert file.vocab_size() == VOCAB_SIZE
    configuration = Configuration(ARCHITECTURE, Workload(2, 16), Target(precision="int8"))
    output: Any = file.open(configuration, np.random.default_rng(0))()
    assert np.isfinite(output).all()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("kind", "labels"), [("classification", ("a", "b", "c")), ("span", None)])
def test_a_file_with_a_head_runs_as_it_is(
    precision: Precision, kind: HeadKind, labels: tuple[str, ...] | None
) -> None:
    rng = np.random.default_rng(0)
    labels = labels or SPAN_LABELS
    shapes = weight_shapes(ARCHITECTURE, vocab_size=VOCAB_SIZE, max_positions=16)
    weights, head_weights = (
        {name: rng.normal(0, 0.02, shape).astype("f4") for name, shape in each.items()}
        for each in (shapes, head_shapes(kind, ARCHITECTURE.hidden_size, len(labels)))
    )
    head = Head(kind, labels, head_weights)
    model = build_encoder(ARCHITECTURE, precision=precision, weights=weights, head=head).model
    file = ModelFile(model.SerializeToString(), "")
    assert file.vocab_size() == VOCAB_SIZE
    configuration = Configuration(ARCHITECTURE, Workload(2, 16), Target(precision=precision))
    output: Any = file.open(configuration, np.random.default_rng(0))()
    assert np.array(output).shape == ((1, 2, 16, 2) if kind == "span" else (1, 2, 3))
    assert np.isfinite(output).all()


def test_a_file_without_our_word_table_or_with_weights_elsewhere_is_refused(
    tmp_path: Path,
) -> None:
    model = exported(tmp_path / "model.onnx")
    (table,) = [tensor for tensor in model.graph.initializer if tensor.name == WORD_TABLE]
    table.data_location = TensorProto.EXTERNAL
    with pytest.raises(InputError, match="keeps weights in another file"):
        ModelFile(model.SerializeToString(), "").vocab_size()
    model.graph.initializer.remove(table)
    with pytest.raises(InputError, match=f"no initializer {WORD_TABLE}"):
        ModelFile(model.SerializeToString(), "").vocab_size()


def test_a_file_with_an_input_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    model = exported(tmp_path / "model.onnx")
    extra = helper.make_tensor_value_info("pixel_values", TensorProto.INT64, ["batch"])
    model.graph.input.append(extra)
    with pytest.raises(InputError, match="has the input pixel_values; known are input_ids"):
        ModelFile(model.SerializeToString(), "").open(
            Configuration(ARCHITECTURE), np.random.default_rng(0)
        )


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*absent\.onnx"):
        ModelFile.read(tmp_path / "absent.onnx")
