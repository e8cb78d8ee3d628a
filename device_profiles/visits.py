"""What a campaign's journal says: visits, failures, blocks, and the rows that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autotinybert.errors import DamagedFileError
from autotinybert.values import integer, items, mapping, number, text
from device_profiles.measurements import MeasuredRow
from device_profiles.protocol import Protocol
from device_profiles.quality import (
    PERCENTILES,
    block_factors,
    judge,
    percentiles,
    quiet_latency,
    samples_needed,
)
from device_profiles.target import Configuration

# A configuration that failed this often is not visited again.
MAX_FAILURES = 2


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
        facts: what else the measuring process noted (warm-up, build time, steal, switches).
    """

    configuration: int
    round: int
    block: int
    runs_ns: tuple[int, ...]
    started_s: float
    facts: Mapping[str, Any]

    @property
    def minimum_ns(self) -> int:
        """The fastest run."""
        return min(self.runs_ns)


@dataclass(frozen=True)
class Round:
    """A round as it was planned when it began.

    Attributes:
        number: from 1.
        order: the indices of the configurations that are due, in the order of their visits.
    """

    number: int
    order: tuple[int, ...]


@dataclass
class CampaignRecord:
    """A campaign so far, as its journal tells it.

    Attributes:
        configurations: the plan.
        key: the measurement key of the machine.
        rounds: those begun.
        visits: in the order made.
        failures: what each configuration failed with, by its index.
        cut: how many configurations are left after `--minutes` cut the plan short, or None.
        blocks: how many measuring processes have made visits.
        elapsed_s: how long the campaign has run, pauses left out.
        stopped: why it ended; empty while it goes on.
    """

    configurations: tuple[Configuration, ...] = ()
    key: Mapping[str, Any] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    failures: dict[int, list[str]] = field(default_factory=dict)
    cut: int | None = None
    blocks: int = 0
    elapsed_s: float = 0.0
    stopped: str = ""
    _done_in_round: set[tuple[int, int]] = field(default_factory=set)

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
            self.key = mapping(record["measurement_key"])
        elif kind == "round":
            order = tuple(items(record["order"], self._index))
            self.rounds.append(Round(integer(record["round"], lowest=1), order))
        elif kind in ("visit", "failure"):
            self._add_visit(kind, record)
        elif kind == "cut":
            self.cut = integer(record["configurations"], highest=len(self.configurations))
        elif kind == "stopped":
            self.stopped = text(record["reason"])
        else:
            raise ValueError(f"unknown kind {kind!r}")

    def _add_visit(self, kind: str, record: Mapping[str, Any]) -> None:
        configuration = self._index(record["configuration"])
        round_number = integer(record["round"], lowest=1)
        block = integer(record["block"], lowest=1)
        if kind == "visit":
            runs_ns = tuple(items(record["runs_ns"], _run_ns))
            if not runs_ns:
                raise ValueError("a visit without timed runs")
            self.visits.append(
                Visit(
                    configuration,
                    round_number,
                    block,
                    runs_ns,
                    number(record["started_s"], lowest=0),
                    mapping(record["facts"]),
                )
            )
        else:
            self.failures.setdefault(configuration, []).append(text(record["error"]))
        self._done_in_round.add((round_number, configuration))
        self.blocks = max(self.blocks, block)
        self.elapsed_s = number(record["elapsed_s"], lowest=0)

    def _index(self, value: object) -> int:
        return integer(value, highest=len(self.configurations) - 1)

    @property
    def num_planned(self) -> int:
        """How many configurations the plan has, less those that were cut."""
        return len(self.configurations) if self.cut is None else self.cut

    def pending(self) -> list[int]:
        """What the round under way has still to visit, in order."""
        if not self.rounds:
            return []
        current = self.rounds[-1]
        return [
            index
            for index in current.order
            if index < self.num_planned and (current.number, index) not in self._done_in_round
        ]

    def given_up(self, index: int) -> bool:
        """Whether a configuration failed so often that it is not visited again."""
        return len(self.failures.get(index, ())) >= MAX_FAILURES


def factors_of_blocks(visits: Sequence[Visit]) -> dict[int, float]:
    """How much slower than quiet blocks each block was."""
    return block_factors(
        np.array([visit.configuration for visit in visits], dtype=np.int64),
        np.array([visit.block for visit in visits], dtype=np.int64),
        np.array([visit.minimum_ns for visit in visits], dtype=np.float64),
    )


def rows_of(campaign: CampaignRecord, protocol: Protocol) -> list[MeasuredRow]:
    """One row for each configuration of the plan, judged, in the plan's order."""
    factors = factors_of_blocks(campaign.visits)
    visits_of: list[list[Visit]] = [[] for _ in campaign.configurations]
    for visit in campaign.visits:
        visits_of[visit.configuration].append(visit)
    return [
        _row(
            campaign.configurations[index],
            visits,
            factors,
            campaign.failures.get(index, []),
            protocol,
        )
        for index, visits in enumerate(visits_of[: campaign.num_planned])
    ]


def _missing_percentiles(runs: int) -> str:
    """Why some percentiles of a row that is `ok` are not there."""
    missing = [(p, samples_needed(p)) for p in PERCENTILES if runs < samples_needed(p)]
    needs = ", ".join(f"p{percentile} {needed}" for percentile, needed in missing)
    return f"{runs} runs; needed for {needs}" if missing else ""


def _row(
    configuration: Configuration,
    visits: Sequence[Visit],
    factors: Mapping[int, float],
    failures: Sequence[str],
    protocol: Protocol,
) -> MeasuredRow:
    accepted = [visit for visit in visits if factors[visit.block] <= protocol.slow_factor]
    minima_ms = [visit.minimum_ns / 1e6 for visit in accepted]
    runs_ms = [elapsed_ns / 1e6 for visit in accepted for elapsed_ns in visit.runs_ns]
    judgement = judge(
        minima_ms,
        visits=protocol.visits,
        agreement=protocol.agreement,
        rejected_visits=len(visits) - len(accepted),
    )
    reason = judgement.reason or _missing_percentiles(len(runs_ms))
    if judgement.verdict == "rejected" and failures:
        reason = f"failed on the device: {failures[-1]}"
    if judgement.verdict == "rejected":
        latency_ms, percentiles_ms = None, dict.fromkeys(PERCENTILES)
    else:
        latency_ms, percentiles_ms = quiet_latency(minima_ms, protocol.visits), percentiles(runs_ms)
    return MeasuredRow(
        configuration,
        latency_ms,
        percentiles_ms,
        len(accepted),
        len(runs_ms),
        judgement.verdict,
        reason,
    )
