from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.model import SuperPLM
from supernet.objectives import (
    TeacherVariance,
    check_heads,
    distillation_loss,
    teacher_signals,
    teacher_variance,
)
from supernet.space import kd_space, mlm_space

Batch = tuple[Tensor, Tensor]
MakeSuperPLM = Callable[..., SuperPLM]
UNIT = TeacherVariance(scores=1.0, hidden=1.0)


def identity(size: int) -> nn.Linear:
    layer = nn.Linear(size, size)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(size))
        layer.bias.zero_()
    return layer


def test_the_teacher_itself_has_no_loss(make_superplm: MakeSuperPLM, batch: Batch) -> None:
    teacher = make_superplm()
    with torch.no_grad():
        output = teacher(*batch, with_scores=True)
        loss = distillation_loss(output, identity(24), teacher_signals(teacher, *batch), UNIT)
    assert float(loss.total) == pytest.approx(0.0, abs=1e-10)


def test_the_loss_is_the_mean_square_over_tokens_and_pairs_of_tokens(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    teacher, student = make_superplm(seed=0), make_superplm(seed=1)
    small = Architecture(3, 16, 20, 4, 12)
    projection = nn.Linear(24, 24)
    input_ids, mask = batch
    signals = teacher_signals(teacher, input_ids, mask)
    with torch.no_grad():
        output = student(input_ids, mask, architecture=small, with_scores=True)
        loss = distillation_loss(output, projection, signals, UNIT)
        lengths = mask.sum(1).tolist()
        score_errors, hidden_errors = [], []
        for index, length in enumerate(lengths):
            scores = output.scores[index, :, :length, :length]
            score_errors.append((scores - signals.scores[index, :, :length, :length]).square())
            hidden = output.last_hidden_state[index, :length]
            projected = hidden @ projection.weight[:, :16].T + projection.bias
            hidden_errors.append((projected - signals.hidden[index, :length]).square())
    expected_scores = torch.cat([error.flatten() for error in score_errors]).mean()
    expected_hidden = torch.cat([error.flatten() for error in hidden_errors]).mean()
    torch.testing.assert_close(loss.scores, expected_scores)
    torch.testing.assert_close(loss.hidden, expected_hidden)


def test_padding_queries_and_keys_do_not_matter(make_superplm: MakeSuperPLM, batch: Batch) -> None:
    teacher, student = make_superplm(seed=0), make_superplm(seed=1)
    input_ids, mask = batch
    losses = []
    for padding in (0, 99):
        ids = torch.where(mask.bool(), input_ids, padding)
        signals = teacher_signals(teacher, ids, mask)
        with torch.no_grad():
            output = student(ids, mask, with_scores=True)
            losses.append(float(distillation_loss(output, identity(24), signals, UNIT).total))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_constant_prediction_scores_about_one_in_units_of_the_teachers_variance(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    teacher = make_superplm()
    signals = teacher_signals(teacher, *batch)
    variance = teacher_variance([signals])
    kept = signals.mask
    constant = nn.Linear(24, 24)
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.copy_(signals.hidden[kept].mean(0))
        loss = distillation_loss(teacher(*batch, with_scores=True), constant, signals, variance)
    assert float(loss.hidden) == pytest.approx(1.0, rel=1e-3)


def test_variance_over_batches_is_that_of_all_tokens_together(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    teacher = make_superplm()
    input_ids, mask = batch
    whole = teacher_variance([teacher_signals(teacher, input_ids, mask)])
    parts = teacher_variance(
        teacher_signals(teacher, input_ids[i : i + 1], mask[i : i + 1]) for i in range(3)
    )
    assert parts.scores == pytest.approx(whole.scores, rel=1e-5)
    assert parts.hidden == pytest.approx(whole.hidden, rel=1e-3)


def test_a_space_with_other_heads_than_the_teacher_is_refused() -> None:
    teacher = Architecture(6, 384, 1536, 12, 384)
    check_heads(kd_space(), teacher)
    with pytest.raises(InputError, match=r"space mlm has 1, 2, .* heads, the teacher 12"):
        check_heads(mlm_space(), teacher)
