"""The held-out loss of exported files, from a SuperPLM that was trained for two steps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import DamagedFileError, InputError
from search.exported_model import ExportedModel
from search.file_score import SCORE_FILE, load_score, score_text
from search.file_scorer import FileScorer
from supernet.cli import export_model, extract_model
from supernet.student_folder import load_student, save_student
from supernet.task_head import TaskHead
from supernet.tokenizer_files import read_tokenizer_files

SLICE, OTHER = "2-128-256-12-180", "1-128-256-12-180"


@pytest.fixture(scope="session")
def encoder_of(
    tmp_path_factory: pytest.TempPathFactory, supernet_folder: Path
) -> Callable[[str], Path]:
    """Extracts a slice; its folder, to read only."""
    root = tmp_path_factory.mktemp("slices")

    def make(architecture: str) -> Path:
        folder = root / architecture
        extract_model(supernet=supernet_folder, architecture=architecture, out=folder)
        return folder

    return make


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., ExportedModel]:
    def make(encoder: Path, **options: Any) -> ExportedModel:
        folder = tmp_path / "exported"
        export_model(model=encoder, out=folder, **options)
        return ExportedModel.read(folder)

    return make


def test_an_fp32_file_loses_what_its_encoder_does_on_both_splits(
    tmp_path: Path, encoder_of: Callable[[str], Path], export: Callable[..., ExportedModel]
) -> None:
    encoder = encoder_of(SLICE)
    score = FileScorer.prepare(export(encoder), encoder).score_into(tmp_path)
    assert list(score["splits"]) == ["search", "test"]
    for losses in score["splits"].values():
        assert losses["float32"]["loss"] > 0.1
        for term, value in losses["float32"].items():
            assert losses["file"][term] == pytest.approx(value, rel=1e-4)
    assert score["splits"]["search"] != score["splits"]["test"]
    assert "held-out distillation loss of the fp32 file: " in score_text(score)
    assert load_score(tmp_path).items() >= score.items()


def test_a_graph_without_scores_says_that_its_loss_is_half_of_it(
    tmp_path: Path, encoder_of: Callable[[str], Path], export: Callable[..., ExportedModel]
) -> None:
    encoder = encoder_of(SLICE)
    model = export(encoder, graph_variant="attention")
    score = FileScorer.prepare(model, encoder).score_into(tmp_path)
    losses = score["splits"]["test"]
    assert losses["file"]["loss"] is None
    assert losses["file"]["hidden_loss"] == pytest.approx(losses["float32"]["hidden_loss"], 1e-4)
    assert "of the hidden state alone (the graph variant attention keeps" in score_text(score)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_head_changes_nothing_of_what_the_encoder_below_it_loses(
    tmp_path: Path,
    encoder_of: Callable[[str], Path],
    export: Callable[..., ExportedModel],
    precision: str,
) -> None:
    bare, with_head = encoder_of(SLICE), tmp_path / "with-head"
    with_head.mkdir()
    student = load_student(bare)
    head = TaskHead("classification", 128, ("no", "yes")).extract(128)
    learner = student.learner
    learner.task_head = TaskHead.from_head(head)
    save_student(with_head, student, read_tokenizer_files(bare))
    scores = []
    for folder in (bare, with_head):
        model = export(folder, precision=precision, overwrite=True)
        scores.append(FileScorer.prepare(model, folder).score_into(tmp_path))
    first, second = (score["splits"] for score in scores)
    assert scores[0]["model_sha256"] != scores[1]["model_sha256"]
    for split, losses in first.items():
        for kind, terms in losses.items():
            assert second[split][kind] == pytest.approx(terms, rel=1e-6)


def test_a_score_is_kept_and_made_again_when_it_is_damaged_or_of_another_file(
    tmp_path: Path, encoder_of: Callable[[str], Path], export: Callable[..., ExportedModel]
) -> None:
    encoder = encoder_of(SLICE)
    scorer = FileScorer.prepare(export(encoder), encoder)
    scorer.score_into(tmp_path)
    path = tmp_path / SCORE_FILE
    before, written = path.read_bytes(), path.stat().st_mtime_ns
    scorer.score_into(tmp_path)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(before[:-20])
    scorer.score_into(tmp_path)
    assert path.read_bytes() == before
    model = export(encoder, graph_variant="attention", overwrite=True)
    other = FileScorer.prepare(model, encoder).score_into(tmp_path)
    assert other["model_sha256"] == model.sha256 == load_score(tmp_path)["model_sha256"]


def test_a_file_of_another_encoder_is_refused(
    encoder_of: Callable[[str], Path], export: Callable[..., ExportedModel]
) -> None:
    model = export(encoder_of(SLICE))
    with pytest.raises(InputError, match="is not what export-model makes of"):
        FileScorer.prepare(model, encoder_of(OTHER))


def test_what_the_score_needs_is_missed_before_anything_is_measured(
    tmp_path: Path, encoder_of: Callable[[str], Path], export: Callable[..., ExportedModel]
) -> None:
    encoder = Path(shutil.copytree(encoder_of(SLICE), tmp_path / "moved"))
    model = export(encoder)
    with pytest.raises(InputError, match="no encoder in"):
        FileScorer.prepare(model, tmp_path)
    document = json.loads((encoder / "encoder.json").read_text())
    document["extra"]["origin"]["teacher"]["path"] = str(tmp_path / "gone")
    (encoder / "encoder.json").write_text(json.dumps(document))
    with pytest.raises(DamagedFileError, match="torn, truncated or edited"):
        FileScorer.prepare(model, encoder)


def test_an_int8_file_is_judged_beside_its_float32_weights(
    tmp_path: Path, encoder_of: Callable[[str], Path], export: Callable[..., ExportedModel]
) -> None:
    encoder = encoder_of(SLICE)
    model = export(encoder, precision="int8")
    assert model.precision == "int8"
    score = FileScorer.prepare(model, encoder).score_into(tmp_path)
    for losses in score["splits"].values():
        assert losses["file"]["loss"] != pytest.approx(losses["float32"]["loss"], rel=1e-5)
        assert losses["file"]["loss"] == pytest.approx(losses["float32"]["loss"], rel=0.05)
    assert "held-out distillation loss of the int8 file: " in score_text(score)
