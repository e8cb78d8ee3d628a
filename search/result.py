"""A finished search on disk.

- `search.json`: budget, space, what was evaluated in order, the best, and a checksum
- `evaluations.csv`: the same rows for a spreadsheet, or for `profile-device --architectures`
- `evaluations.jsonl`: the journal, which a search that was stopped goes on from

History of the schema:

1. The first.
2. The terms of a loss by name.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import read_signed_json, whole_file, write_signed_json
from autotinybert.values import items, mapping, number, text
from device_profiles.journal import Journal
from search.evaluation import Evaluation
from supernet.architecture import ARCHITECTURE_FIELDS, Architecture

SCHEMA_VERSION = 2

SEARCH_FILE = "search.json"
EVALUATIONS_FILE = "evaluations.csv"
JOURNAL_FILE = "evaluations.jsonl"
SEARCH_FILES = (SEARCH_FILE, EVALUATIONS_FILE, JOURNAL_FILE)

_REMEDY = "search again with search-architecture --overwrite"

# What reading a JSON value of another form may raise.
_UNREADABLE = (LookupError, TypeError, ValueError, OverflowError, AttributeError)


@dataclass(frozen=True)
class Candidate:
    """An evaluated architecture, and what is predicted of it.

    Attributes:
        evaluation: its held-out loss.
        latency_ms: the expected value of the budget's statistic.
        high_ms: its upper bound.
    """

    evaluation: Evaluation
    latency_ms: float
    high_ms: float

    @property
    def architecture(self) -> Architecture:
        """Its shape."""
        return self.evaluation.architecture

    @property
    def loss(self) -> float:
        """Its held-out loss."""
        return self.evaluation.score.loss


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        candidates: everything evaluated, in the order proposed.
        limit_ms: the budget.
        statistic: of what.
        facts: JSON values: method, space, sizes, why it ended, and so on.
    """

    candidates: Sequence[Candidate]
    limit_ms: float
    statistic: str
    facts: Mapping[str, Any]

    def ranked(self) -> list[Candidate]:
        """Best first."""
        return sorted(self.candidates, key=lambda found: (found.loss, found.architecture))


def read_evaluations(journal: Journal) -> dict[Architecture, Evaluation]:
    """What a journal knows.

    Raises:
        DamagedFileError: if it holds something else.
    """
    known: dict[Architecture, Evaluation] = {}
    for line, record in enumerate(journal.records, start=1):
        try:
            if record["kind"] != "evaluation":
                raise ValueError(f"unknown kind {record['kind']!r}")
            found = Evaluation.from_json(record)
        except _UNREADABLE as error:
            raise DamagedFileError(
                f"{journal.path} line {line} is no evaluation ({error}): remove the "
                "folder and search again"
            ) from error
        known[found.architecture] = found
    return known


def save_search(folder: Path, result: SearchResult) -> None:
    """Writes `evaluations.csv` and `search.json`.

    Raises:
        InputError: if the folder cannot be written.
    """
    with whole_file(folder / EVALUATIONS_FILE) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            (*ARCHITECTURE_FIELDS, "held_out_loss", "predicted_ms", "predicted_high_ms")
        )
        for found in result.candidates:
            values = (found.loss, found.latency_ms, found.high_ms)
            writer.writerow((*found.architecture.row, *(f"{value:.6f}" for value in values)))
    write_signed_json(
        folder / SEARCH_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "search-result",
            "limit_ms": result.limit_ms,
            "statistic": result.statistic,
            "best": str(result.ranked()[0].architecture),
            "candidates": [
                {
                    **found.evaluation.to_json(),
                    "predicted_ms": found.latency_ms,
                    "predicted_high_ms": found.high_ms,
                }
                for found in result.candidates
            ],
            "facts": dict(result.facts),
        },
    )


def load_search(folder: Path) -> SearchResult:
    """Reads a search back and checks it.

    Raises:
        InputError: if the folder holds none, or one of a later version.
        DamagedFileError: if it was torn, truncated or edited.
    """
    path = folder / SEARCH_FILE
    if not path.exists():
        raise InputError(f"no finished search in {folder}: make one with search-architecture")
    document = read_signed_json(
        path, kind="search-result", schema_version=SCHEMA_VERSION, remedy=_REMEDY
    )
    try:
        candidates = [
            Candidate(
                Evaluation.from_json(row),
                number(row["predicted_ms"], lowest=0),
                number(row["predicted_high_ms"], lowest=0),
            )
            for row in items(document["candidates"], mapping)
        ]
        if len({frozenset(found.evaluation.score.terms) for found in candidates}) > 1:
            raise ValueError("losses of different terms")
        return SearchResult(
            candidates,
            number(document["limit_ms"], lowest=0),
            text(document["statistic"]),
            mapping(document["facts"]),
        )
    except _UNREADABLE as error:
        raise DamagedFileError(f"{path} is no search result ({error}): {_REMEDY}") from error
