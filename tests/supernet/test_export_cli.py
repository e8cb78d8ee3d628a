"""`export-model`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autotinybert.command import run_command
from supernet.cli import export_model
from supernet.encoder import Encoder, save_encoder
from supernet.model_folder import load_model_folder

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*argv: object) -> tuple[int, str, str]:
        code = run_command(export_model, "export-model", [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def encoder_folder(
    tmp_path: Path, random_encoder: Callable[..., Encoder], tokenizer_files: dict[str, bytes]
) -> Path:
    folder = tmp_path / "encoder"
    folder.mkdir()
    save_encoder(folder, random_encoder("2-36-50-3-24"), extra={"teacher": "MiniLM"})
    for name, content in tokenizer_files.items():
        (folder / name).write_bytes(content)
    return folder


def test_an_encoder_is_exported_and_the_same_command_leaves_it_alone(
    cli: Cli, tmp_path: Path, encoder_folder: Path
) -> None:
    out = tmp_path / "model"
    request = ("--model", encoder_folder, "--out", out, "--json")
    code, text, _ = cli(*request)
    assert code == 0
    answer = json.loads(text)
    assert answer["architecture"] == "2-36-50-3-24"
    assert (answer["form"], answer["graph_variant"]) == ("stock", "plain")
    assert answer["precision"] == "fp32"
    assert (answer["head"], answer["labels"]) == (None, [])
    assert not answer["finished_before"]
    assert "| Teacher | MiniLM |" in (out / "README.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    code, text, _ = cli(*request)
    assert code == 0
    assert json.loads(text) == {**answer, "finished_before": True}
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_person_is_told_how_to_load_it(
    cli: Cli, tmp_path: Path, encoder_folder: Path, random_encoder: Callable[..., Encoder]
) -> None:
    out = tmp_path / "model"
    _, text, _ = cli("--model", encoder_folder, "--out", out)
    assert f"AutoModel.from_pretrained('{out}')\nwrote {out}\n" in text
    save_encoder(encoder_folder, random_encoder("2-36-50-3-51"), extra={})
    _, text, _ = cli("--model", encoder_folder, "--out", out, "--overwrite")
    assert "trust_remote_code=True" in text


def test_a_head_is_exported_and_said(
    cli: Cli, tmp_path: Path, encoder_folder: Path, random_encoder: Callable[..., Encoder]
) -> None:
    save_encoder(encoder_folder, random_encoder("2-36-50-3-51", head="classification"), extra={})
    out = tmp_path / "model"
    request = ("--model", encoder_folder, "--out", out)
    code, text, _ = cli(*request, "--json")
    answer = json.loads(text)
    assert (code, answer["head"]) == (0, "classification")
    assert answer["labels"] == ["no", "yes", "not said"]
    code, text, _ = cli(*request)
    assert code == 0
    assert "2-36-50-3-51 with a classification head: model.onnx" in text
    assert f"AutoModelForSequenceClassification.from_pretrained('{out}', trust_remote" in text


def test_another_variant_is_another_request_and_overwriting_leaves_nothing_of_the_old(
    cli: Cli, tmp_path: Path, encoder_folder: Path
) -> None:
    out = tmp_path / "model"
    request = ("--model", encoder_folder, "--out", out)
    assert cli(*request)[0] == 0
    (out / "verification.json").write_text("{}")
    (encoder_folder / "vocab.txt").unlink()
    code, _, error = cli(*request, "--graph-variant", "attention")
    assert code == 2
    assert "different request" in error
    assert cli(*request, "--graph-variant", "attention", "--overwrite")[0] == 0
    config = json.loads((out / "config.json").read_text())
    assert config["autotinybert"]["graph_variant"] == "attention"
    assert not (out / "verification.json").exists()
    assert not (out / "vocab.txt").exists()


def test_a_finished_folder_whose_graph_was_changed_is_refused(
    cli: Cli, tmp_path: Path, encoder_folder: Path
) -> None:
    out = tmp_path / "model"
    request = ("--model", encoder_folder, "--out", out)
    assert cli(*request)[0] == 0
    (out / "model.onnx").write_bytes(b"other")
    code, _, error = cli(*request)
    assert code == 2
    assert "model.onnx is torn, truncated or edited" in error
    assert cli(*request, "--overwrite")[0] == 0


def test_bad_input_is_one_line_and_writes_nothing(
    cli: Cli, tmp_path: Path, encoder_folder: Path
) -> None:
    out = tmp_path / "model"

    def refused(*argv: object) -> str:
        code, _, error = cli(*argv)
        assert code == 2
        assert error.count("\n") == 1
        assert not out.exists()
        return error

    assert "no encoder in" in refused("--model", tmp_path, "--out", out)
    request = ("--model", encoder_folder, "--out", out)
    assert "use plain, folded, attention" in refused(*request, "--graph-variant", "fused")
    assert "no precision 'int4': use fp32, fp16, int8" in refused(*request, "--precision", "int4")
    both = ("--graph-variant", "attention", "--precision", "int8")
    assert "no int8 graph of the variant attention" in refused(*request, *both)
    (encoder_folder / "vocab.txt").write_text("\n".join(f"w{index}" for index in range(98)))
    assert "token id 97" in refused(*request)
    for name in ("vocab.txt", "tokenizer.json"):
        (encoder_folder / name).unlink()
    assert "no tokenizer in" in refused(*request)


def test_the_encoder_is_never_written_over(cli: Cli, encoder_folder: Path) -> None:
    before = sorted(encoder_folder.iterdir())
    code, _, error = cli("--model", encoder_folder, "--out", encoder_folder, "--overwrite")
    assert code == 2
    assert "encoder's own folder" in error
    assert sorted(encoder_folder.iterdir()) == before


def test_an_int8_model_is_smaller_says_so_and_keeps_its_float32_weights(
    cli: Cli, tmp_path: Path, encoder_folder: Path
) -> None:
    outs = {name: tmp_path / name for name in ("fp32", "int8")}
    for name, out in outs.items():
        code, text, _ = cli("--model", encoder_folder, "--out", out, "--precision", name, "--json")
        assert (code, json.loads(text)["precision"]) == (0, name)
        assert load_model_folder(out).precision == name
    sizes = {name: (out / "model.onnx").stat().st_size for name, out in outs.items()}
    assert sizes["int8"] < sizes["fp32"]
    weights = {(out / "model.safetensors").read_bytes() for out in outs.values()}
    assert len(weights) == 1
    assert "one scale for each output channel" in (outs["int8"] / "README.md").read_text()
    code, _, error = cli("--model", encoder_folder, "--out", outs["int8"])
    assert code == 2
    assert 'precision was "int8"' in error
