"""Is a machine fit to measure on? Findings from facts, each with what mends it.

Pure: facts in, findings out. What the machine does not tell is `unknown`, never `ok`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from device_profiles.protocol import Protocol
from device_profiles.target import Configuration
from profiler import doctor_processor as processor
from profiler import doctor_state as state
from profiler.campaign import Worker, checked_visit
from profiler.finding import Finding, Level, MachineFacts
from supernet.architecture import Architecture

_CHECKS = (
    processor.realness,
    processor.runtime,
    processor.instructions,
    processor.governor,
    processor.boost,
    processor.siblings,
    processor.allowed,
    processor.quota,
    state.load,
    state.steal,
    state.heat,
    state.power,
    state.memory,
    state.clock,
)

# A shape of some milliseconds: long enough to be disturbed, short enough for a second of probing.
PROBE = Configuration(Architecture.parse("3-320-608-12-180"))
PROBE_VISITS = 5

# On a quiet machine single visits of 0.12 s differ by about 5 %.
_SPREAD_WARN, _SPREAD_BAD = 0.08, 0.25
# The median run of a visit is about 1.07 times the fastest.
_SCATTER_WARN = 0.25


def examine(facts: MachineFacts) -> list[Finding]:
    """Everything that follows from the facts alone."""
    return [check(facts) for check in _CHECKS]


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether nothing that was found is bad."""
    return all(finding.level != "bad" for finding in findings)


def probe(worker: Worker) -> list[Mapping[str, Any]]:
    """Measures one small shape a few times; returns the visits.

    Raises:
        VisitFailedError: if it could not be measured.
        WorkerLostError: if the worker is gone.
    """
    protocol = Protocol()
    return [checked_visit(worker.visit(PROBE, protocol)) for _ in range(PROBE_VISITS)]


def judge_probe(visits: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether the same shape takes the same time when it is measured again.

    Args:
        visits: what `probe` returns: `runs_ns` and `facts` of each.
    """
    what = "re-test"
    fastest_ms = [min(visit["runs_ns"]) / 1e6 for visit in visits]
    low, high = min(fastest_ms), max(fastest_ms)
    spread = high / low - 1
    scatter = max(_median(visit["runs_ns"]) / min(visit["runs_ns"]) for visit in visits) - 1
    seen = (
        f"{PROBE.architecture} {len(visits)} times, {low:.2f} to {high:.2f} ms: a re-test "
        f"difference of {spread:.1%}; inside a visit the median was up to {scatter:.1%} above the "
        f"fastest run{_disturbances(visits)}"
    )
    if spread < _SPREAD_WARN and scatter < _SCATTER_WARN:
        return Finding("ok", what, seen)
    level: Level = "bad" if spread >= _SPREAD_BAD else "warn"
    mend = (
        "mend the findings above first; where there are none, measure at a quieter hour, or give "
        "the campaign more --minutes"
    )
    return Finding(level, what, seen, mend)


def _median(values: Sequence[int]) -> float:
    ranked = sorted(values)
    middle = len(ranked) // 2
    return (ranked[middle] + ranked[~middle]) / 2


def _disturbances(visits: Sequence[Mapping[str, Any]]) -> str:
    """What the measuring process noted of others, in words."""
    noted = []
    for name, phrase in (
        ("involuntary_switches", "{:.0f} times another process took the core"),
        ("steal_ms", "{:.0f} ms were stolen"),
    ):
        values = [visit["facts"].get(name) for visit in visits]
        total = sum(value for value in values if isinstance(value, (int, float)))
        if total >= 1:
            noted.append(phrase.format(total))
    return f"; {', '.join(noted)}" if noted else ""
