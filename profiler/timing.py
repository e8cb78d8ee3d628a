"""The timing of one visit: warm up, then time runs one by one.

Takes the run and the clock as arguments, so that it is tested without a session or a second of
waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from device_profiles.protocol import Protocol

# Reads nanoseconds, as `time.perf_counter_ns` does.
Clock = Callable[[], int]


@dataclass(frozen=True)
class TimedRuns:
    """What a visit timed.

    Attributes:
        warmup_ns: the runs before the machine was warm.
        runs_ns: the runs after.
    """

    warmup_ns: tuple[int, ...]
    runs_ns: tuple[int, ...]


def time_runs(run: Callable[[], object], protocol: Protocol, clock: Clock) -> TimedRuns:
    """Warms up and times `run`.

    Warm-up ends with the first run that does not beat the best one before it by
    `protocol.warmup_gain`: caches, allocators and branch predictors have then settled.

    Args:
        run: does the work once.
        protocol: how long to time.
        clock: reads nanoseconds.
    """
    warmup = [elapsed_ns(run, clock)]
    while len(warmup) < protocol.max_warmup_runs:
        best = min(warmup)
        warmup.append(elapsed_ns(run, clock))
        if warmup[-1] > best * (1 - protocol.warmup_gain):
            break
    runs: list[int] = []
    min_time_ns = protocol.min_time_s * 1e9
    total_ns = 0
    while len(runs) < protocol.max_runs and (
        len(runs) < protocol.min_runs or total_ns < min_time_ns
    ):
        runs.append(elapsed_ns(run, clock))
        total_ns += runs[-1]
    return TimedRuns(tuple(warmup), tuple(runs))


def elapsed_ns(run: Callable[[], object], clock: Clock) -> int:
    """How long one run takes; at least a nanosecond."""
    start = clock()
    run()
    # A clock of coarse steps may not advance; a run still took some time.
    return max(clock() - start, 1)
