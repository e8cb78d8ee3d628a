from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from autotinybert.errors import InputError
from device_profiles.sustained import LoadSeries, summarise

SECONDS = np.arange(300.0)
RUNS = np.full(300, 100.0)


def latencies(seed: int, slow_down: Any) -> Any:
    """Ten milliseconds with 1 % noise, times a slow-down second by second."""
    noise = 1 + 0.01 * np.random.default_rng(seed).exponential(size=len(SECONDS))
    return 10 * noise * slow_down


def ramp(begin_s: float, end_s: float, factor: float) -> Any:
    return 1 + (factor - 1) * np.clip((SECONDS - begin_s) / (end_s - begin_s), 0, 1)


THERMAL = ramp(40, 100, 1.4)
SAW = np.where((SECONDS > 60) & (SECONDS % 20 > 8), 1.5, 1.0)
NEIGHBOUR = np.where((SECONDS > 140) & (SECONDS < 230), 1.3, 1.0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("slow_down", "verdict"),
    [
        (np.ones(300), "steady"),
        (ramp(0, 300, 1.03), "steady"),
        (THERMAL, "throttles"),
        (ramp(100, 101, 1.1), "throttles"),
        (ramp(0, 300, 1.5), "throttles"),
        (SAW, "throttles"),
        (NEIGHBOUR, "unsteady"),
        (np.where(SECONDS < 30, 1.3, 1.0), "unsteady"),
    ],
    ids=["quiet", "slight", "thermal", "step", "ramp", "saw", "neighbour", "slow start"],
)
def test_throttling_is_told_from_other_slowness(seed: int, slow_down: Any, verdict: str) -> None:
    assert summarise(SECONDS, latencies(seed, slow_down), RUNS).verdict == verdict


def test_the_beginning_and_the_second_half_are_compared() -> None:
    summary = summarise(SECONDS, 10.0 * THERMAL, RUNS)
    assert (summary.cold_ms, summary.sustained_ms) == (10.0, 14.0)
    assert summary.ratio == pytest.approx(1.4)
    assert "40% slower than at the beginning, and it stays so" in summary.reason


def test_slow_runs_are_gathered_until_the_beginning_can_be_told() -> None:
    """One run every 2 s: the first five of them are the beginning, its first run an outlier."""
    latency = np.array([50.0, *[20.0] * 49])
    summary = summarise(np.arange(0.0, 100.0, 2.0), latency, np.ones(50))
    assert (summary.cold_ms, summary.verdict) == (20.0, "steady")


@pytest.mark.parametrize("second", [[0.0], [0.0, 1.0, 2.0], [0.0, 60.0, 120.0], list(range(45))])
def test_a_load_too_short_for_its_runs_decides_nothing(second: list[float]) -> None:
    latency = np.linspace(1, 3, len(second))
    summary = summarise(np.array(second), latency, np.full(len(second), 9.0))
    assert summary.verdict == "undecided"
    assert summary.reason == "too short to tell: give it more minutes"


GOOD = {"second": [0, 2], "median_ns": [5, 6], "runs": [1, 1], "steal_ms": None}


def test_a_series_reads_back() -> None:
    series = LoadSeries.from_json(GOOD)
    assert LoadSeries.from_json(json.loads(json.dumps(series.to_json()))) == series


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"second": []}, "of one length, and not empty"),
        ({"runs": [1]}, "of one length"),
        ({"runs": [0, 1]}, "integers from 1"),
        ({"median_ns": [5, 0]}, "integers from 1"),
        ({"median_ns": [5, 6.0]}, "integers from 1"),
        ({"median_ns": [5, 1 << 70]}, "integers from 1"),
        ({"second": [0, 0]}, "must rise"),
        ({"second": [0, 99999]}, "must rise, to less than 7200"),
        ({"second": "01"}, "second must be a list"),
        ({"runs": None}, "runs must be a list"),
        ({"steal_ms": "much"}, "steal_ms must be a number or null"),
    ],
)
def test_what_is_no_series_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LoadSeries.from_json({**GOOD, **change})
