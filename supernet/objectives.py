"""What a SuperPLM and its slices are trained for: the interface of an objective.

An objective turns a batch into a lesson (what the teacher says of it, or which words are hidden),
and a slice's answer to it into the sums of its loss terms. A term's mean is its sum over its count;
sums and counts are kept apart so that batches of several processes add up to what one process would
have computed with all of them.

A slice may also be taught by the largest slice instead of the teacher (in-place distillation, Yu
and Huang, 2019): its own answer, as targets.

Shape letters: B batch size, S sequence length, k terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from autotinybert.values import integer, mapping, number, optional, text
from supernet.batch import Batch

if TYPE_CHECKING:
    from supernet.learner import Learner
    from supernet.model import EncoderOutput

ObjectiveName = Literal["kd", "mlm", "task"]
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)

AttentionLoss = Literal["scores", "relations"]
ATTENTION_LOSSES: tuple[AttentionLoss, ...] = get_args(AttentionLoss)


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """What decides an objective, besides the teacher: what is stored with a student.

    Attributes:
        name: `kd` distils the teacher's encoder, `task` its classifier as well; `mlm` is
            masked-language modelling.
        attention: what is compared of the attention, in distillation: scores head by head, or the
            relations of tokens (see `distillation`).
        relation_heads: heads that relations are computed in.
        units: what each term is divided by.
    """

    name: ObjectiveName
    attention: AttentionLoss | None = None
    relation_heads: int | None = None
    units: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "name": self.name,
            "attention": self.attention,
            "relation_heads": self.relation_heads,
            "units": dict(self.units),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ObjectiveSpec:
        """Reads it back.

        Raises:
            LookupError, TypeError, ValueError: if it is no such object.
        """
        name, attention = text(value["name"]), optional(value["attention"], text)
        if name not in OBJECTIVES or attention not in (None, *ATTENTION_LOSSES):
            raise ValueError(f"no objective {name!r} with {attention!r}")
        if (attention is None) != (name == "mlm"):
            raise ValueError(f"an objective {name} cannot compare {attention} of the attention")
        heads = optional(value["relation_heads"], lambda found: integer(found, lowest=1))
        if (heads is None) == (attention == "relations"):
            raise ValueError(f"{attention} of the attention, in {heads} relation heads")
        units = {
            text(term): number(unit, lowest=0) for term, unit in mapping(value["units"]).items()
        }
        terms = {"kd": {attention, "hidden"}, "task": {attention, "hidden", "logits"}, "mlm": set()}
        if set(units) != terms[name]:
            raise ValueError(f"an objective {name} has no terms {sorted(units)}")
        return cls(
            name=name,
            attention=attention,
            relation_heads=optional(
                value["relation_heads"], lambda found: integer(found, lowest=1)
            ),
            units=units,
        )


@dataclass(frozen=True)
class Lesson:
    """A batch and what is to be learnt from it.

    Attributes:
        batch: what the slice is given.
        counts: what each term is a mean over, float64 `[k]`.
        targets: the objective's own.
    """

    batch: Batch
    counts: Tensor
    targets: Any


class Objective(Protocol):
    """Turns batches into lessons, and answers into loss terms.

    Attributes:
        spec: what decides it.
        term_names: the names of its k terms.
        needs_scores: whether a slice must tell its last layer's attention scores.
        needs_parts: whether it must tell its last layer's queries, keys and values.
    """

    spec: ObjectiveSpec
    term_names: tuple[str, ...]
    needs_scores: bool
    needs_parts: bool

    def lesson(self, batch: Batch, number: int) -> Lesson:
        """What is to be learnt from a batch; always the same for the same batch and number."""

    def sums(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> dict[str, Tensor]:
        """The sum of each term by name, less those that the output does not tell."""

    def taught_by(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> Lesson:
        """The lesson with an answer in place of the targets: the larger slice teaches."""


def in_full(value: Tensor) -> Tensor:
    """A value in which sums over many can be taken: half precision becomes float32."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def masked_sum(values: Tensor, keep: Tensor) -> Tensor:
    """The sum of the values that are kept; both of one shape but for broadcasting."""
    return (values * keep.to(values.dtype)).sum()
