from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from predictor.metrics import accuracy, spearman


def test_errors_are_relative_to_the_measurement() -> None:
    found = accuracy(np.array([10.0, 20.0, 40.0, 100.0]), np.array([10.0, 20.8, 43.2, 50.0]))
    assert found.rows == 4
    assert found.mape == pytest.approx((0 + 0.04 + 0.08 + 0.5) / 4)
    assert found.within_5_percent == 0.5
    assert found.within_10_percent == 0.75
    assert found.worst == 0.5
    assert found.spearman == 1.0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=30))
def test_rank_correlation_equals_scipys_ties_included(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=np.float64).T
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert spearman(first, second) == 0.0
        return
    expected = scipy.stats.spearmanr(first, second).statistic
    assert spearman(first, second) == pytest.approx(expected, abs=1e-9)
