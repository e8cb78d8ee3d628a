"""Judges the machine during a verification by the references that are measured beside the file.

Whether a round counts and whether a try says anything is decided by the references alone: a rule
that looked at the file's own timings would pick the lucky ones.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search.confidence import value_of
from search.constraints import BUDGET_STATISTICS
from search.verification_plan import Reference, VerificationPlan
from search.verification_record import Round, Try

# How far the references may lie from the profile, relatively.
MOST_DRIFT = 0.05


def counted_rounds(plan: VerificationPlan, rounds: Sequence[Round]) -> list[Round]:
    """The rounds in which the references say that the machine was quiet.

    A single visit reads some per cent above the quiet latency, so rounds are compared with each
    other and not with the profile: with the second quietest one of the try, because the quietest
    may be a fluke. Over the try that only falls, so a round that was refused is never taken back.
    """
    if not rounds:
        return []
    names = [str(reference.architecture) for reference in plan.references]
    levels = [
        statistics.fmean(math.log(min(found.runs_ns[name])) for name in names) for found in rounds
    ]
    quiet = sorted(levels)[:2][-1]
    highest = quiet + math.log(plan.protocol.slow_factor)
    return [found for found, level in zip(rounds, levels, strict=True) if level <= highest]


def runs_ms(rounds: Sequence[Round], name: str) -> list[list[float]]:
    """The runs of each round's visit of one thing."""
    return [[elapsed_ns / 1e6 for elapsed_ns in found.runs_ns[name]] for found in rounds]


@dataclass(frozen=True)
class ReferenceCheck:
    """A reference as it was measured, beside what the profile says.

    Attributes:
        reference: which, with what the profile says.
        measured_ms: over the rounds that counted, by statistic; None where there are too few.
        statistic: the one that is compared.
    """

    reference: Reference
    measured_ms: dict[str, float | None]
    statistic: str

    @property
    def ratio(self) -> float | None:
        """Measured over profiled; None where either is not known."""
        measured = self.measured_ms[self.statistic]
        profiled = self.reference.profile_ms[self.statistic]
        return None if measured is None or profiled is None else measured / profiled

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "name": self.reference.name,
            "architecture": str(self.reference.architecture),
            "statistic": self.statistic,
            "measured_ms": self.measured_ms[self.statistic],
            "profile_ms": self.reference.profile_ms[self.statistic],
            "ratio": self.ratio,
            **{f"{name}_ms": value for name, value in self.measured_ms.items()},
        }


def check_references(plan: VerificationPlan, rounds: Sequence[Round]) -> list[ReferenceCheck]:
    """Compares each reference with the profile, on the budget's statistic if any has that one."""
    found = [
        (reference, statistics_ms(plan, rounds, str(reference.architecture)))
        for reference in plan.references
    ]
    compared = "quiet"
    for name in (plan.budget.statistic, "p50"):
        if any(ms[name] is not None and ref.profile_ms[name] is not None for ref, ms in found):
            compared = name
            break
    return [ReferenceCheck(reference, measured, compared) for reference, measured in found]


def statistics_ms(
    plan: VerificationPlan, rounds: Sequence[Round], name: str
) -> dict[str, float | None]:
    """Every statistic of one thing over some rounds; None where visits or runs are too few."""
    runs = runs_ms(rounds, name)
    return {
        statistic: value_of(statistic, runs, label_visits=plan.protocol.visits)
        for statistic in BUDGET_STATISTICS
    }


def drift_of(plan: VerificationPlan, checks: Sequence[ReferenceCheck]) -> float | None:
    """How far the machine is from the state that was profiled, relatively; None if unknown.

    For a latency, how much slower the references are, in their geometric mean. A speed-up is a
    ratio to a reference beside it, so it stands what slows everything alike; what it does not
    stand is that some shapes are slowed more than others, which shows between the references.
    """
    logs = [math.log(check.ratio) for check in checks if check.ratio is not None]
    if plan.budget.min_speedup is not None:
        return math.expm1(max(logs) - min(logs)) if len(logs) > 1 else None
    return math.expm1(statistics.fmean(logs)) if logs else None


def why_void(plan: VerificationPlan, attempt: Try) -> str:
    """Why a try that is over says nothing about the file; empty if it does say something."""
    counted = counted_rounds(plan, attempt.rounds)
    if len(counted) < plan.rounds_needed:
        taken = f" ({len(attempt.disturbed)} lost the core)" if attempt.disturbed else ""
        return (
            f"only {len(counted)} of {attempt.rounds_begun} rounds were quiet{taken}, of "
            f"{plan.rounds_needed} needed: stop other work on the machine"
        )
    checks = check_references(plan, counted)
    drift = drift_of(plan, checks)
    # Two references that may each be off by so much may lie twice as far apart.
    most = MOST_DRIFT if plan.budget.min_speedup is None else 2 * MOST_DRIFT
    if drift is None or abs(drift) <= most:
        return ""
    each = ", ".join(
        f"{check.reference.name} {_slower(check.ratio - 1)}"
        for check in checks
        if check.ratio is not None
    )
    how = f"are {_slower(drift)} than in the profile"
    if plan.budget.min_speedup is not None:
        how = f"have moved apart by {drift:.0%} since the profile"
    return (
        f"references {how} ({each}, on {checks[0].statistic}): stop other work on the "
        "machine, or profile it again"
    )


def _slower(share: float) -> str:
    # Of a half, `50 % faster` would be read as two thirds of the time.
    return f"{share:.1%} slower" if share >= 0 else f"{1 / (1 + share) - 1:.1%} faster"
