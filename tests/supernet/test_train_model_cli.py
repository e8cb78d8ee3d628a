"""`train-model`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from supernet.cli import extract_model
from supernet.student_folder import load_student
from supernet.train_model_cli import train_model

Cli = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
Options = dict[str, object]


def typed(options: Options) -> list[object]:
    """Options as typed; None leaves one out."""
    return [part for pair in options.items() if pair[1] is not None for part in pair]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--model": "absent"}, "no encoder in absent"),
        ({"--minutes": 1}, "--steps and --minutes"),
        ({"--steps": None, "--minutes": "nan"}, "minutes must be above 0"),
        ({"--learning-rate": 0}, "learning rate must be above 0"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(
    refused: Refused, student: Path, tmp_path: Path, changes: Options, message: str
) -> None:
    request: Options = {"--model": student, "--steps": 2, "--out": tmp_path / "out", **changes}
    assert message in refused(train_model, *typed(request))
    assert not (tmp_path / "out").exists()


def test_what_it_needs_and_has_changed_or_gone_is_named(
    refused: Refused, student: Path, supernet: Path, teacher: Path, tmp_path: Path
) -> None:
    request = ("--model", student, "--steps", 2, "--out", tmp_path / "out")
    (student / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    assert "no tokenizer in" in refused(train_model, *request)
    (tmp_path / "tokenizer.json").rename(student / "tokenizer.json")
    supernet.rename(tmp_path / "moved")
    assert "no corpus in" in refused(train_model, *request)
    (tmp_path / "moved").rename(supernet)
    shutil.rmtree(teacher)
    assert "the teacher that was distilled from" in refused(train_model, *request)
    (student / "heads.safetensors").unlink()
    assert "encoder without its teacher" in refused(train_model, *request)
    assert not (tmp_path / "out").exists()


def test_a_slice_with_fewer_heads_than_the_teacher_cannot_be_trained(
    cli: Cli, refused: Refused, supernet: Path, tmp_path: Path
) -> None:
    slice_ = ("--supernet", supernet, "--architecture", "2-16-16-1-4")
    assert cli(extract_model, *slice_, "--out", tmp_path / "slice")[0] == 0
    request = ("--model", tmp_path / "slice", "--steps", 2)
    assert "slices have 1 heads, the teacher 4" in refused(
        train_model, *request, "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_the_student_is_never_written_over(refused: Refused, student: Path) -> None:
    before = contents(student)
    request = ("--model", student, "--steps", 2, "--out", student, "--overwrite")
    assert "is the folder of what is trained" in refused(train_model, *request)
    assert contents(student) == before


def test_what_was_trained_can_be_trained_further(cli: Cli, student: Path, tmp_path: Path) -> None:
    for model, out in ((student, "first"), (tmp_path / "first", "second")):
        request = ("--model", model, "--steps", 2, "--out", tmp_path / out)
        assert cli(train_model, *request)[0] == 0
    history = load_student(tmp_path / "second").history
    assert [step["did"] for step in history] == ["extract-model", "train-model", "train-model"]
