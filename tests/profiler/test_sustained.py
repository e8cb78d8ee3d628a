"""Lasting loads on a fake clock, over the wire, and once on a real session for a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autotinybert.errors import InputError
from device_profiles.sustained import LoadSeries
from device_profiles.target import Configuration, Workload
from profiler.child import ChildWorker, local_command
from profiler.sustained import Load, run_load
from profiler.worker import answer
from supernet.architecture import Architecture

TINY = Configuration(Architecture(1, 128, 128, 12, 180), Workload(1, 8))


class Device:
    """A device with a clock of its own that gets slower while it works, as a phone does.

    Attributes:
        now_ns: its clock.
        heat_s: for how long it has been working without a rest.
        events: what happened, in order.
    """

    def __init__(self, *, run_ms: float = 20.0, throttles_after_s: float = 60.0) -> None:
        self.now_ns = 0
        self.heat_s = 0.0
        self.events: list[str] = []
        self._run_ms = run_ms
        self._throttles_after_s = throttles_after_s
        self._rng = np.random.default_rng(0)

    def clock(self) -> int:
        return self.now_ns

    def run(self) -> None:
        factor = 1.5 if self.heat_s > self._throttles_after_s else 1.0
        run_ms = self._run_ms * factor * (1 + 0.01 * self._rng.exponential())
        self.now_ns += int(run_ms * 1e6)
        self.heat_s += run_ms / 1e3
        self.events.append("run")

    def rest(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)
        self.heat_s = 0.0
        self.events.append(f"rest {seconds}")


def series_of(device: Device, load: Load) -> LoadSeries:
    return LoadSeries.from_json(run_load(device.run, load, device.clock, rest=device.rest))


def test_a_device_that_throttles_is_seen_to_do_so() -> None:
    series = series_of(Device(), Load(seconds=300, rest_s=30))
    summary = series.summary()
    assert summary.verdict == "throttles"
    assert summary.cold_ms == pytest.approx(20, rel=0.02)
    assert summary.sustained_ms == pytest.approx(30, rel=0.02)
    assert series.second == tuple(range(300))
    assert sum(series.runs) == pytest.approx(60 / 0.0202 + 240 * 2 / 3 * 50, rel=0.03)


def test_a_device_that_does_not_throttle_is_steady() -> None:
    summary = series_of(Device(throttles_after_s=1e9), Load(seconds=300, rest_s=0)).summary()
    assert summary.verdict == "steady"


def test_it_warms_up_then_rests_then_runs() -> None:
    device = Device()
    series_of(device, Load(seconds=1, rest_s=30))
    assert device.events[:5] == ["run", "run", "run", "rest 30", "run"]


def test_runs_of_many_seconds_end_after_the_time_is_up() -> None:
    series = series_of(Device(run_ms=7000.0), Load(seconds=20, rest_s=0))
    assert series.second == (0, 7, 14)
    assert series.runs == (1, 1, 1)


def test_steal_is_what_was_added_meanwhile() -> None:
    device = Device()
    readings = iter([100.0, 140.5])
    load = Load(seconds=1, rest_s=0)
    result = run_load(
        device.run, load, device.clock, rest=device.rest, steal_ms=lambda: next(readings)
    )
    assert result["steal_ms"] == 40.5


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"seconds": 10},
        {"seconds": 10, "rest_s": 0, "more": 1},
        {"seconds": 0, "rest_s": 0},
        {"seconds": 3601, "rest_s": 0},
        {"seconds": 1.5, "rest_s": 0},
        {"seconds": True, "rest_s": 0},
        {"seconds": 10, "rest_s": -1},
        {"seconds": 10, "rest_s": 601},
    ],
)
def test_a_load_out_of_bounds_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"^load: "):
        Load.from_json(value)
    request = {"type": "sustained", "id": 1, "configuration": TINY.to_json(), "load": value}
    reply = answer(json.dumps(request).encode(), lambda _: lambda: None, lambda: 0)
    assert reply["type"] == "refused"


def test_a_configuration_that_cannot_be_opened_is_a_failure() -> None:
    def broken(_: Configuration) -> Callable[[], object]:
        raise MemoryError("no room")

    load = Load(seconds=1, rest_s=0).to_json()
    request: dict[str, Any] = {"type": "sustained", "id": 1, "configuration": TINY.to_json()}
    reply = answer(json.dumps({**request, "load": load}).encode(), broken, lambda: 0)
    assert reply == {"type": "failure", "id": 1, "error": "MemoryError: no room"}


def test_a_real_child_is_under_load_for_a_second() -> None:
    worker = ChildWorker(local_command())
    try:
        series = LoadSeries.from_json(worker.sustained(TINY, Load(seconds=1, rest_s=0)))
    finally:
        worker.close()
    assert series.second == (0,)
    assert series.runs[0] >= 1
    assert series.summary().verdict == "undecided"
