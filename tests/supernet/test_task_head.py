from __future__ import annotations

import numpy as np
import pytest
import torch

from autotinybert.errors import InputError
from supernet.heads import Head, HeadKind, head_shapes
from supernet.task_head import TaskHead

LABELS = {"classification": ("no", "yes", "maybe"), "regression": ("score",)}


@pytest.mark.parametrize("kind", ["classification", "regression", "span"])
def test_head_of_a_slice_is_its_part_of_the_head_as_a_head_of_its_own(kind: HeadKind) -> None:
    whole = TaskHead(kind, 24, LABELS.get(kind, ("start", "end")))
    whole.initialise(torch.Generator().manual_seed(0), 0.3)
    hidden = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1))
    own = TaskHead.from_head(whole.extract(16))
    torch.testing.assert_close(own(hidden), whole(hidden))
    assert whole(hidden).shape[-1] == len(whole.labels)


def test_head_of_a_classifier_reads_the_first_token_alone() -> None:
    head = TaskHead("classification", 8, ("no", "yes"))
    hidden = torch.randn(2, 4, 8)
    moved = hidden.clone()
    moved[:, 1:] += 1
    assert torch.equal(head(hidden), head(moved))


@pytest.mark.parametrize(
    ("kind", "labels", "told"),
    [
        ("classification", ("one",), "cannot have the labels"),
        ("classification", ("one", "one"), "of one name"),
        ("regression", ("a", "b"), "cannot have the labels"),
        ("span", ("a", "b"), "cannot have the labels"),
        ("token", ("a", "b"), "no head 'token'"),
    ],
)
def test_head_refuses_labels_that_do_not_fit_its_kind(
    kind: HeadKind, labels: tuple[str, ...], told: str
) -> None:
    shapes = {"classifier.weight": (len(labels), 4)}
    weights = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    with pytest.raises(InputError, match=told):
        Head(kind, labels, weights)


def test_head_refuses_weights_of_another_shape_and_values_that_are_not_finite() -> None:
    shapes = head_shapes("classification", 4, 2)
    weights = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    with pytest.raises(InputError, match="pooler"):
        Head("classification", ("a", "b"), {**weights, "pooler.dense.bias": np.zeros(3, "f4")})
    with pytest.raises(InputError, match="not finite"):
        Head("classification", ("a", "b"), {**weights, "classifier.bias": np.full(2, np.nan, "f4")})
