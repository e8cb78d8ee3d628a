from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autotinybert.command import run_command
from supernet.corpus import CORPUS_FILES, load_corpus
from supernet.corpus_cli import prepare_corpus_command

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command; returns its exit code, stdout and stderr."""

    def run(*argv: object) -> tuple[int, str, str]:
        code = run_command(prepare_corpus_command, "prepare-corpus", [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"This is document {index} of the list." for index in range(200)))
    return path


def test_a_text_file_becomes_a_corpus(
    cli: Cli, text: Path, bert_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--corpus", text, "--teacher", bert_folder, "--out", out)
    code, printed, _ = cli(*arguments)
    assert code == 0
    assert "train" in printed
    assert f"wrote {out}" in printed
    assert {path.name for path in out.iterdir()} == {*CORPUS_FILES, "request.json"}
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, printed, _ = cli(*arguments)
    assert (code, "was prepared before" in printed) == (0, True)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    code, _, error = cli(*arguments, "--sequence-length", 32)
    assert code == 2
    assert "different request (sequence_length was 64)" in error
    assert cli(*arguments, "--sequence-length", 32, "--overwrite")[0] == 0
    assert load_corpus(out).sequence_length == 32


def test_json_tells_counts_and_padding(
    cli: Cli, text: Path, bert_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--corpus", text, "--teacher", bert_folder, "--out", out, "--json")
    code, printed, _ = cli(*arguments, "--max-megabytes", 0.006)
    assert code == 0
    answer = json.loads(printed)
    assert 6000 <= answer["characters"] < 6100
    assert answer["complete"] is False
    assert answer["finished_before"] is False
    corpus = load_corpus(out)
    for name, split in corpus.splits.items():
        assert answer["splits"][name]["sequences"] == len(split)
        assert answer["splits"][name]["padding"] == pytest.approx(split.padding, abs=1e-4)


def test_the_documentation_on_this_machine_becomes_a_corpus(
    cli: Cli, bert_folder: Path, tmp_path: Path
) -> None:
    options = ("--corpus", "python-docs", "--teacher", bert_folder, "--out", tmp_path / "out")
    code, printed, _ = cli(*options, "--max-megabytes", 0.4)
    assert code == 0
    assert "modules" in printed
    assert "there is more text: --max-megabytes" in printed
    facts = load_corpus(tmp_path / "out").facts
    assert facts["source"] == "python-docs"
    assert facts["characters"] >= 400_000


def test_another_text_is_another_request(
    cli: Cli, text: Path, bert_folder: Path, tmp_path: Path
) -> None:
    arguments = ("--corpus", text, "--teacher", bert_folder, "--out", tmp_path / "out")
    assert cli(*arguments)[0] == 0
    text.write_text(text.read_text() + "\n\nThis is one more.")
    code, _, error = cli(*arguments)
    assert code == 2
    assert "another corpus" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--corpus": "absent.txt"}, "cannot read --corpus absent.txt"),
        ({"--teacher": "absent"}, "no tokenizer in absent"),
        ({"--sequence-length": "4"}, "sequence length 4 must be from 8 to 512"),
        ({"--max-megabytes": "nan"}, "--max-megabytes nan"),
        ({"--max-megabytes": "0"}, "--max-megabytes 0"),
        ({"--max-megabytes": "0.0001"}, "too small to be split"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    cli: Cli,
    text: Path,
    bert_folder: Path,
    tmp_path: Path,
    change: dict[str, str],
    message: str,
) -> None:
    options = {"--corpus": text, "--teacher": bert_folder, "--out": tmp_path / "out", **change}
    code, printed, error = cli(*(part for pair in options.items() for part in pair))
    assert (code, printed) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
