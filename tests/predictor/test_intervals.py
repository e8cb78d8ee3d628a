from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

from autotinybert.errors import InputError
from predictor.intervals import (
    BETWEEN_CAMPAIGNS,
    FEWEST_ROWS,
    Spread,
    campaign_levels,
    choose_ignorance,
    conformal_bounds,
    held_out_spreads,
    selection_bound,
)
from supernet.architecture import IntMatrix, to_matrix
from supernet.space import kd_space

FloatVector = npt.NDArray[np.float64]


@pytest.mark.parametrize("rows", [FEWEST_ROWS, 40, 200])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_bounds_cover_new_rows_as_often_as_they_promise(rows: int, shape: str) -> None:
    rng = np.random.default_rng(rows)
    draw = rng.normal if shape == "normal" else lambda size: rng.exponential(size=size)
    below = above = 0
    for _ in range(2000):
        low, high = conformal_bounds(np.asarray(draw(size=rows)))
        new = float(np.asarray(draw(size=1))[0])
        below += new < low
        above += new > high
    # 5 % at most on either side; with few rows the ranks make it a little less.
    assert below / 2000 < 0.065
    assert above / 2000 < 0.065
    assert (below + above) / 2000 > 0.05


def test_bounds_do_not_depend_on_order_and_scale_with_the_errors() -> None:
    errors = np.random.default_rng(0).normal(size=50)
    low, high = conformal_bounds(errors)
    assert conformal_bounds(errors[::-1]) == (low, high)
    assert conformal_bounds(2 * errors) == (2 * low, 2 * high)
    assert low < 0 < high


def test_too_few_rows_have_no_bounds() -> None:
    with pytest.raises(InputError, match="bounds need at least 19 rows, not 18"):
        conformal_bounds(np.zeros(18))


def shapes(count: int, seed: int = 0) -> IntMatrix:
    return to_matrix(kd_space().sample(np.random.default_rng(seed), count))


def test_bounds_are_wider_where_rows_are_few() -> None:
    middle = np.array([[4, 300, 800, 12, 396], [5, 400, 1200, 12, 420], [3, 350, 700, 12, 360]])
    corners = np.array([[1, 128, 128, 12, 180], [8, 768, 3072, 12, 768]])
    few, many = (Spread.fit(shapes(count), 3.0) for count in (20, 400))
    for spread in (few, many):
        assert spread.predict(middle).max() < spread.predict(corners).min()
    assert (few.predict(corners) > many.predict(corners)).all()
    assert Spread.fit(shapes(20), 0.0).predict(corners).tolist() == [1.0, 1.0]


def test_a_spread_is_the_square_root_of_one_plus_the_leverage() -> None:
    train, ridge = shapes(50), 0.1
    logs = np.log(train.astype(float))[:, [0, 1, 2, 4]]
    low, high = logs.min(axis=0), logs.max(axis=0)
    design = np.hstack([np.ones((50, 1)), (logs - (low + high) / 2) / ((high - low) / 2)])
    gram = design.T @ design + ridge * np.eye(5)
    leverage = np.einsum("nk,kl,nl->n", design, np.linalg.inv(gram), design)
    np.testing.assert_allclose(Spread.fit(train, 2.0).predict(train), np.sqrt(1 + 2 * leverage))


def test_ignorance_is_found_where_errors_grow_at_the_edge_and_not_elsewhere() -> None:
    train = shapes(300)
    folds = np.arange(300) % 10
    rng = np.random.default_rng(0)
    even = rng.normal(0, 0.01, 300)
    assert choose_ignorance(train, folds, even) <= 1.0
    growing = even * held_out_spreads(train, folds, 100.0)
    assert choose_ignorance(train, folds, growing) >= 3.0


def test_what_moves_a_whole_campaign_widens_the_bounds() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 0.005, 200)
    covered: dict[float, list[float]] = {0.0: [], 0.006: []}
    for between, shares in covered.items():
        low, high = conformal_bounds(errors, between=between)
        for _ in range(400):
            again = rng.normal(0, 0.005, 100) + rng.normal(0, 0.006)
            shares.append(float(((low <= again) & (again <= high)).mean()))
    assert np.mean(covered[0.0]) < 0.8
    assert 0.86 < np.mean(covered[0.006]) < 0.94


def test_the_bound_of_selected_rows_holds_where_the_usual_one_does_not() -> None:
    """Latency predicted too low lets a large shape in, so what is selected is off more often."""
    rng = np.random.default_rng(0)

    def campaign() -> tuple[IntMatrix, FloatVector, FloatVector]:
        found = shapes(300, int(rng.integers(1 << 30)))
        logs = np.log(found.astype(float))
        return found, logs[:, 0] + logs[:, 1] + 0.7 * logs[:, 2], rng.normal(0, 0.05, len(found))

    train, log_true, errors = campaign()
    _, high = conformal_bounds(errors)
    safe = selection_bound(train, log_true - errors, errors, np.ones(300), high, rng)
    assert safe >= high
    exceeded = {high: 0, safe: 0}
    searches = 3000
    for _ in range(searches // 10):
        found, log_true, errors = campaign()
        sizes = np.log(found.astype(float))
        sizes = (sizes - sizes.mean(axis=0)) / np.maximum(sizes.std(axis=0), 1e-9)
        for _ in range(10):
            quality = sizes @ rng.dirichlet(np.ones(5))
            budget = np.quantile(log_true, rng.uniform(0.1, 0.95))
            for bound in exceeded:
                feasible = np.flatnonzero(log_true - errors + bound <= budget)
                if len(feasible):
                    chosen = feasible[quality[feasible].argmax()]
                    exceeded[bound] += errors[chosen] > bound
    assert exceeded[safe] / searches < 0.07
    assert exceeded[safe] <= exceeded[high]


def test_a_spread_reads_back_and_what_is_none_is_refused() -> None:
    spread = Spread.fit(shapes(40), 1.0)
    value = json.loads(json.dumps(spread.to_json()))
    np.testing.assert_array_equal(
        Spread.from_json(value).predict(shapes(9, 1)), spread.predict(shapes(9, 1))
    )
    for change in (
        {"root": [[1.0]]},
        {"root": "long"},
        {"sizes": {"num_layers": [0, -1]}},
        {"root": [[1.0] * 5] * 5},
    ):
        with pytest.raises((ValueError, LookupError)):
            Spread.from_json({**value, **change})


def test_several_campaigns_tell_how_far_the_next_one_may_lie_off() -> None:
    rng = np.random.default_rng(0)
    campaigns = np.repeat(np.arange(30), 20)
    for deviation in (0.003, 0.03):
        true = rng.normal(0, deviation, 30)
        levels, found = campaign_levels(true[campaigns] + rng.normal(0, 0.005, 600), campaigns)
        assert found == pytest.approx(deviation, rel=0.5)
        assert np.abs(levels - true[campaigns]).max() < 0.006
    levels, found = campaign_levels(rng.normal(0.1, 0.005, 20), np.zeros(20, dtype=np.int64))
    assert (levels.tolist(), found) == ([0.0] * 20, BETWEEN_CAMPAIGNS)
