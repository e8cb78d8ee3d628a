from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from device_profiles.quality import quiet_latency
from search.confidence import speedup_lower_bound, upper_bound, value_of

VISITS, LABEL_VISITS = 8, 4
FloatVector = npt.NDArray[np.float64]

# Standard deviations between visits and within one, and the runs of a visit: where visits differ
# more than runs do, where they differ less, and visits of a few runs.
NOISES = [(0.02, 0.002, 12), (0.02, 0.01, 12), (0.005, 0.02, 40), (0.02, 0.02, 3)]


def lognormal(
    rng: np.random.Generator, between: float, within: float, *, runs: int, count: int = VISITS
) -> FloatVector:
    """Runs of some visits, `[count, runs]`."""
    noise = rng.normal(0, between, (count, 1)) + rng.normal(0, within, (count, runs))
    return np.exp(noise)


def skewed(rng: np.random.Generator, between: float, within: float, *, runs: int) -> FloatVector:
    """Runs that are never faster than a floor, `[VISITS, runs]`."""
    noise = rng.exponential(between, (VISITS, 1)) + rng.exponential(within, (VISITS, runs))
    return np.exp(noise)


def coverage(
    statistic: str, truth: float, samples: list[FloatVector], *, label_visits: int = LABEL_VISITS
) -> float:
    bounds = [upper_bound(statistic, list(s), label_visits=label_visits) for s in samples]
    return float(np.mean(np.array(bounds) >= truth))


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("statistic", ["quiet", "p50"])
def test_bounds_hold_about_as_often_as_they_say(
    statistic: str, noise: tuple[float, float, int]
) -> None:
    between, within, runs = noise
    rng = np.random.default_rng(0)
    truth = 1.0  # the median of all runs there could be
    if statistic == "quiet":
        many = lognormal(rng, between, within, runs=runs, count=80_000).min(axis=1)
        truth = float(many.reshape(-1, LABEL_VISITS).min(axis=1).mean())
    samples = [lognormal(rng, between, within, runs=runs) for _ in range(1000)]
    assert 0.91 <= coverage(statistic, truth, samples) <= 0.99


def test_the_bound_of_the_label_holds_where_the_noise_is_skewed() -> None:
    rng = np.random.default_rng(0)
    minima = np.exp(rng.exponential(0.02, 80_000) + rng.exponential(0.02, (80_000, 12)).min(axis=1))
    truth = float(minima.reshape(-1, LABEL_VISITS).min(axis=1).mean())
    samples = [skewed(rng, 0.02, 0.02, runs=12) for _ in range(1000)]
    assert coverage("quiet", truth, samples) >= 0.89


def test_a_p95_is_bounded_where_runs_differ_more_than_visits() -> None:
    rng = np.random.default_rng(0)
    truth = float(np.percentile(lognormal(rng, 0.005, 0.02, runs=40, count=20_000), 95))
    samples = [lognormal(rng, 0.005, 0.02, runs=40) for _ in range(500)]
    assert coverage("p95", truth, samples) >= 0.91


@pytest.mark.parametrize("statistic", ["quiet", "p50"])
def test_what_slows_both_sides_of_a_speed_up_cancels(statistic: str) -> None:
    rng = np.random.default_rng(0)
    bounds = []
    for _ in range(500):
        rounds = np.exp(rng.normal(0, 0.05, (VISITS, 1)))
        slow, fast = (scale * rounds * lognormal(rng, 0.01, 0.01, runs=12) for scale in (7.0, 1.0))
        bounds.append(
            speedup_lower_bound(statistic, list(slow), list(fast), label_visits=LABEL_VISITS)
        )
    assert 0.91 <= np.mean(np.array(bounds) <= 7.0) <= 0.995
    assert np.median(bounds) > 7 * 0.97  # the rounds' own 5 % would cost more than that


def test_values_are_those_that_a_profile_has() -> None:
    visits = [[3.0, 4.0, 5.0], [2.0, 4.0, 9.0], [6.0, 7.0, 8.0], [2.5, 4.0, 4.0], [4.0, 4.0, 4.0]]
    quiet = value_of("quiet", visits, label_visits=4)
    assert quiet == pytest.approx(quiet_latency([3.0, 2.0, 6.0, 2.5, 4.0], 4))
    assert value_of("p50", visits, label_visits=4) == pytest.approx(4.0)


def test_too_few_visits_or_runs_have_no_value() -> None:
    visits = [[1.0, 1.0, 1.0]] * 4
    assert value_of("quiet", visits[:3], label_visits=4) is None
    assert value_of("p50", [[1.0, 1.0]] * 4, label_visits=4) is None
    assert value_of("p95", visits, label_visits=4) is None


@pytest.mark.parametrize("statistic", ["quiet", "p50", "p95"])
def test_without_noise_the_bound_is_the_value(statistic: str) -> None:
    visits = [[2.0] * 20] * VISITS
    assert upper_bound(statistic, visits, label_visits=4) == pytest.approx(2.0)
    ratio = speedup_lower_bound(statistic, [[6.0] * 3] * VISITS, visits, label_visits=4)
    assert ratio == pytest.approx(3.0)
