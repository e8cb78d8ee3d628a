"""Latency under lasting load: whether a device slows down as it heats up."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError

SustainedVerdict = Literal["steady", "throttles", "unsteady", "undecided"]

FloatVector = npt.NDArray[np.float64]

MAX_LOAD_S = 3600
MAX_REST_S = 600

# How much slower than at the beginning counts as slower.
SLOWER = 1.05

# The beginning: the first second, and as many more as it takes for so many runs.
_FEWEST_COLD_RUNS = 5

# Heat takes longer than this to tell; the last run of a minute may begin well before its end.
_SHORTEST_S = 45

# A device that throttles stays slow: each quarter is about as slow as the one before, or slower.
_QUARTERS = 4
_RECOVERY = 0.02

_UNDECIDED: tuple[SustainedVerdict, str] = ("undecided", "too short to tell: give it more minutes")


@dataclass(frozen=True, kw_only=True)
class LoadSeries:
    """Runs back to back, summed up second by second; seconds in which no run began are left out.

    Attributes:
        second: `[W]`, since the load began, rising.
        median_ns: `[W]`, of the runs that began in that second.
        runs: `[W]`, how many these were.
        steal_ms: time that the hypervisor took from a processor meanwhile, or None.

    Raises:
        InputError: if these are no such columns.
    """

    second: tuple[int, ...]
    median_ns: tuple[int, ...]
    runs: tuple[int, ...]
    steal_ms: float | None = None

    def __post_init__(self) -> None:
        columns = (self.second, self.median_ns, self.runs)
        if not self.second or len({len(column) for column in columns}) > 1:
            raise InputError("sustained load: its columns must be of one length, and not empty")
        for column, lowest in zip(columns, (0, 1, 1), strict=True):
            if not all(type(value) is int and lowest <= value < 1 << 63 for value in column):
                raise InputError(f"sustained load: its columns hold integers from {lowest}")
        rising = all(a < b for a, b in itertools.pairwise(self.second))
        if not rising or self.second[-1] >= 2 * MAX_LOAD_S:
            raise InputError(
                f"sustained load: its seconds must rise, to less than {2 * MAX_LOAD_S}"
            )
        steal = self.steal_ms
        if steal is not None and (isinstance(steal, bool) or not isinstance(steal, (int, float))):
            raise InputError(f"sustained load: steal_ms must be a number or null, not {steal!r}")

    def summary(self) -> SustainedSummary:
        """What the series says."""
        return summarise(
            np.array(self.second, dtype=np.float64),
            np.array(self.median_ns, dtype=np.float64) / 1e6,
            np.array(self.runs, dtype=np.float64),
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "second": list(self.second),
            "median_ns": list(self.median_ns),
            "runs": list(self.runs),
            "steal_ms": self.steal_ms,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a series back; other keys are passed over.

        Raises:
            InputError: if it is no series.
        """
        columns = {name: value.get(name) for name in ("second", "median_ns", "runs")}
        for name, column in columns.items():
            if not isinstance(column, Sequence) or isinstance(column, str):
                raise InputError(f"sustained load: {name} must be a list")
        return cls(
            steal_ms=value.get("steal_ms"),
            **{name: tuple(column or ()) for name, column in columns.items()},
        )


@dataclass(frozen=True, kw_only=True)
class SustainedSummary:
    """Latency under lasting load beside that of the beginning.

    Attributes:
        cold_ms: median at the beginning, the device rested.
        sustained_ms: median over the second half of the load.
        ratio: sustained over cold.
        verdict: `steady`; `throttles`; `unsteady`, where something else than heat made it slow;
            `undecided`, where the load was too short to tell.
        reason: the verdict in words.
    """

    cold_ms: float
    sustained_ms: float
    ratio: float
    verdict: SustainedVerdict
    reason: str


def summarise(second: FloatVector, latency_ms: FloatVector, runs: FloatVector) -> SustainedSummary:
    """Compares the beginning of a load with its second half.

    Args:
        second: `[W]`, when, since the load began, rising.
        latency_ms: `[W]`, median latency of the runs that began then.
        runs: `[W]`, how many these were.
    """
    first = int(np.searchsorted(np.cumsum(runs), _FEWEST_COLD_RUNS)) + 1
    cold_ms = float(np.median(latency_ms[:first]))
    sustained_ms = float(np.median(latency_ms[second >= (second[0] + second[-1]) / 2]))
    quarter = (second * _QUARTERS / (second[-1] + 1)).astype(np.int64)
    ratio = sustained_ms / cold_ms
    if second[-1] < _SHORTEST_S:
        verdict, reason = _UNDECIDED
    else:
        verdict, reason = _judge(ratio, latency_ms, quarter)
    return SustainedSummary(
        cold_ms=cold_ms, sustained_ms=sustained_ms, ratio=ratio, verdict=verdict, reason=reason
    )


def _judge(
    ratio: float, latency_ms: FloatVector, quarter: npt.NDArray[np.int64]
) -> tuple[SustainedVerdict, str]:
    parts = [latency_ms[quarter == number] for number in range(_QUARTERS)]
    if not all(len(part) for part in parts):
        return _UNDECIDED
    if 1 / SLOWER <= ratio <= SLOWER:
        return "steady", f"within {SLOWER - 1:.0%} of the beginning"
    if ratio < 1:
        return "unsteady", (
            f"{1 - ratio:.0%} faster than at the beginning: let the device rest and measure again"
        )
    medians = [float(np.median(part)) for part in parts]
    if all(b >= a * (1 - _RECOVERY) for a, b in itertools.pairwise(medians)):
        return "throttles", (
            f"{ratio - 1:.0%} slower than at the beginning, and it stays so: cool the device, or "
            "budget with the sustained latency"
        )
    return "unsteady", (
        f"{ratio - 1:.0%} slower than at the beginning, but not for good: stop other work on the "
        "machine and measure again"
    )
