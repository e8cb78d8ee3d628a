"""What the journal of verifications says of one file: visits, rounds, tries, the verdict.

- `verification`: the first line; the plan, less the file
- `visit`, `failure`: one visit of a round of a try of a file
- `void`: why a try says nothing, and how long is waited before the next
- `verdict`: what became of a file; `undecided` may be followed by further tries
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.values import integer, items, number, text

Outcome = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Round:
    """A whole round: one visit of the file and one of every reference, by one process.

    Attributes:
        number: within its try, from 1.
        runs_ns: every timed run of each visit, in order, by the name of what was visited; the
            visits are in the order in which they were made.
        started_s: when each began, since the verification did, pauses left out.
    """

    number: int
    runs_ns: Mapping[str, tuple[int, ...]]
    started_s: Mapping[str, float]


@dataclass
class Try:
    """Rounds that are judged together.

    Attributes:
        number: from 1.
        rounds: the whole ones.
        failures: what a visit of each failed round failed with.
        disturbed: what took the core away in each round that ended for it; those do not count.
        rounds_begun: whole, failed and disturbed ones.
        void: why it says nothing; empty where it does or goes on.
        wait_s: how long is waited after it.
    """

    number: int
    rounds: list[Round] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    disturbed: list[str] = field(default_factory=list)
    void: str = ""
    wait_s: float = 0.0

    @property
    def rounds_begun(self) -> int:
        """How many rounds ended, in one way or the other."""
        return len(self.rounds) + len(self.failures) + len(self.disturbed)


@dataclass
class FileRecord:
    """One file so far.

    Attributes:
        sha256: which file.
        names: what a whole round visits.
        tries: those since it was last left undecided.
        outcome: what became of it; None while it goes on.
        reason: why, in words.
        elapsed_s: how long it was measured and waited for, pauses left out.
    """

    sha256: str
    names: Collection[str]
    tries: list[Try] = field(default_factory=list)
    outcome: Outcome | None = None
    reason: str = ""
    elapsed_s: float = 0.0
    _runs_ns: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _started_s: dict[str, float] = field(default_factory=dict)
    _last_try: int = 0

    @classmethod
    def from_journal(
        cls, records: Sequence[Mapping[str, Any]], sha256: str, names: Collection[str]
    ) -> FileRecord:
        """Reads what a journal says of a file.

        Raises:
            DamagedFileError: if a record is not of a kind that a verification writes.
        """
        file = cls(sha256, names)
        for line, record in enumerate(records, start=1):
            try:
                file.add(record)
            except (LookupError, TypeError, ValueError) as error:
                raise DamagedFileError(
                    f"journal line {line} is no record of a verification ({error}): verify anew"
                ) from error
        return file

    @property
    def current(self) -> Try:
        """The try under way, or the one that comes next."""
        if self.outcome is None and self.tries and not self.tries[-1].void:
            return self.tries[-1]
        return Try(self._last_try + 1)

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in one record of the journal; those of other files are passed over.

        Raises:
            LookupError, TypeError, ValueError: if it is not of a kind that a verification writes.
        """
        kind = record["kind"]
        if kind == "verification" or record["model_sha256"] != self.sha256:
            return
        self.elapsed_s = number(record["elapsed_s"], lowest=0)
        if kind == "verdict":
            if record["outcome"] not in get_args(Outcome) or not self.tries:
                raise ValueError(f"no verdict {record['outcome']!r}")
            self.outcome, self.reason = record["outcome"], text(record["reason"])
            return
        attempt = self._try(integer(record["try"], lowest=1))
        if kind == "visit":
            self._add_visit(attempt, record)
        elif kind == "failure":
            attempt.failures.append(text(record["error"]))
            self._forget_round()
        elif kind == "void":
            attempt.void = text(record["reason"])
            attempt.wait_s = number(record["wait_s"], lowest=0)
        else:
            raise ValueError(f"unknown kind {kind!r}")

    def _try(self, number: int) -> Try:
        if self.outcome is not None:  # what follows an undecided verdict begins anew
            self.tries, self.outcome, self.reason = [], None, ""
        if not self.tries or self.tries[-1].number != number:
            self.tries.append(Try(number))
            self._last_try = number
            self._forget_round()
        return self.tries[-1]

    def _add_visit(self, attempt: Try, record: Mapping[str, Any]) -> None:
        name = record["of"]
        runs_ns = tuple(items(record["runs_ns"], integer))
        if name not in self.names or not runs_ns or min(runs_ns) < 1:
            raise ValueError(f"no visit of {name!r}")
        round_number, position = (integer(record[key], lowest=1) for key in ("round", "position"))
        started_s = number(record["started_s"], lowest=0)
        if position == 1:  # what a process that was killed left behind is not a round
            self._forget_round()
        if record.get("disturbed") is not None:
            attempt.disturbed.append(str(record["disturbed"]))
            self._forget_round()
            return
        self._runs_ns[name] = runs_ns
        self._started_s[name] = started_s
        if len(self._runs_ns) == len(self.names):
            attempt.rounds.append(Round(round_number, self._runs_ns, self._started_s))
            self._forget_round()

    def _forget_round(self) -> None:
        self._runs_ns, self._started_s = {}, {}


def check_journal(
    records: Sequence[Mapping[str, Any]], plan: Mapping[str, Any], path: object
) -> None:
    """Checks that a journal that was begun is of this plan.

    Raises:
        InputError: if it is of another.
    """
    if records and (records[0].get("kind") != "verification" or records[0].get("plan") != plan):
        raise InputError(
            f"{path} is of another budget, workload, target or profile: choose another --out"
        )
