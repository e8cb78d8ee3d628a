"""The path of a user who has a fine-tuned classifier, on a bench in place of a device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from autotinybert.errors import DamagedFileError, InputError
from search.outcome import outcome_text
from search.path_checks import CheckedRequest
from search.pipeline_cli import run_path
from search.quality import Rung, bisect
from search.task_scores import SCORES_FILE, load_scores, scores_text
from supernet.corpus import load_corpus
from supernet.model_folder import load_model_folder

CheckedOf = Callable[..., CheckedRequest]


@pytest.fixture
def task_options(classifier_folder: Path, task_files: tuple[Path, Path]) -> dict[str, Any]:
    train, dev = task_files
    return {
        "teacher": str(classifier_folder),
        "corpus": "python-docs",
        "task": "csv",
        "train": train,
        "dev": dev,
        "speedup_reference": None,
        "sequence_length": None,
        "training_sequence_length": None,
    }


def test_the_path_ends_in_a_classifier_with_scores_of_teacher_winner_and_int8_file(
    tmp_path: Path,
    bench: Any,
    checked_of: CheckedOf,
    task_options: dict[str, Any],
) -> None:
    out = tmp_path / "out"
    checked = checked_of(
        **{**task_options, "max_latency_ms": None, "speedup": 1.2, "sequence_length": 128}
    )
    assert checked.request.budget.speedup_reference == checked.request.largest, "their own model"
    answer = run_path(out, checked, commands=bench.commands)
    assert answer.exit_code == 0
    model = load_model_folder(out / "model")
    assert (model.head_kind, model.labels) == ("classification", ("bad", "good"))
    scores = answer.data["scores"]
    assert [found["model"] for found in scores["models"]] == ["teacher", "fp32 file", "int8 file"]
    assert scores["examples"] == 60
    for found in scores["models"]:
        assert found["score_low"] <= found["score"] <= found["score_high"]
    assert scores["models"][0]["difference"] == 0.0
    shipped = scores["models"][1]
    assert scores["score_drop"] == pytest.approx(-shipped["difference"])
    assert scores["model_sha256"] == model.onnx_sha256
    said = outcome_text(answer.data)
    assert "accuracy on 60 texts" in said
    assert "logits" in json.dumps([o.name for o in _session(out / "model").get_outputs()])
    card = (out / "model" / "README.md").read_text()
    assert "Accuracy, teacher" in card
    assert "AutoModelForSequenceClassification" in card
    page = (out / "report.html").read_text()
    assert "Scores on your labels" in page
    corpus = load_corpus(out / "corpus")
    assert corpus.facts["task"] == "csv"
    assert len(corpus.splits["test"]) == 60
    assert len(corpus.splits["train"]) + len(corpus.splits["search"]) == 200
    again = run_path(out, checked, commands=bench.commands)
    assert again.data["finished_before"]


def _session(folder: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )


def test_the_fastest_within_a_quality_is_found_by_bisection(
    tmp_path: Path, bench: Any, checked_of: CheckedOf, task_options: dict[str, Any]
) -> None:
    """Anything is allowed to be lost: the fastest that is reachable wins."""
    out = tmp_path / "out"
    options = {**task_options, "max_latency_ms": None, "sequence_length": 128}
    checked = checked_of(**options, max_score_drop=100.0)
    answer = run_path(out, checked, commands=bench.commands)
    assert answer.exit_code == 0
    rungs = answer.data["rungs"]
    assert len(rungs) > 1
    assert [rung["speedup"] for rung in rungs] == sorted(rung["speedup"] for rung in rungs)
    assert all(rung["holds"] for rung in rungs)
    assert answer.data["min_speedup"] == rungs[-1]["speedup"]
    assert load_model_folder(out / "model").onnx_sha256 == answer.data["onnx_sha256"]
    page = (out / "report.html").read_text()
    assert "How fast within the quality" in page
    (again,) = [line for line in page.splitlines() if "autotinybert --teacher" in line]
    assert "--max-score-drop 100" in again
    assert "--speedup" not in again, "what is shown can be typed again"
    assert bench.called.count("train-supernet") == 1, "rungs share it"
    assert bench.called.count("search-architecture") == len(rungs)


def test_no_model_is_handed_out_where_every_one_loses_too_much(
    tmp_path: Path, bench: Any, checked_of: CheckedOf, task_options: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    options = {**task_options, "max_latency_ms": None, "sequence_length": 128}
    checked = checked_of(**options, max_score_drop=0.0)
    monotone = run_path(out, checked, commands=bench.commands)
    if not any(rung["holds"] for rung in monotone.data["rungs"]):
        assert monotone.exit_code == 1
        assert not (out / "model").exists()
        assert monotone.data["model"] is None


class Part:
    """Stands for a path at a speed-up."""

    def __init__(self, speedup: float) -> None:
        self.speedup = speedup


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize("holding", range(10))
def test_bisection_ends_at_the_fastest_that_holds(count: int, holding: int) -> None:
    parts: Any = [Part(1.0 + index) for index in range(count)]
    holding = min(holding, count)

    def attempt(part: Any) -> Rung:
        return Rung(part.speedup, part, (), None, holds=part.speedup <= holding)

    rungs = bisect(parts, attempt)
    best = max((rung.speedup for rung in rungs if rung.holds), default=0.0)
    assert best == holding
    assert len(rungs) <= int(np.ceil(np.log2(count + 1)))
    assert len({rung.speedup for rung in rungs}) == len(rungs), "none is tried twice"


class TestRefusals:
    def refused(self, checked_of: CheckedOf, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            checked_of(**options)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"task": None}, "without --task: say how the file is read"),
            ({"dev": None}, "--task needs both --train FILE and --dev FILE"),
            ({"task": "sentiment"}, "no task 'sentiment'"),
            ({"corpus": "text.txt"}, "leave --corpus and --max-megabytes out"),
            ({"max_score_drop": 1.0}, "leave --max-latency and --speedup out"),
            ({"max_latency_ms": None, "max_score_drop": -1.0}, "no number of points"),
            ({"max_latency_ms": None, "max_score_drop": float("nan")}, "no number of points"),
            ({"training_sequence_length": 5000}, "reads up to"),
        ],
    )
    def test_options_that_do_not_go_together(
        self,
        checked_of: CheckedOf,
        task_options: dict[str, Any],
        changes: dict[str, Any],
        message: str,
    ) -> None:
        assert message in self.refused(checked_of, **{**task_options, **changes})

    def test_a_quality_without_labels_to_judge_it_by(self, checked_of: CheckedOf) -> None:
        said = self.refused(checked_of, max_latency_ms=None, max_score_drop=1.0)
        assert "--max-score-drop needs a --task" in said

    def test_a_teacher_without_a_classifier(
        self, checked_of: CheckedOf, task_options: dict[str, Any], teacher_folder: Path
    ) -> None:
        said = self.refused(checked_of, **{**task_options, "teacher": str(teacher_folder)})
        assert "has no classifier on it" in said

    def test_labels_that_the_teacher_does_not_know(
        self, checked_of: CheckedOf, task_options: dict[str, Any], tmp_path: Path
    ) -> None:
        dev = tmp_path / "dev.csv"
        dev.write_text("text,label\na b,good\nb a,ugly\n")
        said = self.refused(checked_of, **{**task_options, "dev": dev})
        assert "ugly" in said
        assert "bad" in said

    def test_a_dev_file_without_labels(
        self,
        checked_of: CheckedOf,
        task_options: dict[str, Any],
        task_files: tuple[Path, Path],
    ) -> None:
        said = self.refused(checked_of, **{**task_options, "dev": task_files[0]})
        assert "has no labels" in said


def test_lengths_come_from_the_file(checked_of: CheckedOf, task_options: dict[str, Any]) -> None:
    """6 to 17 letters, and two special tokens: 95 % need 19 tokens at most."""
    request = checked_of(**task_options).request
    assert (request.sequence_length, request.training_sequence_length) == (24, 24)


def test_damaged_scores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError):
        load_scores(tmp_path)
    (tmp_path / SCORES_FILE).write_text("{}")
    with pytest.raises(DamagedFileError, match="give the same command again"):
        load_scores(tmp_path)


def test_scores_are_told_with_their_intervals() -> None:
    model = {"score": 90.0, "score_low": 88.0, "score_high": 92.0}
    difference = {"difference": -1.5, "difference_low": -2.5, "difference_high": -0.5}
    none = dict.fromkeys(difference, 0.0)
    said = scores_text(
        {
            "metric": "accuracy",
            "examples": 872,
            "models": [
                {"model": "teacher", **model, **none},
                {"model": "int8 file", **model, **difference},
            ],
        }
    )
    assert "accuracy on 872 texts" in said
    assert "90.0 (88.0 to 92.0)" in said
    assert "-1.5 (-2.5 to -0.5)" in said
