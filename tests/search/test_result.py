from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import write_signed_json
from device_profiles.journal import Journal
from device_profiles.measurements import architecture_columns
from device_profiles.table import read_table
from search.evaluation import Evaluation
from search.result import (
    EVALUATIONS_FILE,
    JOURNAL_FILE,
    SEARCH_FILE,
    Candidate,
    SearchResult,
    load_search,
    read_evaluations,
    save_search,
)
from supernet.architecture import Architecture, from_matrix
from supernet.score import HeldOutScore

SHAPES = [Architecture(layers, 128, 256, 12, 180) for layers in (3, 1, 4, 2)]
LOSSES = (0.5, 0.75, 0.25, 0.25)


def score_of(loss: float) -> HeldOutScore:
    return HeldOutScore({"scores": loss / 3, "hidden": 2 * loss / 3})


@pytest.fixture
def result() -> SearchResult:
    candidates = [
        Candidate(
            Evaluation(shape, HeldOutScore({"scores": loss / 3, "hidden": 2 * loss / 3}), 0.125),
            5.1,
            5.3,
        )
        for shape, loss in zip(SHAPES, LOSSES, strict=True)
    ]
    return SearchResult(candidates, 12.0, "p50", {"method": "evolved", "unverified": False})


def test_a_result_is_read_back_as_it_was_written(result: SearchResult, tmp_path: Path) -> None:
    save_search(tmp_path, result)
    assert {path.name for path in tmp_path.iterdir()} == {SEARCH_FILE, EVALUATIONS_FILE}
    assert load_search(tmp_path) == result
    assert json.loads((tmp_path / SEARCH_FILE).read_text())["best"] == "2-128-256-12-180"


def test_the_best_come_first_and_equal_ones_in_a_fixed_order(result: SearchResult) -> None:
    assert [found.architecture.num_layers for found in result.ranked()] == [2, 4, 3, 1]


def test_the_rows_are_valid_shapes_to_profile(result: SearchResult, tmp_path: Path) -> None:
    save_search(tmp_path, result)
    table = read_table(tmp_path / EVALUATIONS_FILE)
    assert from_matrix(architecture_columns(table)) == SHAPES
    with (tmp_path / EVALUATIONS_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["held_out_loss"]) for row in rows] == pytest.approx(LOSSES)
    assert {row["predicted_ms"] for row in rows} == {"5.100000"}
    assert {row["predicted_high_ms"] for row in rows} == {"5.300000"}


def test_a_folder_without_a_finished_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no finished search in .*: make one with"):
        load_search(tmp_path)


def test_a_torn_or_edited_result_is_refused(result: SearchResult, tmp_path: Path) -> None:
    save_search(tmp_path, result)
    path = tmp_path / SEARCH_FILE
    whole = path.read_text()
    for damaged in (whole[: len(whole) // 2], whole.replace("12.0", "13.0"), "[]", "{}", ""):
        path.write_text(damaged)
        with pytest.raises(DamagedFileError):
            load_search(tmp_path)
    path.write_text(whole)
    assert load_search(tmp_path) == result


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"candidates": [{"architecture": 7}]}, DamagedFileError),
        ({"candidates": None}, DamagedFileError),
        ({"limit_ms": "fast"}, DamagedFileError),
        ({"kind": "superplm"}, DamagedFileError),
        ({"schema_version": 99}, InputError),
    ],
)
def test_a_result_of_another_form_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[InputError]
) -> None:
    document = {
        "schema_version": 1,
        "kind": "search-result",
        "limit_ms": 12.0,
        "statistic": "p50",
        "candidates": [],
        "facts": {},
    }
    write_signed_json(tmp_path / SEARCH_FILE, {**document, **changes})
    with pytest.raises(error) as raised:
        load_search(tmp_path)
    assert type(raised.value) is error


def test_a_journal_tells_what_was_evaluated(result: SearchResult, tmp_path: Path) -> None:
    evaluations = [found.evaluation for found in result.candidates]
    with Journal(tmp_path / JOURNAL_FILE) as journal:
        for evaluation in evaluations:
            journal.append({"kind": "evaluation", **evaluation.to_json()})
    with Journal(tmp_path / JOURNAL_FILE) as journal:
        known = read_evaluations(journal)
    assert list(known) == SHAPES
    assert list(known.values()) == evaluations


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "visit"},
        {},
        {"kind": "evaluation"},
        {"kind": "evaluation", "architecture": 5, "scores_loss": 1, "hidden_loss": 1, "seconds": 1},
    ],
)
def test_a_journal_of_something_else_is_refused_by_line(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    with Journal(tmp_path / JOURNAL_FILE) as journal:
        journal.append(
            {
                "kind": "evaluation",
                **Evaluation(SHAPES[0], HeldOutScore({"hidden": 1}), 1).to_json(),
            }
        )
        journal.append(record)
        with pytest.raises(DamagedFileError, match="line 2 is no evaluation"):
            read_evaluations(journal)
