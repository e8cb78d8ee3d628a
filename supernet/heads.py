"""`Head`: what stands on an encoder and answers a task, as plain arrays.

Three kinds, each named and shaped as in the Hugging Face class that has it, so that a head and an
encoder together are the weights of that class:

- `classification` and `regression`, `BertForSequenceClassification`: a pooler (linear and tanh) on
  the first token, then a linear layer; `pooler.dense.*`, `classifier.*`
- `span`, `BertForQuestionAnswering`: a linear layer on every token; `qa_outputs.*`

Shape letters: d hidden size, n number of labels (1 for a regression, 2 for a span: start and end).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from autotinybert.errors import InputError
from autotinybert.values import items, mapping, text
from supernet.architecture import Architecture
from supernet.weights import FloatArray

HeadKind = Literal["classification", "regression", "span"]
HEAD_KINDS: tuple[HeadKind, ...] = get_args(HeadKind)


# Of the two outputs of a span head.
SPAN_LABELS = ("start", "end")


def head_kind(value: object) -> HeadKind:
    """A kind of head, as a file names it.

    Raises:
        InputError: if there is no such kind.
    """
    for kind in HEAD_KINDS:
        if kind == value:
            return kind
    raise InputError(f"no head {value!r}: use {', '.join(HEAD_KINDS)}")


def head_shapes(kind: HeadKind, hidden_size: int, num_labels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a head's weights; linear weights are `[out, in]`."""
    d, n = hidden_size, num_labels
    if kind == "span":
        return {"qa_outputs.weight": (n, d), "qa_outputs.bias": (n,)}
    return {
        "pooler.dense.weight": (d, d),
        "pooler.dense.bias": (d,),
        "classifier.weight": (n, d),
        "classifier.bias": (n,),
    }


@dataclass(frozen=True, eq=False)
class Head:
    """A task's head.

    Attributes:
        kind: what it answers.
        labels: the name of each output, in the order of the logits.
        weights: float32, exactly the names of `head_shapes`.

    Raises:
        InputError: if the kind is unknown, the labels do not fit it, or a weight is missing,
            unknown, of another shape or type, or not finite.
    """

    kind: HeadKind
    labels: tuple[str, ...]
    weights: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        head_kind(self.kind)
        fitting = {"classification": len(self.labels) >= 2, "regression": len(self.labels) == 1}
        if not fitting.get(self.kind, self.labels == SPAN_LABELS):
            raise InputError(f"a {self.kind} head cannot have the labels {list(self.labels)}")
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"a head has labels of one name: {list(self.labels)}")
        shapes = head_shapes(self.kind, self.hidden_size, len(self.labels))
        if set(shapes) != set(self.weights):
            raise InputError(
                f"a {self.kind} head has the weights {sorted(shapes)}, not {sorted(self.weights)}"
            )
        for name, shape in shapes.items():
            value = self.weights[name]
            if value.shape != shape or value.dtype != np.float32:
                raise InputError(
                    f"weight {name} of the head is {value.dtype} {list(value.shape)}: it must be "
                    f"float32 {list(shape)}"
                )
            if not np.isfinite(value).all():
                raise InputError(f"weight {name} of the head holds values that are not finite")

    @property
    def hidden_size(self) -> int:
        """The hidden size that it reads."""
        name = "qa_outputs.weight" if self.kind == "span" else "classifier.weight"
        value = self.weights.get(name)
        return value.shape[1] if value is not None and value.ndim == 2 else 0


def check_head_fits(head: Head, architecture: Architecture) -> None:
    """Checks that a head reads what an encoder of this shape puts out.

    Raises:
        InputError: if it reads another hidden size.
    """
    if head.hidden_size != architecture.hidden_size:
        raise InputError(f"a head for hidden size {head.hidden_size} does not fit {architecture}")


def head_to_json(head: Head | None) -> dict[str, Any] | None:
    """What a file says of a head: all but its weights."""
    return None if head is None else {"kind": head.kind, "labels": list(head.labels)}


def head_from_json(document: object) -> tuple[HeadKind | None, tuple[str, ...]]:
    """Kind and labels of a head; None and none where there is none.

    Raises:
        LookupError: if one is missing.
        ValueError: if one is not what it should be.
    """
    if document is None:
        return None, ()
    found = mapping(document)
    return head_kind(found["kind"]), tuple(items(found["labels"], text))
