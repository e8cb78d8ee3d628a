"""Measures an exported file on the device before anyone is told that it fits its budget.

The profile's protocol, a number of visits that is fixed beforehand, once: a file that passed or
failed is never tried again. The references of the profile are measured beside it in every round,
and where they say that the machine is not as it was, verification waits, a bounded time, and then
says so instead of guessing.

All state is in the journal, so a verification that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from device_profiles.journal import Journal
from device_profiles.machine import PINNED_FIELD
from device_profiles.protocol import Protocol as MeasuringProtocol
from device_profiles.target import Configuration
from profiler.affinity import parse_cpus
from profiler.campaign import VisitFailedError, Worker, WorkerLostError, judged_visit
from profiler.child import ChildWorker, local_command
from search.reference_check import counted_rounds, why_void
from search.verification_plan import CANDIDATE, VerificationPlan
from search.verification_record import FileRecord, Outcome, Try, check_journal
from search.verification_result import Verification, conclude

JOURNAL_FILE = "verification.jsonl"

DEFAULT_MAX_WAIT_S = 300.0

# The first wait; every further one is twice as long.
_FIRST_WAIT_S = 30.0

# Rounds of a try that may fail: whatever breaks three of them would break the others.
_MOST_FAILURES = 2


class ModelWorker(Worker, Protocol):
    """A worker that was started with an exported file."""

    def visit(
        self,
        configuration: Configuration,
        protocol: MeasuringProtocol,
        *,
        model_sha256: str | None = None,
    ) -> Mapping[str, Any]:
        """Makes one visit, of the file if its hash is given."""


@dataclass(frozen=True)
class Progress:
    """How far a verification is.

    Attributes:
        try_number: the try under way.
        rounds_counted: its rounds that counted so far.
        rounds_needed: how many must.
        waiting_s: how long is waited now for a quieter machine; 0 while it measures.
    """

    try_number: int
    rounds_counted: int
    rounds_needed: int
    waiting_s: float = 0.0


def local_worker(plan: VerificationPlan) -> Callable[[], ModelWorker]:
    """What starts a measuring child on this machine that may be asked for the plan's file.

    It measures on the processors that the profile was measured on, if it was pinned to some.
    """
    cpus = parse_cpus(str(plan.key.get(PINNED_FIELD, "")))
    command = local_command(plan.model.path, cpus=cpus, provider=plan.target.provider)
    return lambda: ChildWorker(command)


def check_this_machine(plan: VerificationPlan, open_worker: Callable[[], ModelWorker]) -> None:
    """Checks that what will measure is the machine that was profiled.

    Raises:
        InputError: naming the fields of the measurement key that differ.
    """
    worker = open_worker()
    try:
        plan.check_machine(worker.host)
    finally:
        worker.close()


def run_verification(
    plan: VerificationPlan,
    journal: Journal,
    open_worker: Callable[[], ModelWorker],
    *,
    clock_s: Callable[[], float],
    sleep_s: Callable[[float], None],
    max_wait_s: float = DEFAULT_MAX_WAIT_S,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Verification:
    """Measures what the journal still lacks, and returns the verdict.

    Args:
        plan: what to measure, and against which budget.
        journal: what was measured so far; every visit is added to it.
        open_worker: starts a fresh worker, which was given the file.
        clock_s: reads seconds.
        sleep_s: waits so many seconds.
        max_wait_s: how long to wait for a quiet machine, in all.
        on_progress: told after every round and before every wait.

    Returns:
        The verdict; if the file has passed or failed before, that one, and nothing is measured.

    Raises:
        InputError: if the journal is of another plan, or a worker on another machine.
    """
    check_journal(journal.records, plan.to_json(), journal.path)
    if not journal.records:
        journal.append({"kind": "verification", "plan": plan.to_json()})
    verifier = _Verifier(plan, journal, clock_s, on_progress)
    return verifier.run(open_worker, sleep_s, max_wait_s)


class _Verifier:
    """One session's work on the verification of one file."""

    def __init__(
        self,
        plan: VerificationPlan,
        journal: Journal,
        clock_s: Callable[[], float],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._on_progress = on_progress
        self._file = FileRecord.from_journal(
            journal.records, plan.model.sha256, tuple(plan.configurations)
        )
        self._clock_s = clock_s
        # Time goes on from where the last session left it: pauses do not count.
        self._start_s = clock_s() - self._file.elapsed_s

    def run(
        self,
        open_worker: Callable[[], ModelWorker],
        sleep_s: Callable[[float], None],
        max_wait_s: float,
    ) -> Verification:
        """Makes tries until one says something, or the time to wait is over."""
        waits = 0 if self._file.outcome else sum(bool(found.void) for found in self._file.tries)
        left_s = max_wait_s
        if self._file.outcome is None:
            left_s -= sum(found.wait_s for found in self._file.tries)
        while self._file.outcome not in ("passed", "failed"):
            attempt = self._run_try(open_worker)
            if len(attempt.failures) > _MOST_FAILURES:
                reason = f"{len(attempt.failures)} rounds failed, the last: {attempt.failures[-1]}"
                self._conclude("undecided", reason)
                break
            void = why_void(self._plan, attempt)
            if not void:
                self._conclude(*conclude(self._plan, attempt))
                break
            wait_s = min(_FIRST_WAIT_S * 2**waits, left_s)
            if wait_s <= 0:
                self._conclude("undecided", void)
                break
            self._append({"kind": "void", "try": attempt.number, "reason": void, "wait_s": wait_s})
            self._report(wait_s)
            sleep_s(wait_s)
            waits, left_s = waits + 1, left_s - wait_s
        return Verification.of(self._plan, self._file)

    def _run_try(self, open_worker: Callable[[], ModelWorker]) -> Try:
        """Makes rounds until enough of them count, or there may be no more."""
        while True:
            attempt = self._file.current
            counted = len(counted_rounds(self._plan, attempt.rounds))
            if (
                counted >= self._plan.rounds_needed
                or attempt.rounds_begun >= self._plan.most_rounds
                or len(attempt.failures) > _MOST_FAILURES
            ):
                return attempt
            worker = open_worker()
            try:
                self._plan.check_machine(worker.host)
                self._run_round(worker, attempt.number, attempt.rounds_begun + 1)
            finally:
                worker.close()
            self._report()

    def _run_round(self, worker: ModelWorker, try_number: int, round_number: int) -> None:
        """Visits the file and every reference, and journals each visit before the next."""
        plan = self._plan
        for position, name in enumerate(plan.order(try_number, round_number), start=1):
            common: dict[str, Any] = {
                "try": try_number,
                "round": round_number,
                "position": position,
                "of": name,
                "started_s": round(self._elapsed_s(), 3),
            }
            try:
                result = worker.visit(
                    plan.configurations[name],
                    plan.protocol,
                    model_sha256=plan.model.sha256 if name == CANDIDATE else None,
                )
                found = judged_visit(result, plan.protocol)
                self._append({**common, "kind": "visit", **found})
            except (VisitFailedError, WorkerLostError) as error:
                self._append({**common, "kind": "failure", "error": f"{name}: {error}"})
                return
            if "disturbed" in found:
                return

    def _conclude(self, outcome: Outcome, reason: str) -> None:
        self._append({"kind": "verdict", "outcome": outcome, "reason": reason})

    def _append(self, record: Mapping[str, Any]) -> None:
        elapsed_s = round(self._elapsed_s(), 3)
        self._journal.append(
            {**record, "model_sha256": self._plan.model.sha256, "elapsed_s": elapsed_s}
        )
        self._file.add(self._journal.records[-1])

    def _elapsed_s(self) -> float:
        return self._clock_s() - self._start_s

    def _report(self, waiting_s: float = 0.0) -> None:
        attempt = self._file.tries[-1]
        counted = len(counted_rounds(self._plan, attempt.rounds))
        self._on_progress(Progress(attempt.number, counted, self._plan.rounds_needed, waiting_s))
