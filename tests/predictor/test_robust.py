from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from predictor.regressors import CorrectedRegressor, CostTermRegressor
from predictor.robust import believed, deviation, far_off
from supernet.architecture import IntMatrix, to_matrix
from supernet.cost import flops
from supernet.space import kd_space


def rows(count: int, seed: int) -> tuple[IntMatrix, npt.NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    shapes = to_matrix(kd_space().sample(rng, count))
    true = flops(shapes) / 9e7 + 0.03 * shapes[:, 0] + 0.1
    return shapes, np.asarray(true * np.exp(rng.normal(0, 0.007, count)), dtype=np.float64)


@pytest.mark.parametrize("count", [60, 150])
@pytest.mark.parametrize("model", [CostTermRegressor, CorrectedRegressor])
def test_a_tenth_of_the_rows_30_percent_too_slow_hardly_matters(
    count: int, model: type[CostTermRegressor] | type[CorrectedRegressor]
) -> None:
    test, true_ms = rows(400, 99)
    ratios = []
    for seed in range(8):
        shapes, latency_ms = rows(count, seed)
        clean = np.abs(model.fit(shapes, latency_ms).predict(test) / true_ms - 1).mean()
        spoilt = latency_ms.copy()
        spoilt[np.random.default_rng(seed).choice(count, count // 10, replace=False)] *= 1.3
        bent = np.abs(model.fit(shapes, spoilt).predict(test) / true_ms - 1).mean()
        ratios.append(bent / clean)
    assert np.median(ratios) < 1.2


def test_the_rows_that_are_off_are_those_that_are_not_believed() -> None:
    shapes, latency_ms = rows(100, 0)
    bad = np.random.default_rng(1).choice(100, 10, replace=False)
    latency_ms[bad] *= 1.3
    _, kept = CostTermRegressor.fit_believed(shapes, latency_ms)
    assert np.flatnonzero(~kept).tolist() == sorted(bad.tolist())


def test_where_nothing_is_off_every_row_counts_alike() -> None:
    shapes, latency_ms = rows(100, 0)
    assert CostTermRegressor.fit_believed(shapes, latency_ms)[1].all()


def test_what_is_far_off_is_told_by_the_other_residuals() -> None:
    residuals = np.append(np.random.default_rng(0).normal(0, 0.01, 99), 0.3)
    assert np.flatnonzero(far_off(residuals)).tolist() == [99]
    assert deviation(residuals) == pytest.approx(0.01, rel=0.2)
    assert not far_off(np.zeros(5)).any()
    # With a large noise even 30 % may be chance.
    assert not far_off(np.append(np.random.default_rng(0).normal(0, 0.1, 99), 0.3)).any()


def test_a_fit_that_never_settles_still_ends() -> None:
    calls = 0

    def restless(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        nonlocal calls
        calls += 1
        residuals = np.full(len(weights), 0.001)
        residuals[calls % len(weights)] = 1.0
        return residuals

    assert believed(restless, 10).sum() == 9
    assert calls < 30
