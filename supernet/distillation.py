"""The distillation objective of AutoTinyBERT: last-layer attention and last hidden state.

The loss of a slice is the mean squared error of its last layer's attention scores before softmax,
plus that of its last hidden state after a learned projection to the teacher's width (Yin et al.,
ACL 2021, section 3.2, equations 3 to 5, in the weights 1 and 1). Padding is left out: rows and
columns of the scores, and positions of the hidden state. Each error is divided by the variance of
the teacher's value, so that both terms are shares of what there is to learn, whatever the teacher's
scale; 1 is what a constant would score.

Scores can be compared only head by head. Where a slice has another number of heads than the
teacher, relations are compared instead (MiniLMv2, Wang et al., 2021): queries with queries, keys
with keys and values with values, in a number of relation heads that divides both widths; the
divergence of the two softmax distributions, divided by that of a uniform one from the teacher's.

A `task` is distilled by a third term: the mean squared error of the classifier's logits, divided by
their variance.

Shape letters: B batch size, S sequence length, h heads, d hidden size of the slice, t of the
teacher, q QKV size, r relation heads, n labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.huggingface import BertFolder
from supernet.learner import Learner
from supernet.model import EncoderOutput, SuperPLM
from supernet.objectives import (
    AttentionLoss,
    Lesson,
    ObjectiveName,
    ObjectiveSpec,
    in_full,
    masked_sum,
)
from supernet.space import Space
from supernet.task_head import TaskHead


@dataclass(frozen=True)
class Targets:
    """What a teacher says about a batch.

    Attributes:
        scores: its last layer's attention scores before softmax, `[B, h, S, S]`.
        relations: log-probabilities of its query, key and value relations, `[3, B, r, S, S]`.
        hidden: its last hidden state, `[B, S, t]`.
        logits: its classifier's, `[B, n]`.

    What the objective does not compare is None.
    """

    scores: Tensor | None
    relations: Tensor | None
    hidden: Tensor
    logits: Tensor | None


@dataclass(frozen=True)
class Teacher:
    """A teacher, frozen.

    Attributes:
        model: its encoder.
        head: its classifier, if its task is to be learnt.
    """

    model: SuperPLM
    head: TaskHead | None = None

    def to(self, device: torch.device) -> Teacher:
        """The same on a device."""
        return Teacher(self.model.to(device), None if self.head is None else self.head.to(device))


def attention_loss_for(num_heads: Iterable[int], teacher: Architecture) -> AttentionLoss:
    """What can be compared: scores where every slice has as many heads as the teacher."""
    return "scores" if set(num_heads) == {teacher.num_heads} else "relations"


def check_attention_loss(
    loss: AttentionLoss, num_heads: Iterable[int], teacher: Architecture
) -> None:
    """Refuses to compare scores head by head where the heads are not the same in number.

    Raises:
        InputError: naming both.
    """
    heads = sorted(set(num_heads))
    if loss == "scores" and attention_loss_for(heads, teacher) != loss:
        raise InputError(
            f"slices have {', '.join(map(str, heads))} heads, the teacher {teacher.num_heads}: "
            "scores are compared head by head; train-supernet --attention-loss relations compares "
            "what any number of heads has"
        )


def check_comparable(spec: ObjectiveSpec, space: Space, teacher: BertFolder | None) -> None:
    """Refuses a space whose slices an objective cannot compare with its teacher.

    Raises:
        InputError: saying why.
    """
    if spec.attention == "scores" and teacher is not None:
        check_attention_loss("scores", space.num_heads, teacher.config.largest)
    heads = spec.relation_heads
    if heads is not None:
        sizes = [size for size in set(space.widths[:, 2].tolist()) if size % heads]
        if sizes:
            raise InputError(
                f"space {space.name} has QKV sizes such as {min(sizes)}, which {heads} relation "
                "heads do not divide: search the space that the SuperPLM was trained for"
            )


def relation_heads_for(qkv_sizes: Iterable[int], teacher: Architecture) -> int:
    """The most relation heads that divide the teacher's QKV size and that of every slice.

    No more than the teacher has heads: relations are as costly as attention.
    """
    shared = math.gcd(teacher.qkv_size, *set(qkv_sizes))
    return max(r for r in range(1, teacher.num_heads + 1) if shared % r == 0)


def relations(parts: tuple[Tensor, Tensor, Tensor], mask: Tensor, heads: int) -> Tensor:
    """Log-probabilities of query, key and value relations, `[3, B, r, S, S]`.

    Args:
        parts: queries, keys and values, `[B, h, S, a]` each.
        mask: True for tokens, `[B, S]`.
        heads: r.
    """
    found = []
    for part in parts:
        batch_size, _, length, _ = part.shape
        rows = part.transpose(1, 2).reshape(batch_size, length, heads, -1).transpose(1, 2)
        scores = in_full(rows @ rows.transpose(2, 3)) * rows.shape[3] ** -0.5
        lowest = torch.finfo(scores.dtype).min
        found.append(scores.masked_fill(~mask[:, None, None, :], lowest).log_softmax(dim=-1))
    return torch.stack(found)


class Distillation:
    """See the module; an `Objective`.

    Args:
        teacher: frozen.
        spec: `kd` or `task`, with the unit of each term.
    """

    def __init__(self, teacher: Teacher, spec: ObjectiveSpec) -> None:
        assert spec.attention is not None, "a distillation compares something of the attention"
        self.teacher, self.spec = teacher, spec
        self.needs_scores = spec.attention == "scores"
        self.needs_parts = not self.needs_scores
        self.term_names: tuple[str, ...] = (spec.attention, "hidden")
        if spec.name == "task":
            assert teacher.head is not None
            self.term_names += ("logits",)

    @torch.no_grad()
    def lesson(self, batch: Batch, number: int = 0) -> Lesson:
        """What the teacher says about a batch."""
        del number  # it always says the same
        output = self.teacher.model(
            *batch, with_scores=self.needs_scores, with_parts=self.needs_parts
        )
        head = self.teacher.head if self.spec.name == "task" else None
        targets = self._targets(output, batch, output.last_hidden_state, head)
        return Lesson(batch, self._counts(batch, targets), targets)

    def sums(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> dict[str, Tensor]:
        """The sum of each term, in its unit."""
        targets, mask = lesson.targets, lesson.batch.mask.bool()
        projection = learner.projection
        assert isinstance(targets, Targets)
        assert projection is not None, "distillation needs a projection to the teacher's width"
        projected = project(output.last_hidden_state, projection)
        terms = {
            **self._attention_term(output, targets, mask),
            "hidden": masked_sum((in_full(projected) - targets.hidden).square(), mask[..., None]),
        }
        if targets.logits is not None:
            assert learner.task_head is not None
            logits = learner.task_head(output.last_hidden_state)
            terms["logits"] = (in_full(logits) - targets.logits).square().sum()
        units = self.spec.units
        return {name: value / units.get(name, 1.0) for name, value in terms.items()}

    def taught_by(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> Lesson:
        """The lesson as the largest slice tells it."""
        assert learner.projection is not None
        with torch.no_grad():
            hidden = project(output.last_hidden_state, learner.projection)
            head = learner.task_head if lesson.targets.logits is not None else None
            targets = self._targets(output, lesson.batch, hidden, head)
        return dataclasses.replace(lesson, targets=targets)

    def _targets(
        self, output: EncoderOutput, batch: Batch, hidden: Tensor, head: TaskHead | None
    ) -> Targets:
        told = None
        if self.needs_parts:
            assert output.parts is not None
            assert self.spec.relation_heads is not None
            told = relations(output.parts, batch.mask.bool(), self.spec.relation_heads).detach()
        return Targets(
            scores=None if output.scores is None else in_full(output.scores.detach()),
            relations=told,
            hidden=in_full(hidden.detach()),
            logits=None if head is None else in_full(head(output.last_hidden_state).detach()),
        )

    def _counts(self, batch: Batch, targets: Targets) -> Tensor:
        lengths = batch.mask.sum(1).double()
        tokens = float(lengths.sum())
        counts = {"hidden": tokens * targets.hidden.shape[-1]}
        if targets.scores is not None:
            counts["scores"] = float(lengths.square().sum()) * targets.scores.shape[1]
        if targets.relations is not None:
            counts["relations"] = tokens * 3 * targets.relations.shape[2]
        if targets.logits is not None:
            counts["logits"] = float(targets.logits.numel())
        return torch.tensor([counts[name] for name in self.term_names], dtype=torch.float64)

    def _attention_term(
        self, output: EncoderOutput, targets: Targets, mask: Tensor
    ) -> dict[str, Tensor]:
        if targets.scores is not None:
            if output.scores is None:
                return {}
            pairs = mask[:, None, :, None] & mask[:, None, None, :]  # [B, 1, S, S]
            return {"scores": masked_sum((in_full(output.scores) - targets.scores).square(), pairs)}
        assert targets.relations is not None
        if output.parts is None:
            return {}
        told = relations(output.parts, mask, targets.relations.shape[2])
        # Padded keys have a log-probability near minus infinity: zero times it is no number.
        keys = mask[:, None, None, :]
        divergence = F.kl_div(
            told.masked_fill(~keys, 0.0),
            targets.relations.masked_fill(~keys, 0.0),
            reduction="none",
            log_target=True,
        )
        pairs = mask[:, None, :, None] & keys
        return {"relations": masked_sum(divergence, pairs)}


def project(hidden: Tensor, projection: nn.Linear) -> Tensor:
    """A hidden state `[B, S, d]` to the teacher's width; the first d columns are used."""
    return F.linear(hidden, projection.weight[:, : hidden.shape[-1]], projection.bias)


