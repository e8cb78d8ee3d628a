"""`finetune-model --task squad`, from the official files to the official answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernet.architecture import Architecture
from supernet.encoder import load_encoder, save_encoder
from supernet.extraction import extract
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.tasks.finetune_cli import finetune_model
from supernet.tasks.squad_job import load_runs

Cli = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]

MARKERS = ["red", "blue"]
FILLERS = [f"w{number}" for number in range(8)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "which", "?", *MARKERS, *FILLERS]


def document(count: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    paragraphs = []
    for number in range(count):
        words = rng.choice(FILLERS, 9).tolist()
        place = int(rng.integers(9))
        words[place] = str(rng.choice(MARKERS))
        answer = {"text": words[place], "answer_start": len(" ".join([*words[:place], ""]))}
        qa = {"id": f"q{number}", "question": "which?", "answers": [answer]}
        paragraphs.append({"context": " ".join(words), "qas": [qa]})
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}


@pytest.fixture
def folders(make_bert_folder: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """An encoder with random weights, and the official folder."""
    tokenizer = make_bert_folder(tokens=VOCABULARY)
    shape = Architecture(1, 32, 64, 2, 32)
    model = SuperPLM(SuperPLMConfig(largest=shape, vocab_size=len(VOCABULARY), max_positions=24))
    model.initialise(torch.Generator().manual_seed(0), 0.1)
    encoder, data = tmp_path / "encoder", tmp_path / "squad"
    encoder.mkdir()
    data.mkdir()
    save_encoder(encoder, extract(model, shape), extra={"history": []})
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        if (tokenizer / name).exists():
            (encoder / name).write_bytes((tokenizer / name).read_bytes())
    for name, count, seed in (("train-v1.1.json", 120, 0), ("dev-v1.1.json", 30, 1)):
        (data / name).write_text(json.dumps(document(count, seed)))
    return encoder, data


def options(encoder: Path, out: Path) -> tuple[object, ...]:
    return (
        *("--model", encoder, "--task", "squad", "--out", out, "--sequence-length", 20),
        *("--doc-stride", 6, "--max-query-length", 4, "--epochs", 8, "--learning-rate", 3e-3),
    )


def test_the_official_files_become_answers_and_an_encoder_that_points(
    cli: Cli, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    encoder, data = folders
    out = tmp_path / "out"
    request = (*options(encoder, out), "--data", data, "--seeds", 2, "--json")
    code, text, error = cli(finetune_model, *request)
    assert code == 0, error
    answer = json.loads(text)
    assert answer["metrics"]["f1"] > 80
    assert answer["runs"] == 2
    predictions = json.loads((out / "predictions.json").read_text())
    assert len(predictions) == 30
    found, extra = load_encoder(out)
    assert found.head is not None
    assert found.head.kind == "span"
    assert extra["history"][-1]["metrics"] == answer["metrics"]
    best = max(run.f1 for run in load_runs(out))
    assert best == answer["metrics"]["f1"]
    code, text, _ = cli(finetune_model, *request)
    assert (code, json.loads(text)["finished_before"]) == (0, True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "--task squad needs --data FOLDER with train-v1.1.json and dev-v1.1.json"),
        (("--data", "absent"), "absent"),
        (("--test", "x.json"), "has neither --regression nor --test"),
        (("--data", "absent", "--train", "x"), "leave --train, --dev out"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(
    refused: Refused,
    folders: tuple[Path, Path],
    tmp_path: Path,
    more: tuple[str, ...],
    message: str,
) -> None:
    out = tmp_path / "out"
    assert message in refused(finetune_model, *options(folders[0], out), *more)
    assert not out.exists()


def test_a_malformed_file_is_named(
    refused: Refused, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    encoder, data = folders
    (data / "dev-v1.1.json").write_text('{"version": "1.1", "data": [{"paragraphs": 5}]}')
    error = refused(finetune_model, *options(encoder, tmp_path / "out"), "--data", data)
    assert "dev-v1.1.json" in error
    assert "paragraphs" in error
