from __future__ import annotations

from collections.abc import Iterator

from device_profiles.protocol import Protocol
from profiler.timing import clock_probe, time_runs


class Machine:
    """A clock that only a run moves on, by the next of the given times; the last one repeats.

    The thread has the core for `core_share` of that.
    """

    def __init__(self, *runs_ns: int, core_share: float = 1.0) -> None:
        self._core_share = core_share
        self._times: Iterator[int] = iter(runs_ns)
        self._last = runs_ns[-1]
        self._now_ns = 1_000

    def run(self) -> None:
        self._now_ns += next(self._times, self._last)

    def clock(self) -> int:
        return self._now_ns

    def cpu_clock(self) -> int:
        return int(self._now_ns * self._core_share)


def protocol(**changes: float) -> Protocol:
    return Protocol(**{"min_time_s": 1e-6, "min_runs": 3, "max_runs": 50, **changes})  # type: ignore[arg-type]


def test_steal_counts_from_the_end_of_the_warm_up() -> None:
    machine = Machine(900, 500, 500, 500, 500)
    readings = [40.0, 40.5]
    timed = time_runs(machine.run, protocol(), machine.clock, steal_ms=lambda: readings.pop(0))
    assert (timed.steal_ms, readings) == (0.5, [])
    warm: list[int] = []

    def run() -> None:
        warm.append(1)
        machine.run()

    read_at: list[int] = []

    def steal_ms() -> None:
        read_at.append(len(warm))

    timed = time_runs(run, protocol(), machine.clock, steal_ms=steal_ms)
    assert read_at == [len(timed.warmup_ns), len(warm)]
    assert timed.steal_ms is None


def test_warm_up_ends_with_the_first_run_that_gains_nothing() -> None:
    machine = Machine(900, 500, 400, 399, 400, 401, 402)
    timed = time_runs(machine.run, protocol(), machine.clock)
    assert timed.warmup_ns == (900, 500, 400, 399)
    assert timed.runs_ns == (400, 401, 402)


def test_warm_up_of_a_machine_that_never_settles_is_bounded() -> None:
    machine = Machine(*(2**20 // 2**step for step in range(20)))
    timed = time_runs(machine.run, protocol(max_warmup_runs=7), machine.clock)
    assert len(timed.warmup_ns) == 7


def test_short_runs_are_repeated_until_the_shortest_time() -> None:
    machine = Machine(100)
    timed = time_runs(machine.run, protocol(min_time_s=2e-6), machine.clock)
    assert sum(timed.runs_ns) == 2_000
    assert len(timed.runs_ns) == 20


def test_long_runs_are_made_at_least_a_few_times() -> None:
    machine = Machine(10**9)
    assert len(time_runs(machine.run, protocol(min_runs=3), machine.clock).runs_ns) == 3


def test_number_of_runs_is_bounded() -> None:
    machine = Machine(1)
    timed = time_runs(machine.run, protocol(min_time_s=1, max_runs=50), machine.clock)
    assert len(timed.runs_ns) == 50


def test_a_clock_that_does_not_advance_gives_no_run_of_no_time() -> None:
    timed = time_runs(lambda: None, protocol(max_runs=5), lambda: 7)
    assert timed.runs_ns == (1,) * 5


def test_waiting_is_what_the_clock_has_more_than_the_thread() -> None:
    machine = Machine(1000, core_share=0.99)
    timed = time_runs(machine.run, protocol(min_time_s=2e-5), machine.clock, machine.cpu_clock)
    assert len(timed.runs_ns) == 20
    assert timed.waited_ns == 200
    assert time_runs(machine.run, protocol(), machine.clock).waited_ns is None


def test_a_visit_that_waited_for_more_than_it_may_ends_early() -> None:
    machine = Machine(1000, core_share=0.5)
    timed = time_runs(machine.run, protocol(min_time_s=2e-5), machine.clock, machine.cpu_clock)
    assert timed.runs_ns == (1000,)
    assert timed.waited_ns == 500


def test_a_visit_is_not_ended_where_the_rule_is_off() -> None:
    machine = Machine(1000, core_share=0.5)
    off = protocol(min_time_s=2e-5, most_waiting_share=1.0)
    assert len(time_runs(machine.run, off, machine.clock, machine.cpu_clock).runs_ns) == 20


def test_a_probe_is_timed_after_every_run_and_its_median_told() -> None:
    ticks = iter(range(0, 10**9, 10**6))
    probes = iter([7, 9, 100])
    protocol = Protocol(min_runs=3, max_runs=3, min_time_s=1e-6, max_warmup_runs=1)
    timed = time_runs(lambda: None, protocol, lambda: next(ticks), None, lambda _: next(probes))
    assert len(timed.runs_ns) == 3
    assert timed.probe_ns == 9
    assert time_runs(lambda: None, protocol, lambda: next(ticks)).probe_ns is None


def test_the_clock_probe_is_its_fastest_try() -> None:
    times = iter([0, 50, 100, 130, 200, 270])
    assert clock_probe(lambda: next(times)) == 30
