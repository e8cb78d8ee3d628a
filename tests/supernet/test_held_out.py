from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from supernet.architecture import Architecture
from supernet.batch import as_batch
from supernet.corpus import TokenSplit
from supernet.distillation import Distillation, Teacher
from supernet.held_out import HeldOutLoss
from supernet.learner import Learner
from supernet.model import SuperPLM
from supernet.objectives import ObjectiveSpec

MakeSuperPLM = Callable[..., SuperPLM]
UNIT = ObjectiveSpec(name="kd", attention="scores", units={"scores": 2.0, "hidden": 0.5})
SMALL = Architecture(3, 16, 20, 4, 12)


def split_of(count: int) -> TokenSplit:
    """Sequences of 2 to 12 tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 13, count).astype(np.int32)
    input_ids = rng.integers(1, 100, (count, 12)).astype(np.int32)
    input_ids[np.arange(12) >= lengths[:, None]] = 0
    return TokenSplit(input_ids, lengths)


def distil(teacher: SuperPLM) -> Distillation:
    return Distillation(Teacher(teacher), UNIT)


def projection() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(24, 24)


def test_a_batch_of_a_split_is_trimmed_and_masked() -> None:
    split = TokenSplit(
        np.array([[2, 5, 3, 0, 0], [2, 6, 7, 3, 0]], dtype=np.int32),
        np.array([3, 4], dtype=np.int32),
    )
    input_ids, mask, types = as_batch(split, np.array([1, 0]))
    assert types is None
    assert input_ids.dtype == mask.dtype == torch.long
    assert input_ids.tolist() == [[2, 6, 7, 3], [2, 5, 3, 0]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_the_teacher_itself_scores_nothing_and_a_stranger_something(
    make_superplm: MakeSuperPLM,
) -> None:
    teacher = make_superplm()
    identity = nn.Linear(24, 24)
    with torch.no_grad():
        identity.weight.copy_(torch.eye(24))
        identity.bias.zero_()
    held_out = HeldOutLoss(distil(teacher), split_of(40))
    assert held_out(Learner(teacher, projection=identity)).loss < 1e-6
    stranger = held_out(Learner(make_superplm(seed=1), projection=identity))
    assert stranger.loss == stranger.terms["scores"] + stranger.terms["hidden"]
    assert min(stranger.terms.values()) > 0.01


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_the_score_does_not_depend_on_the_size_of_batches(
    make_superplm: MakeSuperPLM, batch_size: int
) -> None:
    teacher = make_superplm(seed=0)
    student = Learner(make_superplm(seed=1), projection=projection())
    scores = [
        HeldOutLoss(distil(teacher), split_of(40), batch_size=size)(student, SMALL)
        for size in (batch_size, 16)
    ]
    assert scores[0].terms == pytest.approx(scores[1].terms, rel=1e-5)


@pytest.mark.parametrize(("count", "used"), [(5, 5), (64, 64), (65, 64), (1000, 64)])
def test_sequences_are_taken_evenly_from_the_whole_split(
    make_superplm: MakeSuperPLM, count: int, used: int
) -> None:
    seen: list[list[int]] = []
    teacher = make_superplm()
    teacher.register_forward_pre_hook(lambda _, given: seen.extend(given[0].tolist()))
    split = split_of(count)
    HeldOutLoss(distil(teacher), split, sequences=64, batch_size=10)
    assert len(seen) == used
    rows = split.input_ids.tolist()
    places = sorted(rows.index(row + [0] * (12 - len(row))) for row in seen)
    assert (places[0], places[-1]) == (0, count - 1)
    assert np.diff(places).max() <= np.ceil(count / used) + 1


def test_scoring_leaves_no_gradients_and_changes_nothing(make_superplm: MakeSuperPLM) -> None:
    student = Learner(make_superplm(seed=1), projection=projection())
    held_out = HeldOutLoss(distil(make_superplm(seed=0)), split_of(9))
    assert held_out(student, SMALL) == held_out(student, SMALL)
    assert all(parameter.grad is None for parameter in student.parameters())
