"""A new device from a handful of shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from autotinybert.errors import InputError
from device_profiles.measurements import architecture_columns
from device_profiles.table import read_table
from predictor.features import COST_TERMS, cost_terms
from predictor.regressors import CostTermRegressor
from predictor.transfer import Transfer, fit_transfer
from predictor.transfer_prior import GROUPS, Composition, group_of, group_sums
from predictor.transfer_shapes import choose_transfer_shapes, write_shapes
from supernet.architecture import IntMatrix, to_matrix
from supernet.space import kd_space

FloatVector = npt.NDArray[np.float64]

# Milliseconds for a unit of each term, near those of a real CPU.
PRICES = {
    "L*d*q": 1.2e-5,
    "L*d*f": 5e-6,
    "L*q": 4e-4,
    "L*h": 8e-3,
    "L*f": 1e-4,
    "L*d": 3e-4,
    "L": 0.03,
    "1": 0.05,
}


def sample(count: int, seed: int) -> IntMatrix:
    return to_matrix(kd_space().space_filling(np.random.default_rng(seed), count))


TYPICAL = sample(120, 0)
UNSEEN = sample(100, 1)


def device_ms(
    architectures: IntMatrix, factors: dict[str, float] | None = None, noise: float = 0.0
) -> FloatVector:
    """A device whose groups cost other multiples than 1; its noise is the same every time."""
    prices = [
        PRICES.get(term, 0.0) * (factors or {}).get(group_of(term), 1.0) for term in COST_TERMS
    ]
    scatter = np.random.default_rng(len(architectures)).normal(size=len(architectures))
    latency_ms: FloatVector = cost_terms(architectures) @ np.array(prices) * (1 + noise * scatter)
    return latency_ms


KNOWN = {"known": device_ms(TYPICAL)}

# Products four times as fast, all else as it was: what int8 does.
INT8 = {"projections": 0.25, "FFN": 0.25, "weights": 0.25}


def transfer(count: int, factors: dict[str, float], noise: float = 0.01) -> Transfer:
    shapes = choose_transfer_shapes(KNOWN, TYPICAL, count)
    return fit_transfer(KNOWN, TYPICAL, shapes, device_ms(shapes, factors, noise))


def error(found: Transfer, factors: dict[str, float]) -> float:
    truth = device_ms(UNSEEN, factors)
    return float(np.abs(found.fit.predict(UNSEEN) / truth - 1).mean())


def test_every_cost_term_belongs_to_a_group() -> None:
    assert {group_of(term) for term in COST_TERMS} <= set(GROUPS)
    assert group_of("weights>1024") == "weights"
    with pytest.raises(KeyError):
        group_of("gold")


def test_a_known_device_is_taken_apart_into_what_it_spends_its_time_on() -> None:
    parts = Composition.of("known", TYPICAL, KNOWN["known"])
    predicted = cost_terms(UNSEEN) @ (parts.contributions * parts.scales)
    np.testing.assert_allclose(predicted, device_ms(UNSEEN), rtol=0.02)
    shares = dict(zip(GROUPS, group_sums(parts.contributions).tolist(), strict=True))
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    prices = np.array([PRICES.get(term, 0.0) for term in COST_TERMS])
    truth = group_sums((cost_terms(TYPICAL) * prices / KNOWN["known"][:, None]).mean(axis=0))
    for name, share in zip(GROUPS, truth.tolist(), strict=True):
        assert shares[name] == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("factor", [0.01, 0.4, 30.0])
def test_the_same_device_at_another_clock_is_known_from_three_shapes(factor: float) -> None:
    same = dict.fromkeys(GROUPS, factor)
    found = transfer(3, same, noise=0.0)
    assert error(found, same) < 0.02
    assert found.resembles
    assert "it resembles known" in found.verdict
    assert min(found.factors.values()) > 0.8 * factor
    assert max(found.factors.values()) < 1.2 * factor


def test_what_another_precision_changes_is_recovered_part_by_part() -> None:
    found = transfer(5, INT8)
    assert found.factors["FFN"] == pytest.approx(0.25, rel=0.2)
    assert found.factors["projections"] == pytest.approx(0.25, rel=0.2)
    assert found.factors["scores"] == pytest.approx(1, rel=0.3)
    assert found.resembles


@pytest.mark.parametrize(("count", "most"), [(3, 0.04), (5, 0.03), (10, 0.02)])
def test_another_precision_is_known_from_a_handful(count: int, most: float) -> None:
    assert error(transfer(count, INT8), INT8) < most


@pytest.mark.parametrize("count", [5, 10])
def test_a_transfer_beats_the_same_terms_fitted_to_the_same_rows_alone(count: int) -> None:
    errors = np.zeros(2)
    for seed in range(10):
        rows = sample(count, 100 + seed)
        latency_ms = device_ms(rows, INT8, noise=0.01)
        fits = (
            fit_transfer(KNOWN, TYPICAL, rows, latency_ms).fit,
            CostTermRegressor.fit(rows, latency_ms),
        )
        errors += [np.abs(f.predict(UNSEEN) / device_ms(UNSEEN, INT8) - 1).mean() for f in fits]
    assert errors[0] < 0.8 * errors[1]


def test_with_many_rows_it_is_about_the_plain_fit() -> None:
    rows = sample(80, 7)
    # Nothing like the known device: the products cost nothing.
    other = {**dict.fromkeys(GROUPS, 1.0), "projections": 0.0, "FFN": 0.0}
    latency_ms = device_ms(rows, other, noise=0.01)
    found = fit_transfer(KNOWN, TYPICAL, rows, latency_ms)
    plain = CostTermRegressor.fit(rows, latency_ms).predict(UNSEEN)
    truth = device_ms(UNSEEN, other)
    assert error(found, other) < 1.2 * np.abs(plain / truth - 1).mean() + 0.002


def test_the_known_device_that_resembles_is_found_among_others() -> None:
    known = {
        "slow products": device_ms(TYPICAL, {"projections": 5.0, "FFN": 9.0}),
        "int8": device_ms(TYPICAL, INT8),
        "no scores": device_ms(TYPICAL, {"scores": 0.0, "layer overhead": 5.0}),
    }
    shapes = choose_transfer_shapes(known, TYPICAL, 5)
    found = fit_transfer(known, TYPICAL, shapes, 3 * device_ms(shapes, INT8, noise=0.01))
    assert found.fit.known == "int8"


@pytest.mark.parametrize("count", [3, 5, 10])
@pytest.mark.parametrize("known", [KNOWN, {**KNOWN, "twice": 2 * KNOWN["known"]}])
def test_a_device_that_resembles_none_is_said_to(count: int, known: dict[str, FloatVector]) -> None:
    shapes = choose_transfer_shapes(known, TYPICAL, count)
    # Latency that no sum of these terms comes near: it falls with the width.
    latency_ms = 50.0 / shapes[:, 1] * np.where(shapes[:, 0] % 2, 1.0, 3.0)
    found = fit_transfer(known, TYPICAL, shapes, latency_ms)
    assert not found.resembles
    nobody = "known does not resemble this device" if len(known) == 1 else "no known device"
    assert nobody in found.verdict
    assert "measure 20 shapes or more" in found.verdict


def test_errors_of_shapes_left_out_are_told_where_they_say_something() -> None:
    few, more = transfer(3, INT8), transfer(8, INT8)
    assert few.mape is None
    assert few.plain_mape is None
    assert more.mape is not None
    assert more.plain_mape is not None
    assert 0 < more.mape < more.plain_mape
    assert f"left out are predicted within {more.mape:.1%}" in more.verdict


@pytest.mark.parametrize("count", [3, 4, 20])
def test_the_spread_is_of_the_size_of_the_error(count: int) -> None:
    found = transfer(count, INT8)
    assert 0.3 * error(found, INT8) < found.fit.spread < 0.2


def test_repeated_rows_of_a_shape_count_as_one_shape() -> None:
    shapes = choose_transfer_shapes(KNOWN, TYPICAL, 3)
    twice = np.concatenate([shapes, shapes])
    found = fit_transfer(KNOWN, TYPICAL, twice, device_ms(twice))
    assert found.rows == 6
    assert found.mape is None
    two = np.concatenate([shapes[:2], shapes[:2]])
    with pytest.raises(InputError, match="3 different shapes of the new device, not 2"):
        fit_transfer(KNOWN, TYPICAL, two, device_ms(two))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few_shapes_are_refused_in_one_line(rows: int) -> None:
    with pytest.raises(InputError, match=f"needs 3 different shapes .*, not {rows}: measure more"):
        fit_transfer(KNOWN, TYPICAL, TYPICAL[:rows], device_ms(TYPICAL[:rows]))


def test_shapes_that_hardly_differ_give_numbers_all_the_same() -> None:
    rows = np.array([[4, 256, 480 + 4 * step, 12, 192] for step in range(4)])
    found = fit_transfer(KNOWN, TYPICAL, rows, device_ms(rows, INT8))
    assert np.isfinite(found.fit.prices_ms).all()
    assert (found.fit.prices_ms >= 0).all()
    assert (found.fit.predict(UNSEEN) > 0).all()


def test_chosen_shapes_do_not_depend_on_chance_and_fewer_are_the_first_of_more() -> None:
    ten = choose_transfer_shapes(KNOWN, TYPICAL, 10)
    np.testing.assert_array_equal(ten, choose_transfer_shapes(KNOWN, TYPICAL, 10))
    np.testing.assert_array_equal(ten[:3], choose_transfer_shapes(KNOWN, TYPICAL, 3))
    assert len(np.unique(ten, axis=0)) == 10
    doubled = np.concatenate([TYPICAL, TYPICAL])
    both = choose_transfer_shapes({"known": device_ms(doubled)}, doubled, 10)
    assert len(np.unique(both, axis=0)) == 10


def test_three_chosen_shapes_tell_more_than_three_drawn_ones() -> None:
    drawn = []
    for seed in range(10):
        rows = TYPICAL[np.random.default_rng(seed).choice(len(TYPICAL), 3, replace=False)]
        found = fit_transfer(KNOWN, TYPICAL, rows, device_ms(rows, INT8, noise=0.01))
        drawn.append(error(found, INT8))
    assert error(transfer(3, INT8), INT8) < np.mean(drawn)


@pytest.mark.parametrize("count", [2, 121])
def test_a_number_of_shapes_that_cannot_be_chosen_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} shapes cannot be chosen"):
        choose_transfer_shapes(KNOWN, TYPICAL, count)


def test_without_a_known_device_there_is_nothing_to_transfer() -> None:
    with pytest.raises(InputError, match="no known device"):
        choose_transfer_shapes({}, TYPICAL, 3)
    with pytest.raises(InputError, match="no known device"):
        fit_transfer({}, TYPICAL, TYPICAL[:3], device_ms(TYPICAL[:3]))


def test_chosen_shapes_are_written_as_profiling_reads_them(tmp_path: Path) -> None:
    shapes = choose_transfer_shapes(KNOWN, TYPICAL, 5)
    write_shapes(tmp_path / "shapes.csv", shapes)
    read = architecture_columns(read_table(tmp_path / "shapes.csv"))
    np.testing.assert_array_equal(read, shapes)
