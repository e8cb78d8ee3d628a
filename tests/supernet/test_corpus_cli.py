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


def test_a_folder_of_jsonl_becomes_a_corpus_of_pairs(
    cli: Cli, bert_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        lines = (
            {"body": f"This is document {i} of {name}. The {i} is the number of the document."}
            for i in range(150)
        )
        (folder / name).write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out"
    options: tuple[object, ...] = ("--corpus", folder, "--teacher", bert_folder, "--out", out)
    code, _, error = cli(*options)
    assert (code, "a.jsonl, line 1 has no text under 'text'" in error) == (2, True)
    assert not out.exists()
    options = (*options, "--text-key", "body")
    assert cli(*options, "--pairs")[0] == 0
    corpus = load_corpus(out)
    assert corpus.facts["files"] == 2
    assert corpus.splits["train"].segment_starts is not None
    code, printed, _ = cli(*options, "--pairs", "--verify")
    assert (code, "was prepared before" in printed) == (0, True)
    code, _, error = cli(*options)
    assert (code, "different request (pairs was true)" in error) == (2, True)


def test_an_unknown_rule_for_sentences_is_refused(
    cli: Cli, text: Path, bert_folder: Path, tmp_path: Path
) -> None:
    code, _, error = cli(
        *("--corpus", text, "--teacher", bert_folder, "--out", tmp_path / "out"),
        *("--sentences", "words"),
    )
    assert (code, error.count("\n")) == (2, 1)
    assert "no --sentences 'words': use split or lines" in error


@pytest.mark.parametrize("there", [False, True])
def test_bad_text_leaves_nothing_behind(
    cli: Cli, text: Path, bert_folder: Path, tmp_path: Path, *, there: bool
) -> None:
    out = tmp_path / "deep" / "out"
    if there:
        out.mkdir(parents=True)
    text.write_bytes(text.read_bytes() + b"\n\nThis is not \xff text.\n")
    before = sorted(tmp_path.rglob("*"))
    code, _, error = cli("--corpus", text, "--teacher", bert_folder, "--out", out)
    assert (code, "is not UTF-8 text" in error) == (2, True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_corpus_that_is_overwritten_leaves_no_shard_of_the_old_one(
    cli: Cli, text: Path, bert_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--corpus", text, "--teacher", bert_folder, "--out", out)
    assert cli(*arguments)[0] == 0
    for name in ("train-00001.safetensors", "train.safetensors"):
        (out / name).write_bytes(b"of another corpus")
    (out / "trained.safetensors").write_bytes(b"of somebody")
    assert cli(*arguments, "--sequence-length", 32, "--overwrite")[0] == 0
    names = {path.name for path in out.iterdir()}
    assert names == {*CORPUS_FILES, "request.json", "trained.safetensors"}
