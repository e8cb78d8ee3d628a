from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotinybert.errors import InputError
from device_profiles.extras import lengths_document
from device_profiles.lengths import LENGTH_STEP, IntVector, LengthHistogram, choose_lengths


def counted(texts: dict[int, int], size: int = 513) -> IntVector:
    counts = np.zeros(size, dtype=np.int64)
    counts[list(texts)] = list(texts.values())
    return counts


def padded_tokens(counts: IntVector, lengths: list[int]) -> int:
    return sum(
        int(count) * min(length for length in lengths if length >= tokens)
        for tokens, count in enumerate(counts)
        if count
    )


@given(
    st.dictionaries(st.integers(1, 72), st.integers(1, 50), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_no_other_choice_of_lengths_pads_less(texts: dict[int, int], num_lengths: int) -> None:
    counts = counted(texts, 73)
    chosen = choose_lengths(counts, num_lengths)
    assert 1 <= len(chosen) <= num_lengths
    assert chosen == sorted(set(chosen))
    assert all(length % LENGTH_STEP == 0 for length in chosen)
    multiples = range(LENGTH_STEP, 80, LENGTH_STEP)
    best = min(
        padded_tokens(counts, list(others))
        for size in range(1, num_lengths + 1)
        for others in itertools.combinations(multiples, size)
        if others[-1] >= max(texts)
    )
    assert padded_tokens(counts, chosen) == best


@pytest.mark.parametrize(
    ("texts", "num_lengths", "expected"),
    [
        ({7: 1}, 4, [8]),
        ({512: 1}, 4, [512]),
        ({8: 5, 9: 5}, 1, [16]),
        ({8: 5, 9: 5}, 4, [8, 16]),
        ({16: 1000, 500: 1}, 2, [16, 504]),
        ({16: 1000, 24: 1000, 500: 1}, 2, [24, 504]),
    ],
)
def test_lengths_chosen_for_texts(
    texts: dict[int, int], num_lengths: int, expected: list[int]
) -> None:
    assert choose_lengths(counted(texts), num_lengths) == expected


def test_no_texts_have_no_lengths() -> None:
    with pytest.raises(InputError, match="no texts"):
        choose_lengths(counted({}), 4)


def test_a_histogram_says_how_texts_are_padded_and_reads_back() -> None:
    histogram = LengthHistogram.of_texts(
        counted({5: 60, 12: 30, 100: 9, 512: 1}), cut=1, num_lengths=3
    )
    assert histogram.counts == {16: 90, 104: 9, 512: 1}
    assert histogram.quantiles == {50: 5, 90: 12, 99: 100}
    assert histogram.texts == 100
    assert histogram.padding_share == pytest.approx(1 - 2072 / 2888)
    document = json.loads(json.dumps(histogram.to_json()))
    assert LengthHistogram.from_json(document) == histogram


def test_a_mean_weighs_each_length_by_its_texts_and_is_unknown_if_one_is() -> None:
    histogram = LengthHistogram.of_texts(counted({8: 3, 16: 1}), cut=0, num_lengths=2)
    assert histogram.mean({8: 1.0, 16: 5.0, 24: 99.0}) == 2.0
    assert histogram.mean({8: 1.0, 16: None}) is None
    assert histogram.mean({8: 1.0}) is None


def test_references_have_an_expected_latency_for_each_batch_size() -> None:
    histogram = LengthHistogram.of_texts(counted({8: 3, 16: 1}), cut=0, num_lengths=2)
    rows = [
        {
            **dict.fromkeys(("name", "model_id", "precision", "graph_variant", "provider"), "x"),
            "threads": 1,
            "batch_size": batch,
            "sequence_length": length,
            "latency_ms": float(batch * length),
            "p50_ms": None if length == 16 else 1.0,
        }
        for batch in (1, 2)
        for length in (8, 16)
    ]
    expected = lengths_document(histogram, rows)["expected"]
    assert [(row["batch_size"], row["mean_latency_ms"]) for row in expected] == [(1, 10), (2, 20)]
    assert [row["mean_p50_ms"] for row in expected] == [None, None]


GOOD = {"counts": {"8": 3, "16": 1}, "texts": 4, "tokens": 40, "cut": 0, "p50": 8, "p90": 16}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p99": None}, "a length must be an integer"),
        ({"counts": []}, "counts must be an object"),
        ({"counts": {}}, "name each length once, shortest first"),
        ({"counts": {"16": 1, "8": 3}}, "shortest first"),
        ({"counts": {"8": 0, "16": 1}}, "a count of texts must be an integer from 1"),
        ({"counts": {"8": 3, "520": 1}}, "a length must be an integer from 1 to 512"),
        ({"counts": {"8": 3, "x": 1}}, "'x' is no length"),
        ({"counts": {"8": 3, "9" * 400: 1}}, "is no length"),
        ({"tokens": 41}, "tokens must be an integer from 4 to 40"),
        ({"cut": 5}, "cut must be an integer from 0 to 4"),
        ({"cut": True}, "cut must be an integer"),
    ],
)
def test_what_is_no_histogram_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LengthHistogram.from_json({**GOOD, "p99": 16, **change})
    with pytest.raises(InputError, match="its keys are"):
        LengthHistogram.from_json(GOOD)
