"""Works through a plan with any worker, and journals every visit before it goes on.

All state is in the journal. Which visit comes next follows from the records alone, so a campaign
that was killed goes on exactly where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from autotinybert.errors import InputError
from device_profiles.journal import Journal
from device_profiles.machine import key_differences, measurement_key
from device_profiles.protocol import Protocol as MeasuringProtocol
from device_profiles.target import Configuration
from device_profiles.visits import CampaignRecord, Visit, rows_of
from profiler.plan import Plan


class VisitFailedError(Exception):
    """A configuration could not be measured; the worker can go on."""


class WorkerLostError(Exception):
    """The worker is gone or silent; a fresh one is needed."""


class Worker(Protocol):
    """Whatever measures: a child process, one on another machine, or a fake."""

    @property
    def host(self) -> Mapping[str, Any]:
        """Facts of the machine that it measures."""

    def visit(self, configuration: Configuration, protocol: MeasuringProtocol) -> Mapping[str, Any]:
        """Makes one visit and returns `runs_ns` and `facts`.

        Raises:
            VisitFailedError: if the configuration could not be measured.
            WorkerLostError: if the worker is gone.
        """

    def close(self) -> None:
        """Ends the worker."""


@dataclass(frozen=True)
class Progress:
    """How far a campaign is.

    Attributes:
        visits_done: visits made, failed ones included.
        visits_planned: visits planned as things stand.
        round: the round under way.
        remaining_s: a guess at the time left.
    """

    visits_done: int
    visits_planned: int
    round: int
    remaining_s: float


def run_campaign(
    plan: Plan,
    protocol: MeasuringProtocol,
    journal: Journal,
    open_worker: Callable[[], Worker],
    *,
    host: Mapping[str, Any],
    clock_s: Callable[[], float],
    time_limit_s: float | None = None,
    shorten_plan: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> CampaignRecord:
    """Measures what the plan still lacks.

    Args:
        plan: what to measure.
        protocol: how.
        journal: what was measured so far; every visit is added to it.
        open_worker: starts a fresh worker.
        host: facts of the machine that the workers measure.
        clock_s: reads seconds.
        time_limit_s: when to stop, pauses left out; rows that lack visits then are rejected.
        shorten_plan: drop configurations from the end of the plan in the first round, so that
            the others get all their visits within the time limit.
        on_progress: told after every visit.

    Raises:
        InputError: if the journal belongs to another plan or machine.
    """
    campaign = _Campaign(plan, protocol, journal, clock_s, on_progress)
    campaign.begin(host)
    if not campaign.record.stopped:
        campaign.run(
            open_worker, time_limit_s=time_limit_s, shorten_plan=shorten_plan and bool(time_limit_s)
        )
    return campaign.record


class _Campaign:
    """One session's work on a campaign."""

    def __init__(
        self,
        plan: Plan,
        protocol: MeasuringProtocol,
        journal: Journal,
        clock_s: Callable[[], float],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._plan = plan
        self._protocol = protocol
        self._journal = journal
        self._on_progress = on_progress
        self.record = CampaignRecord.from_journal(journal.records)
        self._took_s = {visit.configuration: _duration_s(visit) for visit in self.record.visits}
        self._clock_s = clock_s
        # Time goes on from where the last session left it: pauses do not count.
        self._start_s = clock_s() - self.record.elapsed_s

    def begin(self, host: Mapping[str, Any]) -> None:
        """Journals the plan and the machine, or checks that they are those journalled.

        Raises:
            InputError: if the journal is of another plan or machine.
        """
        if not self.record.configurations:
            self._append(
                {
                    "kind": "campaign",
                    "configurations": [value.to_json() for value in self._plan.configurations],
                    "measurement_key": measurement_key(host),
                }
            )
        elif self.record.configurations != self._plan.configurations:
            raise InputError(f"{self._journal.path} is of another plan: choose another --out")
        differences = key_differences(self.record.key, measurement_key(host))
        if differences:
            raise InputError(
                f"this machine is not the one that {self._journal.path} was begun on "
                f"({'; '.join(differences)}): start anew with --overwrite"
            )

    def run(
        self,
        open_worker: Callable[[], Worker],
        *,
        time_limit_s: float | None,
        shorten_plan: bool,
    ) -> None:
        """Visits until a reason to stop is there, block by block, each with a fresh worker."""
        while not self.record.stopped:
            if not self.record.pending() and not self._begin_round(in_order=shorten_plan):
                self._append({"kind": "stopped", "reason": "every row has its visits"})
                return
            worker = open_worker()
            try:
                self._run_block(worker, time_limit_s, shorten_plan=shorten_plan)
            finally:
                worker.close()

    def _run_block(self, worker: Worker, time_limit_s: float | None, *, shorten_plan: bool) -> None:
        """Visits the rest of the block under way."""
        current = self.record.rounds[-1]
        pending = self.record.pending()
        position = len(current.order) - len(pending)
        # A block ends at a multiple of its size, wherever a resumed session entered it.
        size = self._protocol.block_size
        block = current.first_block + position // size
        for index in pending[: size - position % size]:
            if time_limit_s is not None and self._is_time_up(
                index, time_limit_s, shorten_plan=shorten_plan
            ):
                return
            if not self._visit(worker, index, block):
                return

    def _is_time_up(self, index: int, time_limit_s: float, *, shorten_plan: bool) -> bool:
        """Whether to stop before this visit; if so, journals what becomes of the rest."""
        elapsed_s = self._elapsed_s()
        if shorten_plan and self.record.rounds[-1].number == 1:
            # Half a round is kept back for rows that need more visits.
            share_s = time_limit_s / (self._protocol.visits + 0.5)
            if elapsed_s > share_s and index >= self._plan.num_required:
                self._append({"kind": "cut", "configurations": index})
                return True
        elif elapsed_s > time_limit_s:
            self._append({"kind": "stopped", "reason": f"time limit of {time_limit_s:g} s"})
            return True
        return False

    def _visit(self, worker: Worker, index: int, block: int) -> bool:
        """Makes one visit and journals it; returns whether the worker is still there."""
        started_s = self._elapsed_s()
        common: dict[str, Any] = {
            "configuration": index,
            "round": self.record.rounds[-1].number,
            "block": block,
            "started_s": round(started_s, 3),
        }
        alive = True
        try:
            result = worker.visit(self._plan.configurations[index], self._protocol)
            outcome = {"kind": "visit", "runs_ns": result["runs_ns"], "facts": result["facts"]}
        except VisitFailedError as error:
            outcome = {"kind": "failure", "error": str(error)}
        except WorkerLostError as error:
            outcome = {"kind": "failure", "error": str(error)}
            alive = False
        self._append({**common, **outcome, "elapsed_s": round(self._elapsed_s(), 3)})
        if outcome["kind"] == "visit":
            self._took_s[index] = _duration_s(self.record.visits[-1])
        self._on_progress(self._progress())
        return alive

    def _elapsed_s(self) -> float:
        return self._clock_s() - self._start_s

    def _begin_round(self, *, in_order: bool) -> bool:
        """Journals the next round; returns False if there is nothing left to visit."""
        number = len(self.record.rounds) + 1
        due = self._due(number)
        if not due:
            return False
        # A plan that may be cut short is measured from its beginning; it is evenly spread itself.
        order = due if in_order and number == 1 else self._plan.shuffled(number, due)
        first_block = 1
        if self.record.rounds:
            last = self.record.rounds[-1]
            first_block = last.first_block + -(-len(last.order) // self._protocol.block_size)
        self._append(
            {
                "kind": "round",
                "round": number,
                "order": order,
                "first_block": first_block,
            }
        )
        return True

    def _due(self, round_number: int) -> list[int]:
        """Everything in the first k rounds; then the rows that are not `ok` yet."""
        if round_number > self._protocol.max_visits:
            return []
        due = [index for index in range(self.record.num_planned) if not self.record.given_up(index)]
        if round_number > self._protocol.visits:
            rows = rows_of(self.record, self._protocol)
            due = [index for index in due if rows[index].verdict != "ok"]
        return due

    def _append(self, record: Mapping[str, Any]) -> None:
        self._journal.append(record)
        self.record.add(self._journal.records[-1])

    def _progress(self) -> Progress:
        done = len(self.record.visits) + sum(map(len, self.record.failures.values()))
        number = self.record.rounds[-1].number
        rounds_left = max(self._protocol.visits - number, 0)
        left = self.record.pending() + list(range(self.record.num_planned)) * rounds_left
        return Progress(
            visits_done=done,
            visits_planned=done + len(left),
            round=number,
            remaining_s=self._remaining_s(left),
        )

    def _remaining_s(self, left: Sequence[int]) -> float:
        """The time that the visits left will take, each as long as its like took before."""
        if not self._took_s:
            return 0.0
        mean_s = sum(self._took_s.values()) / len(self._took_s)
        timed_s = sum(self._took_s.values()) * len(self.record.visits) / len(self._took_s)
        overhead = self.record.elapsed_s / timed_s
        return overhead * sum(self._took_s.get(index, mean_s) for index in left)


def _duration_s(visit: Visit) -> float:
    return sum(visit.runs_ns) / 1e9
