"""`autotinybert`: what is refused, before anything is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autotinybert.command import run_command
from profiler.host import host_facts
from search.pipeline_cli import autotinybert

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, teacher_folder: Path, text_file: Path
) -> Cli:
    """Runs `autotinybert` with a good request, changed by a test."""

    def run(**changes: object) -> tuple[int, str, str]:
        options: dict[str, object] = {
            "teacher": teacher_folder,
            "target": "cpu-x86",
            "max-latency": "5ms",
            "corpus": text_file,
            "training-sequence-length": 16,
            "out": tmp_path / "out",
            **changes,
        }
        typed = [
            part
            for name, value in options.items()
            if value is not None
            for part in ((f"--{name}",) if value is True else (f"--{name}", str(value)))
        ]
        code = run_command(autotinybert, "autotinybert", typed)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def broken_teacher(teacher_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    def make(damage: str) -> Path:
        folder = Path(shutil.copytree(teacher_folder, tmp_path / "broken"))
        if damage == "torn weights":
            weights = folder / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-10])
        elif damage == "another kind":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**config, "model_type": "roberta"}))
        else:
            (folder / damage).unlink()
        return folder

    return make


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("config.json", "config.json: No such file or directory; a teacher is a Hugging Face BERT"),
        ("model.safetensors", "has no model.safetensors"),
        ("tokenizer.json", "no tokenizer in"),
        ("torn weights", "model.safetensors is no whole safetensors file"),
        ("another kind", "model_type 'roberta' is not supported"),
    ],
)
def test_a_teacher_that_is_not_whole_is_one_line_and_nothing_is_written(
    cli: Cli, broken_teacher: Callable[[str], Path], tmp_path: Path, damage: str, message: str
) -> None:
    code, stdout, error = cli(teacher=broken_teacher(damage))
    assert (code, stdout, error.count("\n")) == (2, "", 1)
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max-latency": "5"}, "--max-latency 5 has no unit: write 5ms"),
        ({"max-latency": None}, "give a budget: either --max-latency 12ms or --speedup 7"),
        ({"speedup": 3}, "give a budget"),
        ({"teacher": "absent"}, "no teacher folder absent"),
        ({"corpus": "absent.txt"}, "cannot read --corpus absent.txt"),
        ({"space": "mlm"}, "holds no shape of space mlm"),
        ({"space": "absent.toml"}, "cannot read space absent.toml"),
        ({"target": "cpu-z80"}, "no target 'cpu-z80'"),
        ({"sequence-length": 0}, "sequence length must be an integer from 1"),
        ({"sequence-length": 256}, "reads up to 128 tokens, and so will its slices"),
        ({"threads": 0}, "threads must be an integer from 1"),
        ({"graph-variant": "magic"}, "no graph variant 'magic'"),
        ({"precision": "int4"}, "no precision 'int4'"),
        ({"precision": "fp16"}, "fp16 on a CPU"),
        ({"supernet-minutes": 0}, "minutes must be above 0"),
        ({"train-minutes": "nan"}, "minutes must be above 0"),
        ({"training-sequence-length": 256}, "too long for the teacher"),
        ({"profile": "absent"}, "no device profile in absent"),
        ({"configs": 3}, "see autotinybert --help"),
        ({"configs": 10_000_000}, "that are slices of the teacher; ask for fewer"),
        ({"threads": 500}, "--threads 500 on a machine with"),
        ({"budget-statistic": "p99"}, "no budget statistic 'p99'"),
        ({"method": "magic"}, "no --method 'magic'"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    cli: Cli, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    code, stdout, error = cli(**changes)
    assert (code, stdout, error.count("\n")) == (2, "", 1)
    assert message in error
    assert not (tmp_path / "out").exists()


def test_an_empty_corpus_is_refused_before_anything_is_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    code, _, error = cli(corpus=tmp_path / "empty.txt")
    assert (code, error.count("\n")) == (2, 1)
    assert "empty.txt" in error
    assert not (tmp_path / "out").exists()


def test_a_profile_of_another_machine_is_refused(
    cli: Cli, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    code, _, error = cli(profile=make_profile(configs=4))
    assert (code, error.count("\n")) == (2, 1)
    assert "was measured on another machine or build" in error
    assert "cpu_model" in error
    assert not (tmp_path / "out").exists()


def test_a_profile_made_under_an_emulator_is_refused_before_anything_else_of_it(
    cli: Cli, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    host = {**host_facts(), "emulated": True}
    code, _, error = cli(profile=make_profile(configs=4, host=host))
    assert (code, error.count("\n")) == (2, 1)
    assert "was measured under an emulator" in error
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    code, _, error = cli()
    assert code == 2
    assert "holds other files (thesis.tex)" in error
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_errors_are_json_where_json_was_asked_for(cli: Cli) -> None:
    code, stdout, _ = cli(**{"max-latency": "5", "json": True})
    assert code == 2
    assert "has no unit" in json.loads(stdout)["error"]
