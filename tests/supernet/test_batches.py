from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotinybert.errors import InputError
from supernet.batches import BatchOrder, Indices

LENGTHS = np.random.default_rng(0).integers(8, 65, size=5000)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 64), min_size=1, max_size=300),
    st.integers(1, 40),
    st.integers(0, 2**32),
    st.integers(0, 5),
)
def test_every_sequence_occurs_once_per_epoch(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    order = BatchOrder(lengths, batch_size=batch_size, seed=seed)
    first = epoch * order.steps_per_epoch
    batches = [order.indices(first + step) for step in range(order.steps_per_epoch)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert sum(len(batch) < batch_size for batch in batches) <= 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 16), st.integers(0, 40))
def test_a_stream_from_any_step_is_the_rest_of_an_unbroken_one(
    count: int, batch_size: int, step: int
) -> None:
    def stream(step: int, steps: int) -> list[Indices]:
        order = BatchOrder(LENGTHS[:count], batch_size=batch_size, seed=1)
        return [order.indices(step + index) for index in range(steps)]

    unbroken = stream(0, step + 20)
    for expected, found in zip(unbroken[step:], stream(step, 20), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_answers_do_not_depend_on_what_was_asked_before() -> None:
    order = BatchOrder(LENGTHS, batch_size=64, seed=3)
    steps = [0, 500, 3, 80, 79, 0]
    for step in steps:
        fresh = BatchOrder(LENGTHS, batch_size=64, seed=3)
        np.testing.assert_array_equal(order.indices(step), fresh.indices(step))


def test_epochs_and_seeds_differ() -> None:
    order = BatchOrder(LENGTHS, batch_size=64, seed=0)
    other = BatchOrder(LENGTHS, batch_size=64, seed=1)
    assert set(order.indices(0)) != set(order.indices(order.steps_per_epoch))
    assert set(order.indices(0)) != set(other.indices(0))


def test_batches_hold_similar_lengths_in_no_order_of_length() -> None:
    order = BatchOrder(LENGTHS, batch_size=32, seed=0)
    batches = [LENGTHS[order.indices(step)] for step in range(order.steps_per_epoch)]
    padded = sum(int(batch.max()) * len(batch) for batch in batches)
    assert padded < 1.06 * LENGTHS.sum()
    means = np.array([batch.mean() for batch in batches])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("lengths", "batch_size", "seed", "message"),
    [
        ([], 1, 0, "no sequence"),
        ([[1]], 1, 0, "no sequence"),
        ([1], 0, 0, "batch size 0"),
        ([1], 1, -1, "seed -1"),
    ],
)
def test_numbers_out_of_range_are_refused(
    lengths: list[int], batch_size: int, seed: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        BatchOrder(lengths, batch_size=batch_size, seed=seed)


def test_there_is_no_step_before_the_first() -> None:
    with pytest.raises(InputError, match="step -1"):
        BatchOrder([1], batch_size=1, seed=0).indices(-1)
