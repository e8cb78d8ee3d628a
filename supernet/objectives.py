"""The distillation objective of AutoTinyBERT: last-layer attention scores and last hidden state.

The loss of a slice is the mean squared error of its last layer's attention scores before softmax,
plus that of its last hidden state after a learned projection to the teacher's width (Yin et al.,
ACL 2021, section 3.2, equations 3 to 5, in the weights 1 and 1). Padding is left out: rows and
columns of the scores, and positions of the hidden state. Each error is divided by the variance of
the teacher's value, so that both terms are shares of what there is to learn, whatever the teacher's
scale; 1 is what a constant would score.

Shape letters: B batch size, S sequence length, h heads, d hidden size of the slice, t of the
teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.model import EncoderOutput, SuperPLM
from supernet.space import Space


@dataclass(frozen=True)
class TeacherSignals:
    """What a teacher says about a batch.

    Attributes:
        scores: its last layer's attention scores before softmax, `[B, h, S, S]`.
        hidden: its last hidden state, `[B, S, t]`.
        mask: True for tokens, `[B, S]`.
    """

    scores: Tensor
    hidden: Tensor
    mask: Tensor


@dataclass(frozen=True)
class TeacherVariance:
    """The variance of a teacher's signals over tokens: the unit of each loss term.

    Attributes:
        scores: of all attention scores.
        hidden: of the last hidden state, mean over channels.
    """

    scores: float
    hidden: float


@dataclass(frozen=True)
class DistillationLoss:
    """The two terms of the loss, scalars.

    Attributes:
        scores: of the attention scores.
        hidden: of the projected hidden state.
    """

    scores: Tensor
    hidden: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.scores + self.hidden


def check_heads(space: Space, teacher: Architecture) -> None:
    """Refuses a space whose heads cannot be compared with the teacher's one by one.

    Raises:
        InputError: naming both.
    """
    _check_same_heads(f"space {space.name}", space.num_heads, teacher)


def check_heads_of(student: Architecture, teacher: Architecture) -> None:
    """Refuses an encoder whose heads cannot be compared with the teacher's one by one.

    Raises:
        InputError: naming both.
    """
    _check_same_heads(str(student), (student.num_heads,), teacher)


def _check_same_heads(what: str, heads: Sequence[int], teacher: Architecture) -> None:
    if tuple(heads) != (teacher.num_heads,):
        raise InputError(
            f"{what} has {', '.join(map(str, heads))} heads, the teacher {teacher.num_heads}: "
            "attention scores are compared head by head, so use as many heads as the teacher has"
        )


@torch.no_grad()
def teacher_signals(teacher: SuperPLM, input_ids: Tensor, mask: Tensor) -> TeacherSignals:
    """What a teacher says about a batch of input ids and masks, int64 `[B, S]` each."""
    output = teacher(input_ids, mask, with_scores=True)
    assert output.scores is not None
    return TeacherSignals(output.scores, output.last_hidden_state, mask.to(torch.bool))


def teacher_variance(signals: Iterable[TeacherSignals]) -> TeacherVariance:
    """The variances of a teacher's signals over some batches, padding left out."""
    scores = _Variance()
    hidden = _Variance()
    for batch in signals:
        pairs = batch.mask[:, None, :, None] & batch.mask[:, None, None, :]
        scores.add(batch.scores[pairs.expand_as(batch.scores)][:, None])
        hidden.add(batch.hidden[batch.mask])
    return TeacherVariance(scores.mean(), hidden.mean())


class _Variance:
    """The variance of each column over all rows seen, `[N, c]` at a time."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, rows: Tensor) -> None:
        self._count += rows.shape[0]
        self._sum = self._sum + rows.double().sum(0)
        self._squares = self._squares + rows.double().square().sum(0)

    def mean(self) -> float:
        """The mean over columns."""
        variance = self._squares / self._count - (self._sum / self._count).square()
        return float(variance.mean())


def distillation_loss(
    output: EncoderOutput,
    projection: nn.Linear,
    signals: TeacherSignals,
    variance: TeacherVariance,
) -> DistillationLoss:
    """The loss of a slice against its teacher.

    Args:
        output: of the slice, with scores, `[B, h, S, S]` and `[B, S, d]`.
        projection: from the SuperPLM's hidden size to the teacher's; its first d columns are used.
        signals: of the teacher, on the same batch.
        variance: the unit of each term.
    """
    assert output.scores is not None, "the objective needs the scores of the last layer"
    return DistillationLoss(
        scores_loss(output.scores, signals, variance),
        hidden_loss(output.last_hidden_state, projection, signals, variance),
    )


def scores_loss(scores: Tensor, signals: TeacherSignals, variance: TeacherVariance) -> Tensor:
    """The term for the attention scores of the last layer, `[B, h, S, S]`."""
    keep = signals.mask.to(scores.dtype)
    pairs = keep[:, None, :, None] * keep[:, None, None, :]  # [B, 1, S, S]
    error = (scores - signals.scores).square() * pairs
    return error.sum() / (pairs.sum() * scores.shape[1]) / variance.scores


def hidden_loss(
    hidden: Tensor, projection: nn.Linear, signals: TeacherSignals, variance: TeacherVariance
) -> Tensor:
    """The term for the last hidden state, `[B, S, d]`."""
    keep = signals.mask.to(hidden.dtype)
    projected = F.linear(hidden, projection.weight[:, : hidden.shape[-1]], projection.bias)
    error = (projected - signals.hidden).square() * keep[..., None]
    return error.sum() / (keep.sum() * projected.shape[-1]) / variance.hidden
