from __future__ import annotations

import math

import numpy as np
import pytest

from predictor.active import FEWEST_ROWS, choose_shapes, promised_error
from predictor.features import cost_terms
from predictor.regressors import CorrectedRegressor, CostTermRegressor
from supernet.architecture import IntMatrix, to_matrix
from supernet.space import kd_space

SPACE = kd_space()


def shapes(count: int, seed: int = 0) -> IntMatrix:
    return to_matrix(SPACE.space_filling(np.random.default_rng(seed), count))


def latency(architectures: IntMatrix) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    prices = np.zeros(cost_terms(architectures).shape[1])
    prices[[0, 1, 6, 8]] = 4e-6, 2e-6, 0.05, 0.2
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = cost_terms(architectures) @ prices
    return found


def mean_variance(known: IntMatrix, candidates: IntMatrix) -> float:
    """Of relative errors of a least-squares fit of the terms that `latency` has."""
    design = [
        cost_terms(rows)[:, [0, 1, 6, 8]] / latency(rows)[:, None] for rows in (known, candidates)
    ]
    scales = np.abs(design[1]).max(axis=0)
    known_rows, asked = design[0] / scales, design[1] / scales
    inverse = np.linalg.pinv(known_rows.T @ known_rows)
    return float(np.einsum("mk,kl,ml->m", asked, inverse, asked).mean())


def test_chosen_shapes_leave_less_variance_than_most_random_ones() -> None:
    candidates, start = shapes(150, 1), shapes(12)
    chosen = choose_shapes(start, latency(start), candidates, 8, CostTermRegressor.fit)
    assert len(set(chosen.tolist())) == 8
    by_choice = mean_variance(np.vstack([start, candidates[chosen]]), candidates)
    rng = np.random.default_rng(0)
    by_chance = [
        mean_variance(
            np.vstack([start, candidates[rng.choice(len(candidates), 8, replace=False)]]),
            candidates,
        )
        for _ in range(50)
    ]
    assert by_choice < np.quantile(by_chance, 0.1)


def test_a_batch_counts_on_its_own_members() -> None:
    # Two copies of every candidate: a choice that looked at each alone would take both.
    once, start = shapes(30, 1), shapes(12)
    order = np.argsort(once[:, 0], kind="stable")
    near = once[order].copy()
    near[:, 2] += 4  # another shape, which tells as good as the same
    candidates = np.vstack([once[order], near])
    chosen = choose_shapes(start, latency(start), candidates, 6, CostTermRegressor.fit)
    assert len(set((chosen % 30).tolist())) >= 5


def test_measured_shapes_and_those_that_are_not_free_are_not_chosen_again() -> None:
    candidates = shapes(20, 1)
    known = candidates[:12]
    chosen = choose_shapes(known, latency(known), candidates, 50, CostTermRegressor.fit)
    assert sorted(chosen.tolist()) == list(range(12, 20))
    free = np.zeros(20, dtype=np.bool_)
    free[[3, 15]] = True
    chosen = choose_shapes(known, latency(known), candidates, 50, CostTermRegressor.fit, free=free)
    assert sorted(chosen.tolist()) == [3, 15]


@pytest.mark.parametrize("noise", [0.01, 0.04])
def test_the_promise_is_near_the_error_on_fresh_shapes_and_seldom_below(noise: float) -> None:
    candidates, fresh = shapes(200, 1), shapes(200, 2)
    ratios = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        rows = candidates[rng.choice(200, 40, replace=False)]
        measured = latency(rows) * np.exp(noise * rng.standard_normal(len(rows)))
        promised = promised_error(rows, measured, candidates, CostTermRegressor.fit)
        predicted = CostTermRegressor.fit(rows, measured).predict(fresh)
        truth = latency(fresh) * np.exp(noise * rng.standard_normal(len(fresh)))
        ratios.append(float(np.abs(predicted / truth - 1).mean()) / promised)
    assert max(ratios) < 1.2
    assert 0.5 < np.median(ratios) < 1.05


def test_few_rows_promise_nothing_and_rows_outside_the_space_do_not_count() -> None:
    candidates = shapes(50, 1)
    few = candidates[: FEWEST_ROWS - 1]
    outside = few.copy()
    outside[:, 0] = 40
    rows = np.vstack([few, outside])
    assert promised_error(rows, latency(rows), candidates, CorrectedRegressor.fit) == math.inf
    rows = candidates[:FEWEST_ROWS]
    assert promised_error(rows, latency(rows), candidates, CorrectedRegressor.fit) < 1
