"""What precision and padded heads change."""

from __future__ import annotations

import numpy as np
import pytest

from predictor.features import CACHE_STEPS, COST_TERMS, cost_terms
from predictor.transfer import fit_transfer
from predictor.transfer_changes import CHANGES, Change
from predictor.transfer_prior import GROUPS, Composition, FloatVector, group_sums
from predictor.transfer_shapes import choose_transfer_shapes
from supernet.architecture import IntMatrix, to_matrix
from supernet.space import kd_space


def sample(count: int, seed: int) -> IntMatrix:
    space = kd_space()
    return to_matrix([*space.corners(), *space.space_filling(np.random.default_rng(seed), count)])


TYPICAL = sample(120, 0)
UNSEEN = sample(100, 1)
CACHE = CACHE_STEPS[2]


def device_ms(architectures: IntMatrix, prices: dict[str, float]) -> FloatVector:
    latency_ms: FloatVector = cost_terms(architectures) @ np.array(
        [prices.get(term, 0.0) for term in COST_TERMS]
    )
    return latency_ms


FP32 = {
    "L*d*q": 1.2e-5,
    "L*d*f": 5e-6,
    f"weights>{CACHE}": 4e-7,
    "L*q": 4e-4,
    "L*f": 1e-4,
    "L*d": 3e-4,
    "L": 0.03,
}
INT8 = {
    **FP32,
    "L*d*q": 3e-6,
    "L*d*f": 1.25e-6,
    f"weights>{CACHE}": 0.0,
    f"weights>{4 * CACHE}": 1e-7,
}
PADDED = {**FP32, "L*d*q": 0.0, "L*h*a16*d16": 1.2e-5}
KNOWN_MS = {"known": device_ms(TYPICAL, FP32)}
KNOWN = Composition.of("known", TYPICAL, KNOWN_MS["known"])


def parts(composition: Composition) -> dict[str, float]:
    sums = group_sums(composition.contributions)
    return dict(zip(GROUPS, sums.tolist(), strict=True))


def test_changes_are_there_both_ways_and_nothing_may_have_changed() -> None:
    assert {(change.products, change.heads) for change in CHANGES} >= {
        (1.0, "as they are"),
        (0.25, "as they are"),
        (4.0, "as they are"),
        (1.0, "padded"),
        (1.0, "exact"),
    }
    (same,) = (c for c in CHANGES if (c.products, c.heads, c.kinds) == (1.0, "as they are", 0.2))
    changed = same.of(KNOWN)
    np.testing.assert_array_equal(changed.contributions, KNOWN.contributions)
    np.testing.assert_array_equal(changed.covariance, KNOWN.covariance)


def test_a_lower_precision_costs_a_quarter_and_four_times_the_weights_fit_a_cache() -> None:
    changed = Change(0.25, "as they are", 0.3).of(KNOWN)
    before, after = parts(KNOWN), parts(changed)
    assert after["FFN"] == pytest.approx(before["FFN"] / 4)
    assert after["projections"] == pytest.approx(before["projections"] / 4)
    assert after["scores"] == pytest.approx(before["scores"])
    prices = dict(zip(COST_TERMS, changed.contributions * changed.scales, strict=True))
    known = dict(zip(COST_TERMS, KNOWN.contributions * KNOWN.scales, strict=True))
    for step in CACHE_STEPS[:-2]:
        assert prices[f"weights>{4 * step}"] == pytest.approx(known[f"weights>{step}"] / 4)
    assert prices[f"weights>{CACHE_STEPS[0]}"] == 0


@pytest.mark.parametrize("heads", ["padded", "exact"])
def test_heads_move_the_projections_and_nothing_else(heads: str) -> None:
    (change,) = (c for c in CHANGES if (c.products, c.heads, c.kinds) == (1.0, heads, 0.2))
    assert parts(change.of(KNOWN)) == pytest.approx(parts(KNOWN))
    padded = change.of(KNOWN).contributions[COST_TERMS.index("L*h*a16*d16")]
    assert padded == pytest.approx(parts(KNOWN)["projections"] if heads == "padded" else 0)


def test_a_changed_device_keeps_a_covariance() -> None:
    for change in CHANGES:
        covariance = change.of(KNOWN).covariance
        np.testing.assert_allclose(covariance, covariance.T, atol=1e-15)
        assert np.linalg.eigvalsh(covariance).min() > -1e-12


def test_where_all_shapes_fit_a_cache_nothing_is_moved_from_or_to_it() -> None:
    small = TYPICAL[(TYPICAL[:, 0] <= 2) & (TYPICAL[:, 1] <= 300)]
    known = Composition.of("known", small, device_ms(small, FP32))
    for change in CHANGES:
        changed = change.of(known)
        assert np.isfinite(changed.covariance).all()
        assert np.abs(changed.covariance).max() < 16


@pytest.mark.parametrize(("prices", "count"), [(INT8, 3), (PADDED, 5)])
def test_a_known_change_is_found_from_a_handful(prices: dict[str, float], count: int) -> None:
    shapes = choose_transfer_shapes(KNOWN_MS, TYPICAL, count)
    found = fit_transfer(KNOWN_MS, TYPICAL, shapes, device_ms(shapes, prices))
    truth = device_ms(UNSEEN, prices)
    assert found.resembles
    assert np.abs(found.fit.predict(UNSEEN) / truth - 1).mean() < 0.03
