"""What is wrong in AutoTinyBERT's published code must not come back here.

Faults of its other halves (a predictor that is never trained, depths that are never timed, a search
that cannot end or exceeds its budget, files read with `eval`) have tests in those rooms.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from search.operators import mutate
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.distillation import Distillation, Teacher
from supernet.extraction import as_model, extract
from supernet.learner import Learner
from supernet.masked_language import MaskedLanguage, MaskedLanguageHead
from supernet.model import SuperPLM
from supernet.objectives import Objective, ObjectiveName, ObjectiveSpec
from supernet.space import kd_space

MakeSuperPLM = Callable[..., SuperPLM]
SLICE = Architecture(3, 16, 20, 4, 12)


def learning(make: MakeSuperPLM, name: ObjectiveName) -> tuple[Learner, Objective]:
    torch.manual_seed(0)
    if name == "mlm":
        head = MaskedLanguageHead(24, 100)
        head.initialise(torch.Generator().manual_seed(0), 0.2)
        objective = MaskedLanguage(special_ids=(0,), mask_id=4, vocab_size=100, seed=0)
        return Learner(make(seed=1), mlm_head=head), objective
    spec = ObjectiveSpec(name="kd", attention="scores", units={"scores": 1.0, "hidden": 1.0})
    learner = Learner(make(seed=1), projection=nn.Linear(24, 24))
    return learner, Distillation(Teacher(make(seed=0)), spec)


def loss_of(learner: Learner, objective: Objective, batch: Batch) -> float:
    lesson = objective.lesson(batch, 0)
    with torch.no_grad():
        sums, _ = learner(objective, lesson, SLICE)
    return float((sums / lesson.counts).sum())


@pytest.mark.parametrize("name", ["kd", "mlm"])
def test_the_mask_is_the_mask_and_segments_are_segments_in_training(
    make_superplm: MakeSuperPLM, batch: Batch, name: ObjectiveName
) -> None:
    """There they were swapped: padding was read, and segments were hidden."""
    learner, objective = learning(make_superplm, name)
    segments = torch.zeros_like(batch.mask)
    segments[:, 2:] = 1
    given = batch._replace(token_types=segments * batch.mask)
    other_padding = torch.where(batch.mask.bool(), batch.input_ids, 7)
    before = loss_of(learner, objective, given)
    padded = loss_of(learner, objective, given._replace(input_ids=other_padding))
    assert padded == pytest.approx(before, rel=1e-5), "padding says nothing"
    one_segment = given._replace(token_types=torch.zeros_like(segments))
    assert loss_of(learner, objective, one_segment) != pytest.approx(before, rel=1e-5)


def test_a_slice_has_the_same_heads_in_training_and_when_it_is_taken_out(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    model = make_superplm()
    with torch.no_grad():
        inside = model(*batch, architecture=SLICE, with_scores=True)
        outside = as_model(extract(model, SLICE))(*batch, with_scores=True)
    torch.testing.assert_close(outside.scores, inside.scores)


@pytest.mark.parametrize("name", ["kd", "mlm"])
def test_what_stands_on_a_slice_is_taken_out_with_it(
    make_superplm: MakeSuperPLM, batch: Batch, name: ObjectiveName
) -> None:
    """There the projection (`dense_fit`) and the head for masked words were dropped."""
    learner, objective = learning(make_superplm, name)
    lesson = objective.lesson(batch, 0)
    with torch.no_grad():
        inside, _ = learner(objective, lesson, SLICE)
        outside, _ = learner.slice(SLICE)(objective, lesson)
    torch.testing.assert_close(outside, inside)


def test_a_parent_of_twelve_heads_has_children() -> None:
    space, rng = kd_space(hidden_step=16, ffn_step=32), np.random.default_rng(0)
    parent = Architecture(4, 320, 1216, 12, 324)
    children = {mutate(space, parent, rng) for _ in range(50)}
    assert len(children) > 10
    assert all(child in space and child.num_heads == 12 for child in children)


def test_no_file_is_read_as_code_or_as_a_pickle() -> None:
    root = Path(__file__).parents[2]
    for room in ("supernet", "search", "predictor", "profiler", "device_profiles", "autotinybert"):
        for path in (root / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    _check_call(node, path)
                elif isinstance(node, ast.Import | ast.ImportFrom):
                    names = {alias.name for alias in node.names}
                    assert not names & {"pickle", "cPickle", "dill", "joblib"}, path


def _check_call(node: ast.Call, path: Path) -> None:
    if isinstance(node.func, ast.Name):
        assert node.func.id not in ("eval", "exec"), path
    elif ast.unparse(node.func) == "torch.load":
        safe = [ast.unparse(word.value) for word in node.keywords if word.arg == "weights_only"]
        assert safe == ["True"], path
