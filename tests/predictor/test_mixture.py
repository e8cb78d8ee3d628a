from __future__ import annotations

import numpy as np
import pytest

from predictor.mixture import mixture_mean, mixture_percentile

TABLE = [
    # weights, statistics of each part, share, milliseconds
    ([1.0], [{"quiet": 1.0, "p50": 2.0}], 0.5, 2.0),
    ([1.0], [{"quiet": 1.0, "p50": 2.0}], 0.25, 1.5),
    ([1.0], [{"quiet": 1.0, "p50": 2.0, "p95": 4.0}], 0.95, 4.0),
    # Nine short texts for each long one: the slowest 5 % are half of the long ones.
    ([9.0, 1.0], [{"quiet": 1.0, "p50": 1.1}, {"quiet": 10.0, "p50": 11.0}], 0.95, 11.0),
    # One in a hundred is long: the slowest 5 % are short ones, too.
    ([99.0, 1.0], [{"quiet": 1.0, "p50": 2.0}, {"quiet": 10.0, "p50": 11.0}], 0.95, 2.0),
    # Two parts alike are one.
    ([3.0, 5.0], [{"quiet": 1.0, "p50": 2.0, "p90": 3.0}] * 2, 0.7, 2.5),
]


@pytest.mark.parametrize(("weights", "parts", "share", "expected"), TABLE)
def test_a_percentile_is_of_all_runs_together(
    weights: list[float], parts: list[dict[str, float]], share: float, expected: float
) -> None:
    statistics = [{name: np.array([value]) for name, value in part.items()} for part in parts]
    (found,) = mixture_percentile(np.array(weights), statistics, share)
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_mean_weighs_each_part() -> None:
    medians = np.array([[1.0, 2.0], [10.0, 20.0]])
    np.testing.assert_allclose(mixture_mean(np.array([9.0, 1.0]), medians), [1.9, 3.8])


def test_simulated_runs_have_the_percentile() -> None:
    rng = np.random.default_rng(0)
    parts = []
    runs = []
    for low, high, count in ((1.0, 2.0, 6000), (3.0, 7.0, 3000), (6.0, 20.0, 1000)):
        of_part = rng.uniform(low, high, count)
        runs.append(of_part)
        named = {f"p{p}": np.percentile(of_part, [p]) for p in (50, 90, 95, 99)}
        parts.append({"quiet": np.array([of_part.min()]), **named})
    weights = np.array([len(of_part) for of_part in runs], dtype=float)
    (found,) = mixture_percentile(weights, parts, 0.95)
    assert found == pytest.approx(np.percentile(np.concatenate(runs), 95), rel=0.01)
