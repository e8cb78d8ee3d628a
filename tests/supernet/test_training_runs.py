from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import WorkError
from supernet.architecture import Architecture
from supernet.checkpoint import CHECKPOINT_FILE
from supernet.corpus_preparation import prepare_corpus
from supernet.encoder import WEIGHTS_FILE as ENCODER_WEIGHTS
from supernet.student_folder import HEADS_FILE, load_student
from supernet.supernet_folder import WEIGHTS_FILE, load_supernet
from supernet.tokenizer_files import read_tokenizer_files
from supernet.training import StepReport, TrainingSettings
from supernet.training_request import starting_point
from supernet.training_runs import ModelRun, SupernetRun

TEACHER = Architecture(3, 24, 48, 4, 24)

Train = Callable[..., Path]


class StoppedError(Exception):
    pass


def stop_at(step: int | None) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.step == step:
            raise StoppedError

    return on_step


@pytest.fixture
def run(teacher: Path, space_file: Path) -> SupernetRun:
    return SupernetRun(
        point=starting_point(
            objective="kd",
            teacher=str(teacher),
            tokenizer=None,
            space=str(space_file),
            start=None,
            largest=None,
            depth_rule="evenly-spaced",
            attention_loss="auto",
        ),
        tokenizer=read_tokenizer_files(teacher),
        ordered=True,
        settings=TrainingSettings(steps=7, seed=2),
        batch_size=8,
    )


@pytest.fixture
def train(teacher: Path, text: Path, tmp_path: Path) -> Train:
    """Runs in a folder by name; every step takes seconds of a clock, and is a checkpoint."""
    place = tmp_path / "tokens"
    place.mkdir()
    corpus = prepare_corpus(str(text), teacher, place, sequence_length=32)

    def in_folder(run: SupernetRun, name: str, *, stop: int | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        ticks = itertools.count(0.0, 1.0)
        run.train(
            folder,
            corpus,
            place,
            clock_s=lambda: next(ticks),
            on_step=stop_at(stop),
            checkpoint_every_s=0.0,
        )
        return folder

    return in_folder


@pytest.mark.parametrize("start", ["teacher", "random"])
def test_a_superplm_that_was_interrupted_twice_has_the_bytes_of_an_unbroken_one(
    run: SupernetRun, train: Train, start: Any
) -> None:
    run = replace(run, point=replace(run.point, start=start))
    unbroken = train(run, "unbroken")
    for stop in (3, 6):
        with pytest.raises(StoppedError):
            train(run, "broken", stop=stop)
    broken = train(run, "broken")
    assert (broken / WEIGHTS_FILE).read_bytes() == (unbroken / WEIGHTS_FILE).read_bytes()
    first, second = (load_supernet(folder).document for folder in (unbroken, broken))
    assert first["training"]["held_out_losses"] == second["training"]["held_out_losses"]
    assert first["origin"] == second["origin"]


def test_an_interruption_before_the_first_checkpoint_begins_anew(
    run: SupernetRun, train: Train
) -> None:
    with pytest.raises(StoppedError):
        train(run, "broken", stop=1)
    hashes = {load_supernet(train(run, name)).sha256 for name in ("unbroken", "broken")}
    assert len(hashes) == 1


def test_the_seed_decides_the_weights(run: SupernetRun, train: Train) -> None:
    other = replace(run, settings=replace(run.settings, seed=3))
    hashes = {load_supernet(train(one, name)).sha256 for one, name in ((run, "a"), (other, "b"))}
    assert len(hashes) == 2


def test_a_space_of_one_shape_is_trained_and_shown(run: SupernetRun, train: Train) -> None:
    alone = replace(
        run.point.space, num_layers=(2,), hidden_sizes=(8,), ffn_sizes=(16,), qkv_sizes=(8,)
    )
    found = load_supernet(train(replace(run, point=replace(run.point, space=alone)), "out"))
    assert list(found.document["training"]["held_out_losses"]) == [str(TEACHER), "2-8-16-4-8"]


def test_one_shape_a_batch_trains_the_largest_alone(run: SupernetRun, train: Train) -> None:
    alone = replace(run, settings=replace(run.settings, shapes_per_batch=1))
    folder = train(alone, "out")
    rows = (folder / "training.csv").read_text().splitlines()
    assert rows[1].endswith(","), "there is no sampled loss"


def test_training_lowers_the_held_out_loss_of_every_shape_that_is_shown(
    run: SupernetRun, train: Train
) -> None:
    short, long = (
        replace(run, settings=TrainingSettings(steps=steps, shapes_per_batch=6))
        for steps in (1, 60)
    )
    before, after = (
        load_supernet(train(one, name)).document["training"]["held_out_losses"]
        for one, name in ((short, "short"), (long, "long"))
    )
    assert before.keys() == after.keys()
    slices = [name for name in before if name != str(TEACHER)]
    assert all(after[name] < before[name] for name in slices)


def test_weights_that_fly_away_are_no_result(run: SupernetRun, train: Train) -> None:
    wild = replace(run, settings=TrainingSettings(steps=1, learning_rate=1e38))
    with pytest.raises(WorkError, match="no finite number: try a lower --learning-rate"):
        train(wild, "out")


def train_student(student: Path, folder: Path, *, stop: int | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    found = load_student(student)
    ticks = itertools.count(0.0, 1.0)
    ModelRun(
        student=found,
        tokenizer=read_tokenizer_files(student),
        settings=TrainingSettings(steps=7, shapes_per_batch=1),
        batch_size=8,
    ).train(
        folder,
        found.origin.read_teacher(),
        found.origin.read_corpus(),
        clock_s=lambda: next(ticks),
        on_step=stop_at(stop),
        checkpoint_every_s=0.0,
    )
    return folder


def test_a_model_that_was_interrupted_has_the_bytes_of_an_unbroken_one(
    student: Path, tmp_path: Path
) -> None:
    unbroken = train_student(student, tmp_path / "unbroken")
    with pytest.raises(StoppedError):
        train_student(student, tmp_path / "broken", stop=4)
    assert (tmp_path / "broken" / CHECKPOINT_FILE).exists()
    broken = train_student(student, tmp_path / "broken")
    for name in (ENCODER_WEIGHTS, HEADS_FILE):
        assert (broken / name).read_bytes() == (unbroken / name).read_bytes()
    steps = [load_student(folder).history[-1] for folder in (unbroken, broken)]
    for key in ("held_out_loss_before", "held_out_loss", "steps"):
        assert steps[0][key] == steps[1][key], "before means: before any training"


def test_training_leaves_the_student_that_it_began_with_as_it_was(
    student: Path, tmp_path: Path
) -> None:
    found = load_student(student)
    weight = found.learner.head_tensors()["projection.weight"].clone()
    ModelRun(
        student=found,
        tokenizer={},
        settings=TrainingSettings(steps=2),
        batch_size=8,
    ).train(
        tmp_path,
        found.origin.read_teacher(),
        found.origin.read_corpus(),
        clock_s=itertools.count(0.0, 1.0).__next__,
    )
    assert found.learner.head_tensors()["projection.weight"].equal(weight)
    trained = load_student(tmp_path)
    assert not trained.learner.head_tensors()["projection.weight"].equal(weight)
    assert [step["did"] for step in trained.history] == ["extract-model", "train-model"]
    assert json.loads(json.dumps(trained.history[-1])) == trained.history[-1]
