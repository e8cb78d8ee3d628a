from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.drift_detection import recorded_noise, simulate
from device_profiles.drift import (
    find_drift,
    slow_stretches,
    slow_visits,
)
from device_profiles.journal import Journal
from device_profiles.protocol import Protocol
from device_profiles.quality import FloatVector
from device_profiles.segments import lag_one_autocorrelation
from device_profiles.target import Configuration, Target, Workload
from device_profiles.visits import CampaignRecord
from profiler.campaign import run_campaign
from profiler.plan import make_plan, sample_architectures
from supernet.space import kd_space

Noise = Callable[[np.random.Generator, int], FloatVector]

NOISES: dict[str, Noise] = {
    "normal": lambda rng, rows: rng.normal(size=rows),
    "skewed": lambda rng, rows: rng.exponential(size=rows),
    "heavy-tailed": lambda rng, rows: rng.lognormal(size=rows),
}


def stretched(residuals: FloatVector, first: int, rows: int, by: float = 0.2) -> FloatVector:
    """The residuals, with some consecutive rows too slow."""
    slow = residuals.copy()
    slow[first : first + rows] += np.log1p(by)
    return slow


@pytest.mark.parametrize("scale", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("noise", NOISES)
def test_series_without_drift_hold_no_stretch_whatever_the_noise(noise: str, scale: float) -> None:
    alarms = 0
    for seed in range(100):
        residuals = scale * NOISES[noise](np.random.default_rng(seed), 200)
        alarms += any(found.kind != "spike" for found in find_drift(residuals))
    assert alarms <= 1


@pytest.mark.parametrize(
    ("noise", "by"), [("normal", 0.2), ("normal", 0.09), ("skewed", 0.2), ("skewed", 0.09)]
)
def test_stretches_of_any_length_up_to_half_of_the_series_are_marked(noise: str, by: float) -> None:
    for rows in (6, 10, 25, 60, 100):
        for seed in range(10):
            rng = np.random.default_rng([seed, rows])
            first = int(rng.integers(0, 201 - rows))
            slow = slow_stretches(stretched(0.01 * NOISES[noise](rng, 200), first, rows, by))
            assert slow[first : first + rows].mean() >= 0.8
            assert slow.sum() - slow[first : first + rows].sum() <= 6


def test_most_of_a_series_may_be_slow() -> None:
    residuals = 0.01 * np.random.default_rng(0).normal(size=200)
    slow = slow_stretches(stretched(residuals, 0, 140))
    assert slow.tolist() == [True] * 140 + [False] * 60


def test_the_level_of_all_residuals_does_not_matter_and_nothing_is_drawn_at_random() -> None:
    residuals = stretched(0.02 * np.random.default_rng(1).normal(size=200), 50, 20)
    marked = slow_stretches(residuals)
    assert (marked == slow_stretches(residuals + 7.0)).all()
    assert (marked == slow_stretches(residuals)).all()
    assert not slow_stretches(-residuals)[50:70].any()


def test_a_ramp_is_told_from_a_step_and_its_ends_are_named() -> None:
    residuals = 0.005 * np.random.default_rng(2).normal(size=200)
    residuals[80:140] += np.linspace(0, np.log(1.25), 60)
    (ramp,) = find_drift(residuals)
    assert ramp.kind == "ramp"
    assert ramp.ends == pytest.approx(0.25, abs=0.03)
    assert ramp.begins < 0.08
    assert 80 <= ramp.first <= 100
    assert ramp.last == pytest.approx(139, abs=1)
    (step,) = find_drift(stretched(0.005 * np.random.default_rng(2).normal(size=200), 80, 60))
    assert (step.kind, step.first, step.last) == ("slow stretch", 80, 139)
    assert step.excess == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("rows", [30, 200])
def test_a_row_on_its_own_is_a_spike_and_one_that_is_too_fast_is_not_called_slow(rows: int) -> None:
    residuals = 0.01 * np.random.default_rng(3).normal(size=rows)
    residuals[17] += np.log(1.5)
    residuals[25] -= np.log(1.5)
    assert [(found.kind, found.first) for found in find_drift(residuals)] == [
        ("spike", 17),
        ("spike", 25),
    ]
    assert np.flatnonzero(slow_stretches(residuals)).tolist() == [17]


@pytest.mark.parametrize(
    "residuals", [np.array([]), np.zeros(3), np.zeros(9), np.zeros(200), np.full(50, 2.0)]
)
def test_series_that_are_short_or_all_equal_hold_nothing(residuals: FloatVector) -> None:
    assert find_drift(residuals) == []


def test_a_residual_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        slow_stretches(np.array([0.0] * 20 + [np.nan]))


def test_neighbours_of_a_drifting_series_go_together() -> None:
    residuals = 0.02 * np.random.default_rng(4).normal(size=400)
    assert abs(lag_one_autocorrelation(residuals)) < 0.15
    assert lag_one_autocorrelation(stretched(residuals, 100, 150, by=0.3)) > 0.8
    assert lag_one_autocorrelation(np.zeros(10)) == 0.0


@pytest.mark.parametrize("kind", ["clean", "block of 10..60, +20 %", "ramp to +10..30 %"])
def test_drift_in_simulated_campaigns_with_real_noise_is_found_and_none_invented(kind: str) -> None:
    caught, marked, clean_marked = simulate(40, 1.0, kind, visits=True, noise=recorded_noise())
    assert (marked if kind == "clean" else 1 - caught) <= 0.03
    assert clean_marked < 0.01


def test_visits_that_fell_into_a_slow_time_of_a_device_are_marked(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    record, slow = slow_campaign(tmp_path, fake_device, range(300, 420))
    assert len(record.visits) >= 800
    assert slow[300:420].mean() >= 0.95
    assert slow.sum() - slow[300:420].sum() <= 5


def test_half_of_a_campaign_may_be_slow(tmp_path: Path, fake_device: Callable[..., Any]) -> None:
    _, slow = slow_campaign(tmp_path, fake_device, range(400))
    assert slow[:400].all()
    assert not slow[400:].any()


def slow_campaign(
    tmp_path: Path, fake_device: Callable[..., Any], slow: range
) -> tuple[CampaignRecord, Any]:
    """A campaign of 200 shapes on a device with real noise, some visits too slow; the marks."""
    noise = np.random.default_rng(5).choice(recorded_noise(), 2000)

    class Drifting(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            number = len(self.visited)
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            factor = np.exp(noise[number]) * (1.2 if number in slow else 1.0)
            return {**result, "runs_ns": [int(ns * factor) for ns in result["runs_ns"]]}

    device = Drifting(noise=0)
    shapes = sample_architectures(kd_space(), 200, 0)
    plan = make_plan(shapes, workloads=[Workload()], targets=[Target()], rivals=False, seed=0)
    with Journal(tmp_path / "journal") as journal:
        record = run_campaign(
            plan,
            Protocol(planned_visits=4, max_visits=4),
            journal,
            device.open,
            host=device.host,
            clock_s=device.clock_s,
        )
    return record, slow_visits(
        np.array([visit.configuration for visit in record.visits]),
        np.array([visit.minimum_ns for visit in record.visits], dtype=np.float64),
    )


def test_visits_that_cannot_be_compared_are_not_called_slow() -> None:
    assert slow_visits(np.array([], np.int64), np.array([])).tolist() == []
    once = np.arange(50)
    assert not slow_visits(once, np.geomspace(1, 9, 50)).any()


def test_a_configuration_visited_once_goes_with_the_visits_around_it() -> None:
    configuration = np.concatenate([np.arange(40), np.arange(40), [40]])
    configuration = np.insert(configuration[:-1], 20, 40)
    minima = 1.0 + configuration
    minima[10:30] *= 1.3
    slow = slow_visits(configuration, minima)
    assert configuration[20] == 40
    assert np.flatnonzero(slow).tolist() == list(range(10, 30))
