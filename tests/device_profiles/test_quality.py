from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.quality import (
    FloatVector,
    IntVector,
    block_factors,
    judge,
    percentiles,
    quiet_latency,
    samples_needed,
)

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
    found = percentiles(list(range(1, 101)))
    assert found[50] == 50.5
    assert found[90] == pytest.approx(90.1)
    assert found[95] is None
    assert found[99] is None
    assert set(percentiles([]).values()) == {None}


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


@pytest.mark.parametrize(
    ("minima", "verdict", "reason"),
    [
        ([10, 10.1, 12, 15], "ok", ""),
        ([10, 10.25, 12, 15], "ok", ""),
        ([10, 10.4, 10.4, 10.4], "noisy", "two fastest visits differ by 4.0%"),
        ([10, 10, 10], "rejected", "3 of 4 visits accepted: give the campaign more time"),
        ([], "rejected", "0 of 4"),
    ],
)
def test_verdict_asks_that_the_quiet_state_was_seen_twice(
    minima: list[float], verdict: str, reason: str
) -> None:
    judgement = judge(minima, visits=4, agreement=0.03)
    assert judgement.verdict == verdict
    assert reason in judgement.reason


def test_a_row_rejected_for_slow_blocks_says_so() -> None:
    judgement = judge([10.0], visits=4, agreement=0.03, rejected_visits=3)
    assert "3 fell into slow blocks: stop other work" in judgement.reason


def test_one_visit_is_enough_where_the_protocol_asks_for_one() -> None:
    assert judge([10.0], visits=1, agreement=0.03).verdict == "ok"
    assert math.isclose(quiet_latency([10.0], 1), 10.0)
