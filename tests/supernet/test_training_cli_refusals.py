"""What `train-supernet` refuses: one line, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from supernet.corpus_cli import prepare_corpus_command
from supernet.training_cli import train_supernet

Cli = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
Options = dict[str, object]


def typed(options: Options, *more: object) -> list[object]:
    """Options as typed; None leaves one out."""
    pairs = (pair for pair in options.items() if pair[1] is not None)
    return [*(part for pair in pairs for part in pair), *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


SPACE = (
    "num_layers = [{}]\nhidden_size = [{}]\nffn_size = [16]\nnum_heads = [{}]\nqkv_size = [{}]\n"
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--teacher": "absent"}, "no teacher folder absent"),
        ({"--corpus": "absent.txt"}, "cannot read --corpus absent.txt"),
        ({"--space": "atlantis"}, "no space 'atlantis'"),
        ({"--space": "kd"}, "holds no shape of space kd: hidden_size begins at 128"),
        ({"--space": "mlm"}, "holds no shape of space mlm"),
        ({"--objective": "nsp"}, "no --objective 'nsp': use kd or mlm or task"),
        ({"--objective": "task"}, "has no classifier on it"),
        ({"--teacher": None}, "--objective kd needs a --teacher"),
        ({"--tokenizer": "."}, "--teacher brings its own tokenizer"),
        (
            {"--teacher": None, "--objective": "mlm", "--start": "teacher"},
            "--start teacher without a --teacher",
        ),
        ({"--attention-loss": "x"}, "no --attention-loss 'x': use scores or relations"),
        ({"--channel-order": "x"}, "no --channel-order 'x': use importance or teacher"),
        ({"--always": "x"}, "no always 'x': use largest, sandwich, none"),
        ({"--precision": "fp8"}, "no precision 'fp8': use fp32, bf16"),
        ({"--device": "tpu"}, "no --device 'tpu': use auto, cpu or cuda"),
        ({"--minutes": 5}, "--steps and --minutes say the same thing twice"),
        ({"--steps": None, "--minutes": 0}, "minutes must be above 0, not 0"),
        ({"--steps": None, "--minutes": "nan"}, "minutes must be above 0, not nan"),
        ({"--steps": None, "--minutes": -1}, "minutes must be above 0, not -1"),
        ({"--steps": None, "--minutes": "inf"}, "minutes must be above 0, not inf"),
        ({"--steps": 0}, "see train-supernet --help"),
        ({"--learning-rate": "nan"}, "learning rate must be above 0, not nan"),
        ({"--batch-size": 0}, "see train-supernet --help"),
        ({"--seed": -1}, "see train-supernet --help"),
        ({"--start": "x"}, "no --start 'x': use teacher or random"),
        ({"--depth-rule": "x"}, "no --depth-rule 'x': use evenly-spaced or first"),
        ({"--largest": "2-24-48-4-24"}, "--largest 2-24-48-4-24 with --start teacher"),
        ({"--largest": "big", "--start": "random"}, "'big' is no architecture"),
        (
            {"--space": "two-heads.toml", "--attention-loss": "scores"},
            "slices have 2 heads, the teacher 4",
        ),
        ({"--largest": "2-4-48-4-24", "--start": "random"}, "hidden_size begins at 8"),
        ({"--sequence-length": 65}, "sequences of 65 tokens are too long for the teacher"),
        ({"--sequence-length": 4}, "sequence length 4 must be from 8"),
        ({"--sequence-length": 0}, "sequence length 0 must be from 8"),
        ({"--max-megabytes": "nan"}, "--max-megabytes nan"),
        ({"--max-megabytes": 0.0001}, "too small to be split"),
    ],
)
def test_a_wrong_request_for_a_superplm_is_one_line_and_nothing_is_written(
    refused: Refused, options: Options, tmp_path: Path, changes: Options, message: str
) -> None:
    if changes.get("--space") == "two-heads.toml":
        changes = {**changes, "--space": tmp_path / "two-heads.toml"}
        (tmp_path / "two-heads.toml").write_text(SPACE.format(2, 24, 2, 8))
    assert message in refused(train_supernet, *typed({**options, **changes}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((4, 24, 4, 8), "num_layers begins at 4 there, and the SuperPLM ends at 3"),
        ((2, 32, 4, 8), "hidden_size begins at 32 there, and the SuperPLM ends at 24"),
        ((2, 24, 4, 28), "qkv_size begins at 28 there, and the SuperPLM ends at 24"),
    ],
)
def test_a_space_that_the_teacher_does_not_hold_is_refused(
    refused: Refused, options: Options, tmp_path: Path, axes: tuple[int, ...], message: str
) -> None:
    path = tmp_path / "other.toml"
    path.write_text(SPACE.format(*axes))
    assert message in refused(train_supernet, *typed({**options, "--space": path}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer in"),
        (lambda folder: (folder / "vocab.txt").write_text("a\n" * 999), "has the token id 998"),
        (lambda folder: (folder / "config.json").unlink(), "cannot read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "is no whole"),
    ],
    ids=["no tokenizer", "a larger tokenizer", "no config", "no weights", "torn weights"],
)
def test_a_bad_teacher_is_one_line_and_nothing_is_written(
    refused: Refused,
    options: Options,
    teacher: Path,
    tmp_path: Path,
    change: Callable[[Path], object],
    message: str,
) -> None:
    change(teacher)
    error = refused(train_supernet, *typed(options))
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no sentence"),
        (b"\n \n", "holds no sentence"),
        (b"\xff\xfe", "line 1 is not UTF-8 text"),
        (b"One document is not enough for three splits.", "is too small to be split"),
    ],
)
def test_a_text_that_is_no_corpus_is_refused(
    refused: Refused, options: Options, text: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    text.write_bytes(content)
    assert message in refused(train_supernet, *typed(options))
    assert not (tmp_path / "out").exists()


def test_a_corpus_of_another_tokenizer_is_refused(
    cli: Cli,
    refused: Refused,
    options: Options,
    make_bert_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    other, corpus = make_bert_folder(document=False, vocabulary=True), tmp_path / "corpus"
    prepare = ("--corpus", options["--corpus"], "--teacher", other, "--out", corpus)
    assert cli(prepare_corpus_command, *prepare)[0] == 0
    ready = {**options, "--corpus": corpus, "--sequence-length": None}
    assert "made with another tokenizer (vocab.txt" in refused(train_supernet, *typed(ready))
    assert not (tmp_path / "out").exists()


def test_what_is_read_is_never_written_over(
    refused: Refused, options: Options, tmp_path: Path
) -> None:
    teacher = options["--teacher"]
    assert isinstance(teacher, Path)
    before = contents(teacher)
    same = {**options, "--out": teacher}
    assert "is the folder of the teacher" in refused(train_supernet, *typed(same, "--overwrite"))
    assert contents(teacher) == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert "holds other files (thesis.tex)" in refused(train_supernet, *typed(options))
    assert contents(tmp_path / "out") == {"thesis.tex": b"years of work"}
