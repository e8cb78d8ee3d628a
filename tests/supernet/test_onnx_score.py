"""An exported file scored as itself: it must agree with torch where it computes the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from supernet.architecture import Architecture
from supernet.corpus import TokenSplit
from supernet.distillation import Distillation, Teacher
from supernet.extraction import extract
from supernet.held_out import HeldOutLoss
from supernet.learner import Learner
from supernet.model import SuperPLM
from supernet.model_folder import onnx_content
from supernet.objectives import ObjectiveSpec
from supernet.onnx_score import OnnxEncoder
from supernet.variants import GraphVariant, Precision

MakeSuperPLM = Callable[..., SuperPLM]

SLICE = Architecture(3, 16, 20, 4, 12)


@pytest.fixture
def held_out(make_superplm: MakeSuperPLM) -> HeldOutLoss:
    """Sequences of 2 to 12 tokens: most of them are padded."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 13, 40).astype(np.int32)
    input_ids = rng.integers(1, 100, (40, 12)).astype(np.int32)
    input_ids[np.arange(12) >= lengths[:, None]] = 0
    spec = ObjectiveSpec(name="kd", attention="scores", units={"scores": 2.0, "hidden": 0.5})
    return HeldOutLoss(Distillation(Teacher(make_superplm()), spec), TokenSplit(input_ids, lengths))


@pytest.fixture
def student(make_superplm: MakeSuperPLM) -> Learner:
    torch.manual_seed(0)
    return Learner(make_superplm(seed=1), projection=nn.Linear(24, 24))


def file_of(student: Learner, variant: GraphVariant, precision: Precision) -> OnnxEncoder:
    content = onnx_content(extract(student.student, SLICE), variant=variant, precision=precision)
    return OnnxEncoder(content, SLICE)


@pytest.mark.parametrize("variant", ["plain", "folded"])
def test_an_fp32_file_scores_what_its_encoder_scores_in_torch(
    held_out: HeldOutLoss, student: Learner, variant: GraphVariant
) -> None:
    expected = held_out(student, SLICE).terms
    found = held_out.terms(file_of(student, variant, "fp32"), student)
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_graph_that_keeps_its_scores_to_itself_is_scored_by_its_hidden_state(
    held_out: HeldOutLoss, student: Learner
) -> None:
    file = file_of(student, "attention", "fp32")
    assert not file.tells_scores
    found = held_out.terms(file, student)
    assert found["scores"] is None
    assert found["hidden"] == pytest.approx(held_out(student, SLICE).terms["hidden"], rel=1e-4)


@pytest.mark.parametrize("variant", ["plain", "folded"])
def test_an_int8_file_is_scored_as_itself_and_not_as_its_float32_weights(
    held_out: HeldOutLoss, student: Learner, variant: GraphVariant
) -> None:
    expected = held_out(student, SLICE).terms
    found = held_out.terms(file_of(student, variant, "int8"), student)
    for name, float32 in expected.items():
        assert found[name] != pytest.approx(float32, rel=1e-5)
        assert found[name] == pytest.approx(float32, rel=0.1)
