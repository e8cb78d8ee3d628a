"""Works through a plan with any worker, and journals every visit before it goes on.

All state is in the journal. Which visit comes next follows from the records alone, so a campaign
that was killed goes on exactly where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from autotinybert.errors import InputError
from device_profiles.journal import Journal
from device_profiles.machine import key_differences, measurement_key
from device_profiles.protocol import Protocol as MeasuringProtocol
from device_profiles.quality import disturbance
from device_profiles.rows import rows_of
from device_profiles.target import Configuration
from device_profiles.visits import CampaignRecord
from profiler.growth import Grow, growth_record
from profiler.outage import Outage, nameless_cause
from profiler.plan import Plan
from profiler.rounds import due, why_hopeless

# Times among a visit's facts that decisions rest on.
_CHECKED_FACTS = ("held_ns", "waited_ns", "steal_ms")


class VisitFailedError(Exception):
    """A configuration could not be measured; the worker can go on."""


class WorkerLostError(Exception):
    """The worker is gone or silent; a fresh one is needed."""


class ConnectionLostError(WorkerLostError):
    """The way to the worker is gone, which says nothing about what was being measured."""


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
            ConnectionLostError: if it may still be there and only cannot be reached.
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
    grow: Grow | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    sleep_s: Callable[[float], None] = time.sleep,
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
        grow: asked once nothing is due: more to measure, or why the campaign ends. A plan that
            grows cannot be shortened.
        on_progress: told after every visit.
        sleep_s: waits, before an attempt to reach a worker whose connection was lost.

    Raises:
        InputError: if the journal belongs to another plan or machine.
        WorkError: if the connection to the workers stays lost.
    """
    campaign = _Campaign(plan, protocol, journal, clock_s, on_progress, sleep_s)
    campaign.begin(host)
    shorten_plan = shorten_plan and time_limit_s is not None and grow is None
    campaign.run(open_worker, time_limit_s, shorten_plan=shorten_plan, grow=grow)
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
        sleep_s: Callable[[float], None],
    ) -> None:
        self._outage = Outage(sleep_s)
        self._plan = plan
        self._protocol = protocol
        self._journal = journal
        self._on_progress = on_progress
        self.record = CampaignRecord.from_journal(journal.records)
        self._clock_s = clock_s
        # Time goes on from where the last session left it: pauses do not count.
        self._start_s = clock_s() - self.record.elapsed_s

    def begin(self, host: Mapping[str, Any]) -> None:
        """Journals the plan and the machine, or checks that they are those journalled.

        Raises:
            InputError: if the journal is of another plan or machine.
        """
        planned = self._plan.configurations
        if not self.record.configurations:
            self._append(
                {
                    "kind": "campaign",
                    "configurations": [value.to_json() for value in planned],
                    "measurement_key": measurement_key(host),
                }
            )
        elif self.record.configurations[: self.record.begun_with] != planned:
            raise InputError(f"{self._journal.path} is of another plan: choose another --out")
        self._check_machine(host)

    def _check_machine(self, host: Mapping[str, Any]) -> None:
        differences = key_differences(self.record.key, measurement_key(host))
        if differences:
            raise InputError(
                f"this machine is not as it was when {self._journal.path} was begun "
                f"({'; '.join(differences)}): start anew in another --out"
            )

    def run(
        self,
        open_worker: Callable[[], Worker],
        time_limit_s: float | None,
        *,
        shorten_plan: bool,
        grow: Grow | None,
    ) -> None:
        """Visits until a reason to stop is there, block by block, each with a fresh worker."""
        limit_s = math.inf if time_limit_s is None else time_limit_s
        while not self.record.stopped:
            if not self.record.pending():
                if shorten_plan and self.record.rounds:
                    self._shorten(limit_s)
                if not self._begin_round(in_order=shorten_plan):
                    self._end_or_grow(limit_s, grow)
                    continue
            worker = self._reach(open_worker)
            try:
                self._check_machine(worker.host)
                self._run_block(worker, limit_s, shorten_plan=shorten_plan)
            except ConnectionLostError as error:
                self._outage.lost(str(error))
            finally:
                worker.close()

    def _end_or_grow(self, limit_s: float, grow: Grow | None) -> None:
        """Journals why the campaign ends, or what is added to it."""
        if grow is None:
            self._append({"kind": "stopped", "reason": self._why_done()})
            return
        plan, protocol, done = self._plan, self._protocol, self._why_done()
        self._append(growth_record(grow(self.record), self.record, plan, protocol, limit_s, done))

    def _reach(self, open_worker: Callable[[], Worker]) -> Worker:
        """Opens a worker; if the connection was lost, waits for it and journals its return."""
        while True:  # bounded: an outage can only be waited for so often
            self._outage.wait()
            try:
                worker = open_worker()
            except ConnectionLostError as error:
                self._outage.lost(str(error))
                continue
            if self._outage.losses:
                # The time without a connection is a pause, as one between two sessions is.
                self._start_s = self._clock_s() - self.record.elapsed_s
                self._append(
                    {
                        "kind": "reconnected",
                        "attempts": self._outage.losses,
                        "reason": nameless_cause(self._outage.reason),
                    }
                )
            return worker

    def _run_block(self, worker: Worker, limit_s: float, *, shorten_plan: bool) -> None:
        """Visits the next part of the round under way."""
        pending = self.record.pending()
        blocks_left = -(-len(pending) // self._protocol.block_size)
        # Blocks of nearly equal size: a short one could not be judged slow.
        chunk = pending[: -(-len(pending) // blocks_left)]
        block = self.record.blocks + 1
        left = len(pending)
        for index in chunk:
            if self._is_time_up(index, limit_s, shorten_plan=shorten_plan):
                return
            left -= 1
            if not self._visit(worker, index, block, left, limit_s):
                return

    def _is_time_up(self, index: int, limit_s: float, *, shorten_plan: bool) -> bool:
        """Whether to stop before this visit; if so, journals what becomes of the rest."""
        elapsed_s = self._elapsed_s()
        hopeless = why_hopeless(self.record)
        if hopeless:
            self._append({"kind": "stopped", "reason": hopeless})
            return True
        if elapsed_s > limit_s:
            self._append({"kind": "stopped", "reason": f"time limit of {limit_s:g} s"})
            return True
        # Half a round is kept back for rows that need more visits.
        share_s = limit_s / (self._protocol.planned_visits + 0.5)
        if shorten_plan and self.record.rounds[-1].number == 1 and elapsed_s > share_s:
            kept = self._plan.shortened(index)
            if kept <= index:
                self._append({"kind": "cut", "configurations": kept})
                return True
        return False

    def _shorten(self, limit_s: float) -> None:
        """Cuts the plan again if the rounds to come would not fit, the machine being slower."""
        rounds_left = self._protocol.planned_visits - self.record.rounds[-1].number
        planned = self.record.num_planned
        if rounds_left < 1:
            return
        last = self.record.rounds[-1].number
        visits = self.record.visits
        now_s = self.record.elapsed_s
        round_s = now_s - next((visit.started_s for visit in visits if visit.round == last), now_s)
        fitting_s = (limit_s - now_s) / rounds_left
        if round_s > max(fitting_s, 0.0):
            kept = self._plan.shortened(int(planned * max(fitting_s, 0) / round_s))
            if kept < planned:
                self._append({"kind": "cut", "configurations": kept})

    def _why_done(self) -> str:
        doubtful = [row for row in rows_of(self.record, self._protocol) if row.verdict != "ok"]
        if not doubtful:
            return "every row is ok"
        are = "rows are" if len(doubtful) > 1 else "row is"
        return f"{len(doubtful)} {are} not ok after all the visits there may be"

    def _visit(self, worker: Worker, index: int, block: int, left: int, limit_s: float) -> bool:
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
            result = worker.visit(self.record.configurations[index], self._protocol)
            outcome = {"kind": "visit", **judged_visit(result, self._protocol)}
        except VisitFailedError as error:
            outcome = {"kind": "failure", "error": str(error)}
        except ConnectionLostError:
            raise  # the visit was not made, and is still due
        except WorkerLostError as error:
            outcome = {"kind": "failure", "error": str(error)}
            alive = False
        self._append({**common, **outcome, "elapsed_s": round(self._elapsed_s(), 3)})
        self._outage.steady()
        self._on_progress(self._progress(left, limit_s))
        return alive

    def _elapsed_s(self) -> float:
        return self._clock_s() - self._start_s

    def _begin_round(self, *, in_order: bool) -> bool:
        """Journals the next round; returns False if there is nothing left to visit."""
        number = len(self.record.rounds) + 1
        indices = due(self.record, self._plan, self._protocol, number)
        if not indices:
            return False
        # A plan that may be cut short is measured from its beginning; it is evenly spread itself.
        order = indices if in_order and number == 1 else self._plan.shuffled(number, indices)
        self._append({"kind": "round", "round": number, "order": order})
        return True

    def _append(self, record: Mapping[str, Any]) -> None:
        self._journal.append(record)
        self.record.add(self._journal.records[-1])

    def _progress(self, left_in_round: int, limit_s: float) -> Progress:
        done = len(self.record.visits) + sum(map(len, self.record.failures.values()))
        number = self.record.rounds[-1].number
        of_stage = number - self.record.stage.rounds_before
        rounds_left = max(self._protocol.planned_visits - of_stage, 0)
        a_round = min(len(self.record.rounds[-1].order), self.record.num_planned)
        left = left_in_round + rounds_left * a_round
        elapsed_s = self.record.elapsed_s
        return Progress(
            visits_done=done,
            visits_planned=done + left,
            round=number,
            remaining_s=max(min(left * elapsed_s / done, limit_s - elapsed_s), 0.0),
        )


def checked_visit(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker sent, if it is what a visit gives: nothing else may enter a journal.

    Raises:
        WorkerLostError: if it is anything else.
    """
    runs_ns, facts = result.get("runs_ns"), result.get("facts")
    if not (_are_runs(runs_ns) and isinstance(facts, Mapping)):
        raise WorkerLostError("it sent a visit without timed runs")
    for name in _CHECKED_FACTS:
        value = facts.get(name)
        if value is not None and not (type(value) in (int, float) and 0 <= value < math.inf):
            raise WorkerLostError(f"it sent a visit whose {name} is no time")
    if "end_to_end_ns" in facts and not _are_runs(facts["end_to_end_ns"]):
        raise WorkerLostError("it sent a visit whose end_to_end_ns are no timed runs")
    return {"runs_ns": list(runs_ns), "facts": dict(facts)}


def _are_runs(value: object) -> TypeGuard[Sequence[int]]:
    return (
        isinstance(value, Sequence)
        and len(value) > 0
        and all(type(ns) is int and ns > 0 for ns in value)
    )


def judged_visit(result: Mapping[str, Any], protocol: MeasuringProtocol) -> dict[str, Any]:
    """What a worker sent, checked, with `disturbed` if something took the core meanwhile.

    It is judged by how long the runs waited and never by how fast they were, so that leaving
    disturbed visits out favours no configuration.

    Raises:
        WorkerLostError: if it is not what a visit gives.
    """
    found = checked_visit(result)
    disturbed = disturbance(
        timed_ns=sum(found["runs_ns"]),
        waited_ns=found["facts"].get("waited_ns"),
        steal_ms=found["facts"].get("steal_ms"),
        most_waiting_share=protocol.most_waiting_share,
    )
    return {**found, "disturbed": disturbed} if disturbed else found
