from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.quality import (
    FloatVector,
    IntVector,
    block_factors,
    disturbance,
    is_throttling,
    label_deviation,
    percentiles,
    quiet_latency,
    samples_needed,
)
from device_profiles.verdicts import judge

latencies = st.lists(st.floats(0.1, 1000), min_size=1, max_size=9)


@given(latencies, st.integers(1, 9))
def test_label_is_the_mean_of_the_minima_of_all_subsets(minima: list[float], visits: int) -> None:
    if len(minima) < visits:
        with pytest.raises(ValueError, match=f"{visits} visits are needed"):
            quiet_latency(minima, visits)
        return
    brute = [min(subset) for subset in itertools.combinations(minima, visits)]
    assert quiet_latency(minima, visits) == pytest.approx(sum(brute) / len(brute))


def test_label_does_not_fall_with_the_number_of_visits_as_a_minimum_does() -> None:
    rng = np.random.default_rng(0)
    noise = 1 + rng.exponential(0.02, (4000, 12))
    few = np.mean([quiet_latency(row[:4].tolist(), 4) for row in noise])
    many = np.mean([quiet_latency(row.tolist(), 4) for row in noise])
    plain = noise.min(axis=1).mean()
    assert many == pytest.approx(few, abs=3e-4)
    assert few - plain > 3e-3


@pytest.mark.parametrize(("percentile", "runs"), [(50, 11), (90, 64), (95, 130), (99, 662)])
def test_percentiles_need_the_runs_of_the_loadgen_bound(percentile: int, runs: int) -> None:
    assert samples_needed(percentile) == runs
    share = percentile / 100
    chance_of_at_most_one_above = share**runs + runs * (1 - share) * share ** (runs - 1)
    assert chance_of_at_most_one_above <= 0.01


def test_percentiles_with_too_few_runs_are_none() -> None:
    found = percentiles(list(range(1, 101)), visits=4)
    assert found[50] == 50.5
    assert found[90] == pytest.approx(90.1)
    assert found[95] is None
    assert found[99] is None
    assert set(percentiles([], visits=0).values()) == {None}


def test_percentiles_of_runs_from_too_few_visits_are_none() -> None:
    assert set(percentiles(list(range(1, 1001)), visits=3).values()) == {None}
    assert None not in percentiles(list(range(1, 1001)), visits=4).values()


def quiet_campaign(
    rng: np.random.Generator, *, configurations: int, rounds: int, block_size: int
) -> tuple[IntVector, IntVector, FloatVector]:
    """A quiet campaign: configuration, block and minimum of every visit."""
    order = np.concatenate([rng.permutation(configurations) for _ in range(rounds)])
    blocks = np.arange(len(order)) // block_size
    truth = rng.uniform(1, 100, configurations)
    minima = truth[order] * (1 + 0.01 * rng.exponential(size=len(order)))
    return order, blocks, minima


def test_a_slow_block_stands_out_and_quiet_ones_do_not() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        order, blocks, minima = quiet_campaign(rng, configurations=60, rounds=4, block_size=20)
        minima[blocks == 5] *= 1.2
        factors = block_factors(order, blocks, minima)
        assert factors.pop(5) == pytest.approx(1.2, abs=0.03)
        assert max(factors.values()) < 1.04


def test_slow_blocks_stand_out_where_most_of_the_campaign_is_slow() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        order, blocks, minima = quiet_campaign(rng, configurations=60, rounds=4, block_size=20)
        slow = rng.permutation(12) < 8
        minima[slow[blocks]] *= 1.2
        factors = block_factors(order, blocks, minima)
        assert [factors[block] > 1.1 for block in range(12)] == slow.tolist()


def test_a_block_of_rows_that_had_one_lucky_visit_is_not_called_slow() -> None:
    rng = np.random.default_rng(0)
    order, blocks, minima = quiet_campaign(rng, configurations=60, rounds=4, block_size=20)
    lucky = np.arange(10)
    minima[:60][np.isin(order[:60], lucky)] *= 0.9
    again = np.concatenate([order, lucky]), np.concatenate([blocks, np.full(10, 12)])
    typical = [np.median(minima[order == configuration]) for configuration in lucky]
    factors = block_factors(*again, np.concatenate([minima, typical]))
    assert max(factors.values()) < 1.04


