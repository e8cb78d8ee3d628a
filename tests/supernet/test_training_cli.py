"""`train-supernet`, `extract-model` and `train-model`, through the frame around every command."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supernet.checkpoint import CHECKPOINT_FILE
from supernet.cli import export_model, extract_model
from supernet.corpus import load_corpus
from supernet.corpus_cli import prepare_corpus_command
from supernet.supernet_folder import LOG_FILE, SUPERNET_FILE, WEIGHTS_FILE, load_supernet
from supernet.train_model_cli import train_model
from supernet.training import StepReport, TrainingSettings
from supernet.training_cli import train_supernet
from supernet.training_request import starting_point
from supernet.training_runs import SupernetRun

Cli = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
Options = dict[str, object]


def typed(options: Options, *more: object) -> list[object]:
    """Options as typed; None leaves one out."""
    pairs = (pair for pair in options.items() if pair[1] is not None)
    return [*(part for pair in pairs for part in pair), *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_from_a_teacher_and_a_text_to_an_exported_model(
    cli: Cli, options: Options, tmp_path: Path
) -> None:
    code, text, _ = cli(train_supernet, *typed(options, "--json"))
    assert (code, text.count("\n")) == (0, 1)
    trained = json.loads(text)
    assert (trained["architecture"], trained["steps"]) == ("3-24-48-4-24", 6)
    losses = trained["held_out_losses"]
    assert 2 <= len(losses) <= 6
    assert all(0 < loss < math.inf for loss in losses.values())
    assert trained["tokens_per_s"] > 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        *("supernet.json", "supernet.safetensors", "training.csv", "corpus", "request.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    name = next(iter(losses.keys() - {"3-24-48-4-24"}))

    slice_ = tmp_path / "slice"
    request = ("--supernet", out, "--architecture", name, "--out", slice_, "--json")
    code, text, _ = cli(extract_model, *request)
    assert code == 0
    assert json.loads(text) == {
        "model": str(slice_),
        "architecture": name,
        "finished_before": False,
    }

    model = tmp_path / "model"
    further_request = ("--model", slice_, "--steps", 4, "--batch-size", 8, "--out", model)
    code, text, _ = cli(train_model, *further_request, "--json")
    assert (code, text.count("\n")) == (0, 1)
    further = json.loads(text)
    assert (further["architecture"], further["steps"]) == (name, 4)
    assert further["held_out_loss_before"]["search"] == pytest.approx(losses[name], rel=1e-4)
    for split in ("search", "test"):
        assert 0 < further["held_out_loss"][split] < math.inf
    assert not (model / CHECKPOINT_FILE).exists()

    exported = tmp_path / "exported"
    code, text, _ = cli(export_model, "--model", model, "--out", exported, "--json")
    assert (code, json.loads(text)["architecture"]) == (0, name)


def test_what_is_finished_is_left_alone(cli: Cli, options: Options, tmp_path: Path) -> None:
    out, slice_, model = (tmp_path / name for name in ("out", "slice", "model"))
    commands: list[tuple[Callable[..., Any], list[object], Path]] = [
        (train_supernet, typed(options), out),
        (
            extract_model,
            ["--supernet", out, "--architecture", "1-8-16-4-8", "--out", slice_],
            slice_,
        ),
        (train_model, ["--model", slice_, "--steps", 2, "--out", model], model),
    ]
    for command, request, folder in commands:
        assert cli(command, *request)[0] == 0
        before = contents(folder)
        code, text, _ = cli(command, *request)
        assert code == 0
        assert text.endswith("before; nothing was written\n")
        assert contents(folder) == before
        code, text, _ = cli(command, *request, "--json")
        assert (code, json.loads(text)["finished_before"]) == (0, True)


def interrupted(out: Path) -> None:
    """Makes of a finished folder what a crash leaves."""
    for name in (WEIGHTS_FILE, SUPERNET_FILE, LOG_FILE):
        (out / name).unlink(missing_ok=True)
    request = json.loads((out / "request.json").read_text())
    (out / "request.json").write_text(json.dumps({**request, "status": "unfinished"}))


def leave_checkpoint(options: Options, folder: Path) -> None:
    """Trains three steps of what the options ask for, 1000 seconds each, and is interrupted."""
    ticks = itertools.count(0.0, 1000.0)

    def on_step(report: StepReport) -> None:
        if report.step == 4:
            raise KeyboardInterrupt

    run = SupernetRun(
        point=starting_point(
            objective="kd",
            teacher=str(options["--teacher"]),
            tokenizer=None,
            space=str(options["--space"]),
            start=None,
            largest=None,
            depth_rule=None,
            attention_loss="auto",
        ),
        tokenizer={},
        ordered=True,
        settings=TrainingSettings(steps=6),
        batch_size=8,
    )
    with pytest.raises(KeyboardInterrupt):
        run.train(
            folder,
            load_corpus(folder / "corpus"),
            folder / "corpus",
            clock_s=lambda: next(ticks),
            on_step=on_step,
            checkpoint_every_s=0.0,
        )


def test_an_interrupted_command_goes_on_from_its_checkpoint_to_the_same_weights(
    cli: Cli, refused: Refused, options: Options, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert cli(train_supernet, *typed(options))[0] == 0
    weights, corpus = (out / WEIGHTS_FILE).read_bytes(), contents(out / "corpus")
    interrupted(out)
    leave_checkpoint(options, out)
    assert (out / CHECKPOINT_FILE).exists()
    extract = ("--supernet", out, "--architecture", "1-8-16-4-8", "--out", tmp_path / "slice")
    assert "no finished SuperPLM" in refused(extract_model, *extract)
    code, text, _ = cli(train_supernet, *typed(options, "--json"))
    assert code == 0
    assert json.loads(text)["elapsed_s"] > 3000, "the time before the interruption counts"
    assert (out / WEIGHTS_FILE).read_bytes() == weights
    assert contents(out / "corpus") == corpus
    assert not (out / CHECKPOINT_FILE).exists()


def test_a_torn_checkpoint_is_named(
    cli: Cli, refused: Refused, options: Options, tmp_path: Path
) -> None:
    assert cli(train_supernet, *typed(options))[0] == 0
    interrupted(tmp_path / "out")
    (tmp_path / "out" / CHECKPOINT_FILE).write_bytes(b"torn")
    assert "is no checkpoint of this training" in refused(train_supernet, *typed(options))
    (tmp_path / "out" / CHECKPOINT_FILE).unlink()
    assert cli(train_supernet, *typed(options))[0] == 0


def test_a_superplm_of_another_shape_is_trained_from_random_weights(
    cli: Cli, options: Options, tmp_path: Path
) -> None:
    random = {**options, "--start": "random", "--largest": "4-32-20-4-16"}
    code, text, _ = cli(train_supernet, *typed(random, "--json"))
    assert code == 0
    answer = json.loads(text)
    assert (answer["architecture"], answer["depth_rule"]) == ("4-32-20-4-16", "first")
    assert answer["space_size"] == 3 * 3 * 1 * 2, "FFN sizes and QKV sizes above its own are cut"
    found = load_supernet(tmp_path / "out")
    assert found.learner.head_tensors()["projection.weight"].shape == (24, 32)
    request = ("--supernet", tmp_path / "out", "--architecture", "4-32-20-4-16")
    assert cli(extract_model, *request, "--out", tmp_path / "slice")[0] == 0
    further = ("--model", tmp_path / "slice", "--steps", 2, "--out", tmp_path / "model")
    assert cli(train_model, *further)[0] == 0


def test_a_prepared_corpus_is_trained_on_where_it_is(
    cli: Cli, refused: Refused, options: Options, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    prepare = ("--corpus", options["--corpus"], "--teacher", options["--teacher"])
    assert cli(prepare_corpus_command, *prepare, "--out", corpus, "--sequence-length", 16)[0] == 0
    before = contents(corpus)
    ready = {**options, "--corpus": corpus, "--sequence-length": None}
    assert cli(train_supernet, *typed(ready))[0] == 0
    assert contents(corpus) == before
    found = load_supernet(tmp_path / "out")
    assert (found.origin.corpus, found.origin.read_corpus().sequence_length) == (corpus, 16)
    assert not (tmp_path / "out" / "corpus").exists()
    other = {**ready, "--out": tmp_path / "other"}
    for more in (("--sequence-length", 32), ("--max-megabytes", 1)):
        assert "is ready, with sequences of 16 tokens: leave out" in refused(
            train_supernet, *typed(other, *more)
        )
    anew = (*prepare, "--out", corpus, "--sequence-length", 24, "--overwrite")
    assert cli(prepare_corpus_command, *anew)[0] == 0
    assert "different request (another corpus" in refused(train_supernet, *typed(ready))


def test_another_text_is_another_request_and_overwriting_prepares_it(
    cli: Cli, refused: Refused, options: Options, text: Path, tmp_path: Path
) -> None:
    assert cli(train_supernet, *typed(options))[0] == 0
    before = load_supernet(tmp_path / "out")
    text.write_text(text.read_text() + "\n\nThis is one more document of the list.")
    assert "different request (another corpus" in refused(train_supernet, *typed(options))
    (tmp_path / "out" / "vocab.txt").write_text("of another tokenizer")
    assert cli(train_supernet, *typed(options, "--overwrite"))[0] == 0
    after = load_supernet(tmp_path / "out")
    assert before.origin.corpus_sha256 != after.origin.corpus_sha256
    assert len(after.origin.read_corpus().splits) == 3
    assert not (tmp_path / "out" / "vocab.txt").exists()


def test_overwriting_that_is_interrupted_before_its_corpus_can_be_gone_on_with(
    cli: Cli, options: Options, tmp_path: Path
) -> None:
    assert cli(train_supernet, *typed(options))[0] == 0
    other = {**options, "--sequence-length": 16}
    (tmp_path / "out" / "corpus" / "train-00000.safetensors").unlink()
    (tmp_path / "out" / "corpus" / "train-00000.safetensors").mkdir()  # it cannot be replaced
    assert cli(train_supernet, *typed(other, "--overwrite"))[0] != 0
    (tmp_path / "out" / "corpus" / "train-00000.safetensors").rmdir()
    assert cli(train_supernet, *typed(other, "--overwrite"))[0] == 0
    assert load_supernet(tmp_path / "out").origin.read_corpus().sequence_length == 16


@pytest.mark.parametrize("command", [train_supernet, train_model, extract_model])
def test_help_tells_the_options(cli: Cli, command: Callable[..., Any]) -> None:
    code, text, _ = cli(command, "--help")
    assert code == 0
    assert "--out" in text
