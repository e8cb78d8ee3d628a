"""Runs a configuration back to back for minutes, and sums it up second by second."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from autotinybert.errors import InputError
from device_profiles.sustained import MAX_LOAD_S, MAX_REST_S, LoadSeries
from profiler.timing import Clock, elapsed_ns

# No run takes less than some microseconds: an hour of them is still bounded.
_MOST_RUNS = 10**9
_WARMUP_RUNS = 3


@dataclass(frozen=True, kw_only=True)
class Load:
    """A lasting load.

    Attributes:
        seconds: how long it lasts.
        rest_s: how long the device rests before it, to cool down.

    Raises:
        InputError: if either is out of bounds.
    """

    seconds: int
    rest_s: int

    def __post_init__(self) -> None:
        for name, value, lowest, highest in (
            ("seconds", self.seconds, 1, MAX_LOAD_S),
            ("rest_s", self.rest_s, 0, MAX_REST_S),
        ):
            if type(value) is not int or not lowest <= value <= highest:
                raise InputError(f"load: {name} must be an integer from {lowest} to {highest}")

    def to_json(self) -> dict[str, int]:
        """As a JSON object."""
        return {"seconds": self.seconds, "rest_s": self.rest_s}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads a load back.

        Raises:
            InputError: if it is none.
        """
        if not isinstance(value, Mapping) or set(value) != {"seconds", "rest_s"}:
            raise InputError("load: its keys are rest_s, seconds")
        return cls(**value)


def run_load(
    run: Callable[[], object],
    load: Load,
    clock: Clock,
    *,
    rest: Callable[[float], None],
    steal_ms: Callable[[], float | None] = lambda: None,
) -> dict[str, Any]:
    """Warms up, rests, then runs back to back until the time is up.

    Args:
        run: does the work once.
        load: how long.
        clock: reads nanoseconds.
        rest: waits for so many seconds.
        steal_ms: reads how long the hypervisor kept this machine waiting.

    Returns:
        The JSON object of a `LoadSeries`.
    """
    for _ in range(_WARMUP_RUNS):
        run()
    rest(load.rest_s)
    steal_before = steal_ms()
    windows: list[tuple[int, int, int]] = []
    current: list[int] = []
    start_ns = clock()
    second = 0
    for _ in range(_MOST_RUNS):
        now = (clock() - start_ns) // 1_000_000_000
        if now != second or now >= load.seconds:
            if current:
                windows.append((second, int(statistics.median(current)), len(current)))
            second, current = now, []
        if now >= load.seconds:
            break
        current.append(elapsed_ns(run, clock))
    steal_after = steal_ms()
    known = steal_before is not None and steal_after is not None
    seconds, medians, counts = zip(*windows, strict=True)
    return LoadSeries(
        second=seconds,
        median_ns=medians,
        runs=counts,
        steal_ms=round(steal_after - steal_before, 3) if known else None,  # type: ignore[operator]
    ).to_json()
