"""The timing of one visit: warm up, then time runs one by one.

Takes the run and the clocks as arguments, so that it is tested without a session or a second of
waiting.
"""

from __future__ import annotations

import hashlib
import statistics
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
        waited_ns: how long the calling thread had no core during `runs_ns`; None without a CPU
            clock.
        probe_ns: what a fixed piece of arithmetic took after each of them, their median: it tells
            the clock rate at which the core ran; None without a probe.
        steal_ms: what the hypervisor took during `runs_ns`; None where nobody tells.
    """

    warmup_ns: tuple[int, ...]
    runs_ns: tuple[int, ...]
    waited_ns: int | None = None
    probe_ns: int | None = None
    steal_ms: float | None = None


def time_runs(
    run: Callable[[], object],
    protocol: Protocol,
    clock: Clock,
    cpu_clock: Clock | None = None,
    probe: Callable[[Clock], int] | None = None,
    steal_ms: Callable[[], float | None] = lambda: None,
) -> TimedRuns:
    """Warms up and times `run`.

    Warm-up ends with the first run that does not beat the best one before it by
    `protocol.warmup_gain`: caches, allocators and branch predictors have then settled. Timing
    ends early once it waited for longer than the whole visit may.

    Args:
        run: does the work once.
        protocol: how long to time.
        clock: reads nanoseconds.
        cpu_clock: reads the CPU time of this thread in nanoseconds. The thread takes part in the
            work, or spins until it is done, so it waits whenever it has less than the clock; None
            where it may sleep instead, as beside a GPU.
        probe: times a fixed piece of arithmetic by `clock`.
        steal_ms: reads what the hypervisor took so far, in milliseconds.
    """
    warmup = [elapsed_ns(run, clock)]
    while len(warmup) < protocol.max_warmup_runs:
        best = min(warmup)
        warmup.append(elapsed_ns(run, clock))
        if warmup[-1] > best * (1 - protocol.warmup_gain):
            break
    steal_before = steal_ms()
    runs: list[int] = []
    probes: list[int] = []
    min_time_ns = protocol.min_time_s * 1e9
    total_ns = waited_ns = 0
    while len(runs) < protocol.max_runs and (
        len(runs) < protocol.min_runs or total_ns < min_time_ns
    ):
        before_ns = cpu_clock() if cpu_clock else 0
        runs.append(elapsed_ns(run, clock))
        total_ns += runs[-1]
        if cpu_clock:
            waited_ns += max(runs[-1] - (cpu_clock() - before_ns), 0)
            # No visit takes longer than this, if its runs to come are no slower.
            longest = max(runs)
            most_ns = max(min_time_ns + longest, protocol.min_runs * longest)
            if (
                protocol.most_waiting_share < 1
                and waited_ns > protocol.most_waiting_share * most_ns
            ):
                break
        if probe:  # not before the CPU clock was read: it takes time of the thread's own
            probes.append(probe(clock))
    steal_after = steal_ms()
    stolen_ms = None
    if steal_before is not None and steal_after is not None:
        # Processors that came or went meanwhile may let it fall.
        stolen_ms = round(max(steal_after - steal_before, 0.0), 3)
    return TimedRuns(
        tuple(warmup),
        tuple(runs),
        waited_ns if cpu_clock else None,
        round(statistics.median(probes)) if probes else None,
        stolen_ms,
    )


# Fits in any first-level cache, and takes a few microseconds.
_PROBED = bytes(8192)
_PROBES = 3


def clock_probe(clock: Clock) -> int:
    """The time of a hash of 8 KiB, the fastest of three: nothing but the clock rate changes it."""
    times_ns = []
    for _ in range(_PROBES):
        start = clock()
        hashlib.sha256(_PROBED).digest()
        times_ns.append(clock() - start)
    return max(min(times_ns), 1)


def elapsed_ns(run: Callable[[], object], clock: Clock) -> int:
    """How long one run takes; at least a nanosecond."""
    start = clock()
    run()
    # A clock of coarse steps may not advance; a run still took some time.
    return max(clock() - start, 1)
