"""`finetune-model`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autotinybert.errors import DamagedFileError
from autotinybert.files import REQUEST_FILE
from supernet.cli import export_model
from supernet.encoder import load_encoder
from supernet.heads import Head, head_shapes
from supernet.tasks.finetune_cli import finetune_model
from supernet.tasks.finetune_results import RESULTS_FILE, load_results, save_results

Cli = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
Make = Callable[..., Path]
Options = dict[str, object]


def typed(options: Options) -> list[object]:
    """Options as typed; None leaves one out."""
    return [part for pair in options.items() if pair[1] is not None for part in pair]


@pytest.fixture
def request_(make_model: Make, write_rule: Make, tmp_path: Path) -> Options:
    """What a small `finetune-model` needs; `--out` is absent as yet."""
    return {
        "--model": make_model(),
        "--task": "csv",
        "--train": write_rule("train.csv", 320),
        "--dev": write_rule("dev.csv", 100, seed=1),
        "--epochs": 3,
        "--batch-size": 16,
        "--learning-rate": 1e-2,
        "--sequence-length": 16,
        "--out": tmp_path / "out",
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_of_ones_own_becomes_a_classifier(
    cli: Cli, request_: Options, write_rule: Make, tmp_path: Path
) -> None:
    test = write_rule("test.csv", 60, seed=2)
    code, out, error = cli(finetune_model, *typed({**request_, "--test": test}), "--json")
    assert (code, error) == (0, "")
    answer = json.loads(out)
    assert answer["score"] > 90
    assert answer["interval_95"][0] <= answer["score"] <= answer["interval_95"][1]
    assert answer["test"]["predictions.csv"]["accuracy"] > 90
    encoder, extra = load_encoder(tmp_path / "out")
    assert encoder.head is not None
    assert encoder.head.labels == ("leisure", "work")
    assert extra["license"] == "mit"
    assert [step["did"] for step in extra["history"]] == ["extract-model", "finetune-model"]
    assert "heads" not in extra
    lines = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    gold = [line.split(",")[1] for line in test.read_text().splitlines()[1:]]
    assert lines[0] == "id,prediction"
    true = [f"{number},{label}" for number, label in enumerate(gold)]
    assert sum(np.array(lines[1:]) == np.array(true)) > 54
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_an_official_folder_is_read_and_its_submission_written(
    cli: Cli, request_: Options, write_rule: Make, tmp_path: Path
) -> None:
    for name, count in (("train.tsv", 320), ("dev.tsv", 80)):
        write_rule(f"SST-2/{name}", count, header="sentence\tlabel", labels=("0", "1"), seed=count)
    test = tmp_path / "SST-2" / "test.tsv"
    test.write_text("index\tsentence\n0\tthe play of one\n1\tthe list of one\n")
    official: Options = {**request_, "--task": "SST-2", "--train": None, "--dev": None}
    code, out, _ = cli(finetune_model, *typed({**official, "--data": tmp_path / "SST-2"}))
    assert code == 0
    assert "dev.tsv: accuracy" in out
    submission = (tmp_path / "out" / "SST-2.tsv").read_text()
    assert submission == "index\tprediction\n0\t1\n1\t0\n"
    encoder, _ = load_encoder(tmp_path / "out")
    assert encoder.head is not None
    assert encoder.head.labels == ("negative", "positive")


def test_mnli_is_judged_matched_and_mismatched_and_answers_three_files(
    cli: Cli, request_: Options, tmp_path: Path
) -> None:
    folder = tmp_path / "MNLI"
    folder.mkdir()
    header = "index\tsentence1\tsentence2"
    rows = ["0\tthe play\tthe list", "1\ta model\ta word", "2\ta play\tone"]
    labels = ("entailment", "neutral", "contradiction")
    for name in ("train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"):
        labelled = [f"{row}\t{label}" for row, label in zip(rows, labels, strict=True)]
        (folder / name).write_text("\n".join([f"{header}\tgold_label", *labelled]) + "\n")
    for name in ("test_matched.tsv", "test_mismatched.tsv", "diagnostic.tsv"):
        (folder / name).write_text("\n".join([header, *rows]) + "\n")
    official: Options = {**request_, "--task": "mnli", "--train": None, "--dev": None}
    code, out, _ = cli(finetune_model, *typed({**official, "--data": folder}), "--json")
    assert code == 0
    chosen = json.loads(out)["chosen"]
    assert set(chosen["dev"]) == {"dev_matched.tsv", "dev_mismatched.tsv"}
    assert chosen["score"] == chosen["dev"]["dev_matched.tsv"]["accuracy"]
    for name in ("MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"):
        lines = (tmp_path / "out" / name).read_text().splitlines()
        assert lines[0] == "index\tprediction"
        assert {line.split("\t")[1] for line in lines[1:]} <= set(labels)


def test_a_slice_of_a_superplm_becomes_a_classifier_that_can_be_exported(
    cli: Cli, request_: Options, student: Path, tmp_path: Path
) -> None:
    code, _, error = cli(finetune_model, *typed({**request_, "--model": student, "--epochs": 1}))
    assert (code, error) == (0, "")
    _, extra = load_encoder(tmp_path / "out")
    assert extra["origin"]["teacher"]["sha256"]
    exported = ("--model", tmp_path / "out", "--out", tmp_path / "exported", "--json")
    code, out, _ = cli(export_model, *exported)
    assert code == 0
    assert json.loads(out)["labels"] == ["leisure", "work"]


def test_a_grid_of_several_seeds_is_reported_and_its_best_is_kept(
    cli: Cli, request_: Options, tmp_path: Path
) -> None:
    arguments = [*typed({**request_, "--epochs": 1, "--seeds": 2}), "--learning-rate", 1e-9]
    code, out, _ = cli(finetune_model, *arguments)
    assert code == 0
    assert "±" in out
    results = load_results(tmp_path / "out")
    assert [(run.settings.learning_rate, run.settings.seed) for run in results.runs] == [
        (1e-2, 0), (1e-2, 1), (1e-9, 0), (1e-9, 1),
    ]  # fmt: skip
    first, second = results.points()
    assert first.mean == pytest.approx(np.mean([run.score for run in results.runs[:2]]))
    assert first.deviation == pytest.approx(np.std([run.score for run in results.runs[:2]], ddof=1))
    assert second.seeds == 2
    assert results.chosen.score == max(run.score for run in results.runs)
    _, extra = load_encoder(tmp_path / "out")
    assert extra["history"][-1]["settings"] == results.chosen.settings.to_json()


@pytest.mark.parametrize("made", [0, 1, 2, 3])
def test_an_interrupted_grid_goes_on_with_the_next_run_and_ends_the_same(
    cli: Cli, request_: Options, tmp_path: Path, made: int
) -> None:
    out = tmp_path / "out"
    arguments = typed({**request_, "--epochs": 1, "--seeds": 3})
    assert cli(finetune_model, *arguments)[0] == 0
    whole, results = contents(out), load_results(out)
    # What a crash after so many runs leaves.
    request = out / REQUEST_FILE
    request.write_text(request.read_text().replace('"finished"', '"unfinished"'))
    (out / RESULTS_FILE).unlink()
    if made:
        save_results(out, replace(results, runs=results.runs[:made], interval=None))
    assert cli(finetune_model, *arguments)[0] == 0
    assert contents(out) == whole


def test_runs_that_were_made_before_are_not_made_again(
    cli: Cli, request_: Options, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = typed({**request_, "--epochs": 1, "--seeds": 2})
    assert cli(finetune_model, *arguments)[0] == 0
    request = out / REQUEST_FILE
    request.write_text(request.read_text().replace('"finished"', '"unfinished"'))
    results = load_results(out)
    marked = replace(results.runs[0], epoch_scores=(99.5,))  # no run would give it
    save_results(out, replace(results, runs=(marked,)))
    assert cli(finetune_model, *arguments)[0] == 0
    assert [run.score for run in load_results(out).runs] == [99.5, results.runs[1].score]


def test_the_same_command_again_writes_nothing(cli: Cli, request_: Options, tmp_path: Path) -> None:
    small: Options = {**request_, "--epochs": 1}
    assert cli(finetune_model, *typed(small))[0] == 0
    before = contents(tmp_path / "out")
    code, out, _ = cli(finetune_model, *typed(small))
    assert (code, "was fine-tuned before; nothing was written" in out) == (0, True)
    assert contents(tmp_path / "out") == before


def test_what_was_fine_tuned_can_be_fine_tuned_further_with_its_labels_in_their_order(
    cli: Cli, request_: Options, make_model: Make, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    labels = ("WORK", "Leisure")
    shapes = head_shapes("classification", 16, 2)
    weights = {name: rng.normal(0, 0.1, s).astype(np.float32) for name, s in shapes.items()}
    model = make_model("headed", Head("classification", labels, weights))
    assert cli(finetune_model, *typed({**request_, "--model": model}))[0] == 0
    encoder, _ = load_encoder(tmp_path / "out")
    assert encoder.head is not None
    assert encoder.head.labels == labels
    assert load_results(tmp_path / "out").chosen.score > 90


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--model": "absent"}, "no encoder in absent"),
        ({"--task": "imdb"}, "no task 'imdb'"),
        ({"--train": "absent.csv"}, "cannot read absent.csv"),
        ({"--dev": None}, "--train FILE and --dev FILE"),
        ({"--data": "folder"}, "--data names all files"),
        ({"--data": "folder", "--train": None, "--dev": None}, "--data is for GLUE's tasks"),
        (
            {"--task": "mnli", "--data": "folder", "--train": None, "--dev": None},
            "no train.tsv in folder",
        ),
        ({"--sequence-length": 25}, "more than the 24 positions"),
        ({"--learning-rate": 0}, "learning rate must be above 0"),
        ({"--grid": "large"}, "no --grid 'large'"),
        ({"--grid": "paper"}, "leave these options out"),
        ({"--device": "tpu"}, "no --device 'tpu'"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(
    refused: Refused, request_: Options, tmp_path: Path, changes: Options, message: str
) -> None:
    assert message in refused(finetune_model, *typed({**request_, **changes}))
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_learnt_from_are_named(
    refused: Refused, request_: Options, write_rule: Make, tmp_path: Path
) -> None:
    for name, labels, option, message in (
        ("bare.csv", ("", ""), "--train", "bare.csv has no labels"),
        ("bare.csv", ("", ""), "--dev", "bare.csv has no labels"),
        ("same.csv", ("x", "x"), "--train", "has the label x alone"),
        ("other.csv", ("x", "y"), "--dev", "other.csv, line 2 has the label 'x': use one of"),
    ):
        path = write_rule(name, 4, labels=labels)
        assert message in refused(finetune_model, *typed({**request_, option: path}))
    assert not (tmp_path / "out").exists()


def test_edited_results_are_refused(cli: Cli, request_: Options, tmp_path: Path) -> None:
    assert cli(finetune_model, *typed({**request_, "--epochs": 1}))[0] == 0
    path = tmp_path / "out" / RESULTS_FILE
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(DamagedFileError, match="remove it and run"):
        load_results(tmp_path / "out")