def test_blocks_that_cannot_be_compared_are_not_called_slow() -> None:
    one_round = np.arange(30)
    assert set(block_factors(one_round, one_round // 10, np.linspace(1, 30, 30)).values()) == {1.0}
    assert block_factors(np.array([], int), np.array([], int), np.array([])) == {}
    few = np.array([0, 1, 0, 1])
    assert block_factors(few, np.array([0, 0, 1, 1]), np.array([1.0, 1, 2, 2])) == {0: 1, 1: 1}


MILLISECOND = 1_000_000


@pytest.mark.parametrize(
    ("waited_ms", "steal_ms", "expected"),
    [
        (None, None, ""),
        (0, 0, ""),
        (2, 0, ""),
        (2.1, 0, "load"),
        (30, 10, "load"),  # one tick of the steal counter may be an old one
        (30, 20, "steal"),
        (30, 12, "load"),  # steal explains less than half of the waiting
        (0, 20, ""),  # another processor's: the thread waited for nothing
        (2, 20, ""),
        (2.1, 20, "steal"),
        (None, 20, "steal"),
    ],
)
def test_a_visit_is_disturbed_when_its_core_was_taken_for_more_than_a_share(
    waited_ms: float | None, steal_ms: float | None, expected: str
) -> None:
    waited_ns = None if waited_ms is None else int(waited_ms * MILLISECOND)
    told: dict[str, Any] = {"timed_ns": 100 * MILLISECOND, "steal_ms": steal_ms}
    assert disturbance(waited_ns=waited_ns, **told, most_waiting_share=0.02) == expected
    assert disturbance(waited_ns=waited_ns, **told, most_waiting_share=1.0) == ""


def test_throttling_is_slow_blocks_that_rise_with_time_or_within_visits() -> None:
    still = [0.0] * 12
    rising = [1.0, 1.0, 1.01, 1.02, 1.05, 1.06, 1.08, 1.1, 1.12, 1.15, 1.16, 1.2]
    assert is_throttling(rising, still, 1.04)
    here_and_there = [1.0, 1.2, 1.0, 1.0, 1.1, 1.01, 1.0, 1.0, 1.2, 1.0, 1.02, 1.0]
    assert not is_throttling(here_and_there, still, 1.04)
    hot = [0.08 if factor > 1.04 else 0.0 for factor in here_and_there]
    assert is_throttling(here_and_there, hot, 1.04)
    assert not is_throttling([1.0, 1.01, 1.02] * 4, [0.08] * 12, 1.04)
    assert not is_throttling([], [], 1.04)


def test_a_trend_is_not_seen_in_slow_blocks_at_random() -> None:
    rng = np.random.default_rng(0)
    found = [
        is_throttling((1 + 0.03 * rng.exponential(size=12)).tolist(), [0.0] * 12, 1.04)
        for _ in range(500)
    ]
    assert np.mean(found) < 0.005


def noise_of(rng: np.random.Generator, kind: str, rows: int) -> FloatVector:
    """Eight visits of each row, relative to the truth."""
    if kind == "weibull":  # re-test differences of a real machine fall with visits as these do
        scattered: FloatVector = 1 + 0.075 * rng.weibull(1.5, (rows, 8))
        return scattered
    slow_processes = rng.choice([0, 0.04], size=(rows, 8), p=[0.7, 0.3])
    two_modes: FloatVector = 1 + slow_processes + 0.02 * rng.exponential(size=(rows, 8))
    return two_modes


@pytest.mark.parametrize("kind", ["weibull", "two modes"])
def test_label_has_one_expectation_for_four_six_and_eight_visits_and_for_rows_revisited(
    kind: str,
) -> None:
    noise = noise_of(np.random.default_rng(0), kind, 6000)
    fixed = [
        np.mean([quiet_latency(row[:count].tolist(), 4) for row in noise]) for count in (4, 6, 8)
    ]
    assert np.ptp(fixed) < 1e-3
    # As a campaign does: six visits, then up to two more for rows that are not `ok`.
    labels = []
    for row in noise:
        count = 6
        while count < 8 and judge(row[:count].tolist(), visits=4, agreement=0.03).verdict != "ok":
            count += 1
        labels.append(quiet_latency(row[:count].tolist(), 4))
    assert np.mean(labels) == pytest.approx(fixed[0], abs=1e-3)


def test_six_visits_repeat_better_than_four_with_the_noise_of_a_real_machine() -> None:
    noise = noise_of(np.random.default_rng(1), "weibull", 8000)

    def differences(visits: int) -> FloatVector:
        labels = np.array([quiet_latency(row[:visits].tolist(), 4) for row in noise])
        apart: FloatVector = np.abs(labels[::2] / labels[1::2] - 1)
        return apart

    four, six = differences(4), differences(6)
    assert np.median(six) < 0.013 < np.median(four)
    assert np.quantile(six, 0.9) < 0.033 < np.quantile(four, 0.9)


def test_the_noise_of_a_label_is_told_by_its_own_visits() -> None:
    rng = np.random.default_rng(0)
    labels, told = [], []
    for _ in range(400):
        minima = (10 * (1 + rng.exponential(0.01, 10))).tolist()
        labels.append(quiet_latency(minima, 4))
        told.append(label_deviation(minima, 4))
    true = float(np.std(labels) / np.mean(labels))
    assert np.sqrt(np.mean(np.square(told))) == pytest.approx(true, rel=0.25)
    assert label_deviation([3.0] * 6, 4) == 0.0
    assert np.isnan(label_deviation([3.0] * 4, 4))