def measured_spec(
    teacher: Teacher,
    batches: Iterable[Batch],
    *,
    name: ObjectiveName,
    attention: AttentionLoss,
    relation_heads: int | None,
) -> ObjectiveSpec:
    """The objective whose units are the variances of a teacher's signals over some batches.

    Raises:
        InputError: if they do not vary: there is nothing to learn then.
    """
    spec = ObjectiveSpec(name=name, attention=attention, relation_heads=relation_heads)
    objective = Distillation(teacher, spec)
    moments: dict[str, _Variance] = {}
    for batch in batches:
        targets, mask = objective.lesson(batch).targets, batch.mask.bool()
        _add(moments, "hidden", targets.hidden[mask])
        if targets.scores is not None:
            pairs = mask[:, None, :, None] & mask[:, None, None, :]
            _add(moments, "scores", targets.scores[pairs.expand_as(targets.scores)][:, None])
        if targets.relations is not None:
            _add(moments, "relations", _from_uniform(targets.relations, mask))
        if targets.logits is not None:
            _add(moments, "logits", targets.logits)
    units = {term: found.unit() for term, found in moments.items()}
    silent = [term for term, unit in units.items() if not unit > 0]
    if silent:
        raise InputError(
            f"the teacher says the same of every text (its {silent[0]} never vary): give one that "
            "was trained"
        )
    return dataclasses.replace(spec, units=units)


def _from_uniform(told: Tensor, mask: Tensor) -> Tensor:
    """The divergence of a uniform distribution from each of a teacher's, `[N, 1]`."""
    keys = mask[:, None, None, :]
    entropy = -(told.exp() * told).masked_fill(~keys, 0.0).sum(-1)  # [3, B, r, S]
    uniform = mask.sum(1).to(told.dtype).log()[:, None, None]
    return (uniform - entropy)[mask[None, :, None, :].expand_as(entropy)][:, None]


def _add(moments: dict[str, _Variance], name: str, rows: Tensor) -> None:
    kind = _Mean if name == "relations" else _Variance
    moments.setdefault(name, kind()).add(rows.cpu())


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

    @property
    def mean(self) -> Tensor:
        return self._sum / self._count

    def unit(self) -> float:
        """The mean variance over columns."""
        variance = self._squares / self._count - self.mean.square()
        return float(variance.mean())


class _Mean(_Variance):
    """The mean of all rows seen: a divergence is its own unit."""

    def unit(self) -> float:
        """The mean over columns."""
        return float(self.mean.mean())
