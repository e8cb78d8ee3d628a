"""What came out of a verification: the figures, their bounds, the verdict, every try.

History of the schema of `verification.json`:

1. The first.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotinybert.files import read_signed_json, write_signed_json
from device_profiles.machine import key_hash
from search.confidence import (
    CONFIDENCE,
    runs_needed,
    speedup_lower_bound,
    upper_bound,
    value_of,
)
from search.constraints import name_of
from search.reference_check import (
    ReferenceCheck,
    check_references,
    counted_rounds,
    drift_of,
    runs_ms,
    statistics_ms,
)
from search.verification_plan import CANDIDATE, VerificationPlan
from search.verification_record import FileRecord, Outcome, Try

SCHEMA_VERSION = 1

VERIFICATION_FILE = "verification.json"


def load_verification(folder: Path) -> dict[str, Any]:
    """Reads the `verification.json` in a folder and checks it.

    Raises:
        InputError: if it is of a later version.
        DamagedFileError: if it is not there, or was torn, truncated or edited.
    """
    return read_signed_json(
        folder / VERIFICATION_FILE,
        kind="verification",
        schema_version=SCHEMA_VERSION,
        remedy="remove the folder and verify again",
    )


def conclude(plan: VerificationPlan, attempt: Try) -> tuple[Outcome, str]:
    """The verdict of a try that is not void, and its reason in words."""
    result = _measure(plan, attempt)
    budget = plan.budget
    missing = result.missing
    if missing:
        return "undecided", missing
    held = f"with {CONFIDENCE:.0%} confidence"
    if budget.max_latency_ms is not None:
        assert result.measured_ms is not None
        assert result.upper_ms is not None
        passed = result.upper_ms <= budget.max_latency_ms
        return "passed" if passed else "failed", (
            f"{budget.statistic} is {result.measured_ms:.4g} ms, {held} at most "
            f"{result.upper_ms:.4g} ms, which is {'within' if passed else 'above'} the budget of "
            f"{budget.max_latency_ms:g} ms"
        )
    assert budget.min_speedup is not None
    assert result.speedup is not None
    assert result.speedup_lower is not None
    passed = result.speedup_lower >= budget.min_speedup
    return "passed" if passed else "failed", (
        f"{budget.statistic} is {result.speedup:.4g} times as fast as "
        f"{name_of(budget.speedup_reference)} beside it, {held} at least "
        f"{result.speedup_lower:.4g} times, which is {'enough for' if passed else 'below'} the "
        f"budget of {budget.min_speedup:g} times"
    )


@dataclass(frozen=True)
class _Measured:
    """What the counted rounds of a try say of the file.

    Attributes:
        measured_ms: the budget's statistic; None if there are too few visits or runs.
        upper_ms: its upper confidence bound.
        speedup: over the budget's reference; None if that was not measured, or too little.
        speedup_lower: its lower confidence bound.
        known_ms: every statistic that is known.
        missing: what the budget needs and is not known, in words.
    """

    measured_ms: float | None
    upper_ms: float | None
    speedup: float | None
    speedup_lower: float | None
    known_ms: dict[str, float | None]
    missing: str


def _measure(plan: VerificationPlan, attempt: Try) -> _Measured:
    counted = counted_rounds(plan, attempt.rounds)
    statistic, k = plan.budget.statistic, plan.protocol.visits
    visits = runs_ms(counted, CANDIDATE)
    known_ms = statistics_ms(plan, counted, CANDIDATE)
    measured_ms, upper_ms, speedup, speedup_lower = known_ms[statistic], None, None, None
    missing = _too_few(statistic, "it", visits) if measured_ms is None else ""
    if len(counted) > k and measured_ms is not None:
        upper_ms = upper_bound(statistic, visits, label_visits=k)
        beside = str(plan.budget.speedup_reference)
        if beside in plan.configurations:
            reference = runs_ms(counted, beside)
            reference_ms = value_of(statistic, reference, label_visits=k)
            if reference_ms is not None:
                speedup = reference_ms / measured_ms
                speedup_lower = speedup_lower_bound(statistic, reference, visits, label_visits=k)
            elif plan.budget.min_speedup is not None:
                name = name_of(plan.budget.speedup_reference)
                missing = _too_few(statistic, name, reference)
    return _Measured(measured_ms, upper_ms, speedup, speedup_lower, known_ms, missing)


def _too_few(statistic: str, name: str, visits: Sequence[Sequence[float]]) -> str:
    return (
        f"{statistic} needs {runs_needed(statistic)} runs, and {len(visits)} visits of {name} "
        f"made {sum(map(len, visits))}: choose another --budget-statistic"
    )


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What became of a file.

    Attributes:
        plan: what was measured, and how.
        outcome: passed, failed, or undecided where the machine did not let it be told.
        reason: why, in words.
        measured_ms: the budget's statistic over the rounds of the last try that counted; None
            where they are too few.
        upper_ms: what it is at most, with 95 % confidence.
        speedup: over the budget's reference measured beside it; None where that was not.
        speedup_lower: what it is at least, with 95 % confidence.
        known_ms: quiet latency, p50 and p95, where known.
        references: as measured in the last try, and in the profile.
        drift: how far the machine was from the state that was profiled, relatively.
        tries: all of them; only the last may have counted.
        elapsed_s: how long it took, waiting included and pauses left out.
    """

    plan: VerificationPlan
    outcome: Outcome
    reason: str
    measured_ms: float | None
    upper_ms: float | None
    speedup: float | None
    speedup_lower: float | None
    known_ms: dict[str, float | None]
    references: tuple[ReferenceCheck, ...]
    drift: float | None
    tries: tuple[Try, ...]
    elapsed_s: float

    @classmethod
    def of(cls, plan: VerificationPlan, file: FileRecord) -> Verification:
        """What a record says, once it has a verdict."""
        assert file.outcome is not None
        last = file.tries[-1]
        counted = counted_rounds(plan, last.rounds)
        checks = tuple(check_references(plan, counted))
        measured = _measure(plan, last)
        return cls(
            plan=plan,
            outcome=file.outcome,
            reason=file.reason,
            measured_ms=measured.measured_ms,
            upper_ms=measured.upper_ms,
            speedup=measured.speedup,
            speedup_lower=measured.speedup_lower,
            known_ms=measured.known_ms,
            references=checks,
            drift=drift_of(plan, checks),
            tries=tuple(file.tries),
            elapsed_s=file.elapsed_s,
        )

    @property
    def passed(self) -> bool:
        """Whether the file was shown to meet its budget."""
        return self.outcome == "passed"

    def save(self, path: Path) -> None:
        """Writes it as a file with a checksum of itself."""
        created_utc = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        write_signed_json(
            path,
            {
                "schema_version": SCHEMA_VERSION,
                "kind": "verification",
                "created_utc": created_utc,
                **self.to_json(),
            },
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, with the fastest and the median run of every visit."""
        plan, last = self.plan, self.tries[-1]
        counted = counted_rounds(plan, last.rounds)
        described = plan.configurations[CANDIDATE].to_json()
        return {
            "model_sha256": plan.model.sha256,
            "architecture": described.pop("model_id"),
            **described,
            "budget": plan.budget.to_json(),
            "outcome": self.outcome,
            "reason": self.reason,
            "statistic": plan.budget.statistic,
            "measured_ms": self.measured_ms,
            "upper_ms": self.upper_ms,
            "speedup": self.speedup,
            "speedup_lower": self.speedup_lower,
            "confidence": CONFIDENCE,
            **{f"{name}_ms": value for name, value in self.known_ms.items()},
            "references": [check.to_json() for check in self.references],
            "drift": self.drift,
            "visits": len(counted),
            "rounds_rejected": len(last.rounds) - len(counted),
            "rounds_failed": len(last.failures),
            "rounds_disturbed": len(last.disturbed),
            "waits_s": [attempt.wait_s for attempt in self.tries if attempt.wait_s],
            "tries": [_try_json(plan, attempt) for attempt in self.tries],
            "protocol": plan.protocol.to_json(),
            "measurement_key_hash": key_hash(plan.key),
            "elapsed_s": round(self.elapsed_s, 3),
        }


def _try_json(plan: VerificationPlan, attempt: Try) -> dict[str, Any]:
    counted = {found.number for found in counted_rounds(plan, attempt.rounds)}
    return {
        "try": attempt.number,
        "void": attempt.void or None,
        "wait_s": attempt.wait_s,
        "failures": attempt.failures,
        "disturbed": attempt.disturbed,
        "rounds": [
            {
                "round": found.number,
                "counted": found.number in counted,
                "visits": {
                    name: {
                        "started_s": found.started_s[name],
                        "runs": len(runs_ns),
                        "minimum_ms": min(runs_ns) / 1e6,
                        "median_ms": statistics.median(runs_ns) / 1e6,
                    }
                    for name, runs_ns in found.runs_ns.items()
                },
            }
            for found in attempt.rounds
        ],
    }
