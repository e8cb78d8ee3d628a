"""What a campaign's journal says: rounds, visits, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from autotinybert.errors import DamagedFileError
from autotinybert.values import integer, items, mapping, number, optional, text
from device_profiles.extras import EXTRA_KINDS, Extras
from device_profiles.target import Configuration
from device_profiles.verdicts import Cause

# A configuration that failed this often is not visited again.
MAX_FAILURES = 2

# Visits of a configuration that may be lost to a busy machine, in one round and in all.
_TRIES_IN_A_ROUND = 3
MAX_DISTURBED = 12

# Disturbed visits are made up for at the end of their round if they fill a block that can be
# judged; fewer are left to the visits that are planned beyond those of the label.
_FEWEST_TO_MAKE_UP = 5


def _configuration(value: object) -> Configuration:
    return Configuration.from_json(mapping(value))


def _run_ns(value: object) -> int:
    return integer(value, lowest=1)


@dataclass(frozen=True)
class Visit:
    """One visit: a session built, warmed up and timed in one process.

    Attributes:
        configuration: what was measured, as its index in the plan.
        round: a round visits every due configuration once.
        block: consecutive visits of one measuring process, counted over the whole campaign.
        runs_ns: every timed run, in order.
        started_s: since the campaign began, pauses left out.
        facts: what else the measuring process noted (warm-up, build time, waiting, steal, ...).
        disturbed: what took the core away meanwhile; None if nothing did.
    """

    configuration: int
    round: int
    block: int
    runs_ns: tuple[int, ...]
    started_s: float
    facts: Mapping[str, Any]
    disturbed: Cause | None = None

    @property
    def minimum_ns(self) -> int:
        """The fastest run."""
        return min(self.runs_ns)

    @property
    def probe_ns(self) -> int | None:
        """What a fixed piece of arithmetic took meanwhile: the clock rate; None if unknown."""
        found: int | None = self.facts.get("probe_ns")
        return found

    @property
    def end_to_end_ns(self) -> int | None:
        """The fastest run from ordinary memory to ordinary memory; None where it is no other."""
        return min(self.facts["end_to_end_ns"]) if "end_to_end_ns" in self.facts else None


@dataclass(frozen=True)
class Round:
    """A round as it was planned when it began.

    Attributes:
        number: from 1.
        order: the indices of the configurations that are due, in the order of their visits.
    """

    number: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """A part of the plan that is measured in rounds of its own, after what was there before.

    Attributes:
        first: the index of its first configuration.
        rounds_before: how many rounds had begun before it.
        elapsed_s: how long the campaign had run.
        lost_s: how much of that was lost.
    """

    first: int = 0
    rounds_before: int = 0
    elapsed_s: float = 0.0
    lost_s: float = 0.0


@dataclass(frozen=True)
class Promise:
    """What a growing campaign promised at one moment.

    Attributes:
        configurations: how many were measured.
        elapsed_s: how long the campaign had run.
        error: the mean relative error to expect of predictions; None if that could not be told.
    """

    configurations: int
    elapsed_s: float
    error: float | None


@dataclass
class CampaignRecord:
    """A campaign so far, as its journal tells it.

    Attributes:
        configurations: the plan, and what was added to it.
        key: the measurement key of the machine.
        rounds: those begun.
        visits: in the order made.
        failures: what each configuration failed with, by its index.
        cut: how many configurations are left after `--minutes` cut the plan short, or None.
        blocks: how many measuring processes have made visits.
        elapsed_s: how long the campaign has run, pauses left out.
        lost_s: how much of that went into disturbed visits and into waiting for a quiet moment.
        stopped: why it ended; empty while it goes on.
        reconnections: how often a lost connection to the machine came back.
        extras: what was measured besides latencies, after that.
        begun_with: how many configurations the plan had before anything was added.
        stage: the part of the plan that is being measured; all of it, unless it grew.
        promises: of a campaign that grows, before each extension and at its end.
    """

    configurations: tuple[Configuration, ...] = ()
    begun_with: int = 0
    key: Mapping[str, Any] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    failures: dict[int, list[str]] = field(default_factory=dict)
    cut: int | None = None
    blocks: int = 0
    elapsed_s: float = 0.0
    lost_s: float = 0.0
    stopped: str = ""
    reconnections: int = 0
    extras: Extras = field(default_factory=Extras)
    stage: Stage = Stage()
    promises: list[Promise] = field(default_factory=list)
    _done_in_round: set[tuple[int, int]] = field(default_factory=set)
    _disturbed: Counter[tuple[int, int]] = field(default_factory=Counter)

    @classmethod
    def from_journal(cls, records: Sequence[Mapping[str, Any]]) -> CampaignRecord:
        """Reads the records of a journal.

        Raises:
            DamagedFileError: if one is not of a kind that a campaign writes.
        """
        campaign = cls()
        for line, record in enumerate(records, start=1):
            try:
                campaign.add(record)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise DamagedFileError(
                    f"journal line {line} is no record of a campaign ({error}): measure again"
                ) from error
        return campaign

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in one record of the journal.

        Raises:
            LookupError, TypeError, ValueError: if it is not of a kind that a campaign writes.
        """
        kind = record["kind"]
        if kind == "campaign":
            self.configurations = tuple(items(record["configurations"], _configuration))
            self.begun_with = len(self.configurations)
            self.key = mapping(record["measurement_key"])
        elif kind == "round":
            order = tuple(items(record["order"], self._index))
            self.rounds.append(Round(integer(record["round"], lowest=1), order))
        elif kind in ("visit", "failure"):
            self._add_visit(kind, record)
        elif kind == "cut":
            self.cut = integer(record["configurations"], highest=len(self.configurations))
        elif kind == "extended":
            self._extend(tuple(items(record["configurations"], _configuration)))
            self._add_promise(self.stage.first, record["promised_error"])
        elif kind == "stopped":
            self.stopped = text(record["reason"])
            if "promised_error" in record:
                self._add_promise(self.num_planned, record["promised_error"])
        elif kind == "reconnected":
            self.reconnections += 1
        elif kind in EXTRA_KINDS:
            self.extras.add(self._index(record["configuration"]), record)
        else:
            raise ValueError(f"unknown kind {kind!r}")

    def _extend(self, configurations: tuple[Configuration, ...]) -> None:
        if not self.configurations or self.cut is not None:
            raise ValueError("only a whole plan can be extended")
        if not configurations or set(configurations) & set(self.configurations):
            raise ValueError("an extension adds what is not in the plan yet")
        self.stage = Stage(len(self.configurations), len(self.rounds), self.elapsed_s, self.lost_s)
        self.configurations += configurations

    def _add_promise(self, configurations: int, error: object) -> None:
        known = optional(error, lambda value: number(value, lowest=0))
        self.promises.append(Promise(configurations, self.elapsed_s, known))

    def _add_visit(self, kind: str, record: Mapping[str, Any]) -> None:
        configuration = self._index(record["configuration"])
        round_number = integer(record["round"], lowest=1)
        block = integer(record["block"], lowest=1)
        if kind == "visit":
            runs_ns = tuple(items(record["runs_ns"], _run_ns))
            if not runs_ns:
                raise ValueError("a visit without timed runs")
            disturbed = record.get("disturbed")
            if disturbed is not None and disturbed not in get_args(Cause):
                raise ValueError(f"unknown disturbance {disturbed!r}")
            optional(mapping(record["facts"]).get("probe_ns"), _run_ns)
            if not items(mapping(record["facts"]).get("end_to_end_ns", [1]), _run_ns):
                raise ValueError("no end-to-end runs")
            started_s, facts = number(record["started_s"], lowest=0), mapping(record["facts"])
            visit = Visit(configuration, round_number, block, runs_ns, started_s, facts, disturbed)
            self.visits.append(visit)
            self._count_loss(visit, number(record["elapsed_s"], lowest=0))
        else:
            self.failures.setdefault(configuration, []).append(text(record["error"]))
        if kind == "failure" or not self.visits[-1].disturbed:
            self._done_in_round.add((round_number, configuration))
        self.blocks = max(self.blocks, block)
        self.elapsed_s = number(record["elapsed_s"], lowest=0)

    def _count_loss(self, visit: Visit, ended_s: float) -> None:
        if visit.disturbed:
            self._disturbed[visit.round, visit.configuration] += 1
            self.lost_s += ended_s - visit.started_s
        else:
            self.lost_s += number(visit.facts.get("held_ns", 0), lowest=0) / 1e9

    def _index(self, value: object) -> int:
        return integer(value, highest=len(self.configurations) - 1)

    @property
    def num_planned(self) -> int:
        """How many configurations the plan has by now, less those that were cut."""
        return len(self.configurations) if self.cut is None else self.cut

    def promises_document(self) -> list[dict[str, Any]]:
        """What a growing campaign promised, as its profile tells it."""
        return [
            {
                "shapes": len(
                    {c.architecture for c in self.configurations[: promise.configurations]}
                ),
                "elapsed_s": round(promise.elapsed_s, 3),
                "promised_error": promise.error,
            }
            for promise in self.promises
        ]

    def pending(self) -> list[int]:
        """What the round under way has still to visit, in order.

        Disturbed visits come last: by then the machine may be quiet again.
        """
        if not self.rounds:
            return []
        current = self.rounds[-1]
        tries = {index: self._disturbed[current.number, index] for index in current.order}
        # Who takes part in a pass is settled before it begins, so a resumed one goes on with it.
        for past in range(_TRIES_IN_A_ROUND):
            members = [index for index in current.order if tries[index] >= past]
            if past and len(members) < _FEWEST_TO_MAKE_UP:
                break
            left = [
                index
                for index in members
                if tries[index] == past
                and index < self.num_planned
                and (current.number, index) not in self._done_in_round
                and not (past and self.given_up(index))
            ]
            if left:
                return left
        return []

    def given_up(self, index: int) -> bool:
        """Whether a configuration failed or was disturbed too often to be visited again."""
        disturbed = sum(count for (_, which), count in self._disturbed.items() if which == index)
        return len(self.failures.get(index, ())) >= MAX_FAILURES or disturbed >= MAX_DISTURBED
