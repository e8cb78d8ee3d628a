from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autotinybert.errors import DamagedFileError
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.checkpoint import CHECKPOINT_FILE
from supernet.corpus import TokenCorpus
from supernet.corpus_preparation import make_corpus
from supernet.distillation import Distillation, measured_spec
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.starting import (
    learner_from_teacher,
    training_batches,
)
from supernet.supernet_folder import LOG_FILE, teacher_of
from supernet.training import StepReport, TrainingSettings, TrainingState
from supernet.training_folder import train_in_folder

SMALL = Architecture(1, 8, 16, 4, 8)


@pytest.fixture
def read(teacher: Path) -> BertFolder:
    return read_bert_folder(teacher)


@pytest.fixture
def corpus(text: Path, teacher: Path) -> TokenCorpus:
    return make_corpus(str(text), teacher, sequence_length=32)


def batches(corpus: TokenCorpus) -> Callable[[int], Batch]:
    return training_batches(corpus, batch_size=8, seed=0)


def distil(read: BertFolder, corpus: TokenCorpus) -> Distillation:
    teacher = teacher_of(read, "kd")
    calibration = map(batches(corpus), range(8))
    spec = measured_spec(teacher, calibration, name="kd", attention="scores", relation_heads=None)
    return Distillation(teacher, spec)


class StoppedError(Exception):
    pass


def train_some(
    folder: Path,
    objective: Distillation,
    batch_of: Callable[[int], Batch],
    state: TrainingState,
    settings: TrainingSettings,
    *,
    stop_at: int | None = None,
    checkpoint_every_s: float = 1.0,
) -> None:
    """Each step takes a few seconds of a clock of its own, and saves a checkpoint."""

    def on_step(report: StepReport) -> None:
        if report.step == stop_at:
            raise StoppedError

    largest = state.learner.student.config.largest
    ticks = itertools.count(0.0, 1.0)
    train_in_folder(
        folder,
        state,
        objective,
        batch_of,
        lambda _: [largest, SMALL],
        settings,
        clock_s=lambda: next(ticks),
        on_step=on_step,
        checkpoint_every_s=checkpoint_every_s,
    )


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG_FILE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def begin(read: BertFolder, corpus: TokenCorpus) -> TrainingState:
    return TrainingState(learner_from_teacher(read, batches(corpus)))


def test_the_log_has_a_row_for_ten_steps_and_the_checkpoint_is_of_the_last(
    read: BertFolder, corpus: TokenCorpus, tmp_path: Path
) -> None:
    lesson = distil(read, corpus), batches(corpus)
    state = begin(read, corpus)
    settings = TrainingSettings(steps=23)
    train_some(tmp_path, *lesson, state, settings, checkpoint_every_s=math.inf)
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == ["10", "20", "23"]
    assert all(float(row["largest_loss"]) >= 0 for row in rows)
    assert float(rows[0]["sampled_loss"]) > float(rows[-1]["sampled_loss"])
    resumed = begin(read, corpus)
    train_some(tmp_path, *lesson, resumed, settings)
    assert resumed.step == 23
    for name, value in resumed.tensors().items():
        assert torch.equal(value, state.tensors()[name]), name


def test_a_stopped_training_goes_on_with_its_log_and_steps_are_not_told_twice(
    read: BertFolder, corpus: TokenCorpus, tmp_path: Path
) -> None:
    lesson = distil(read, corpus), batches(corpus)
    settings = TrainingSettings(steps=12)
    with pytest.raises(StoppedError):
        train_some(tmp_path, *lesson, begin(read, corpus), settings, stop_at=8)
    train_some(tmp_path, *lesson, begin(read, corpus), settings, checkpoint_every_s=math.inf)
    steps = [int(row["step"]) for row in log_of(tmp_path)]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 12], "what was done when it was stopped is kept"


def test_without_a_checkpoint_an_old_log_is_begun_anew(
    read: BertFolder, corpus: TokenCorpus, tmp_path: Path
) -> None:
    (tmp_path / LOG_FILE).write_text("of another training")
    lesson = distil(read, corpus), batches(corpus)
    train_some(tmp_path, *lesson, begin(read, corpus), TrainingSettings(steps=2))
    assert [row["step"] for row in log_of(tmp_path)] == ["1", "2"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[: text.rindex(",")],
        lambda text: text.replace("\n2,", "\ntwo,"),
    ],
    ids=["emptied", "torn", "edited"],
)
def test_a_damaged_log_is_refused_and_may_be_removed(
    read: BertFolder, corpus: TokenCorpus, tmp_path: Path, damage: Callable[[str], str]
) -> None:
    lesson = distil(read, corpus), batches(corpus)
    settings = TrainingSettings(steps=4)
    with pytest.raises(StoppedError):
        train_some(tmp_path, *lesson, begin(read, corpus), settings, stop_at=3)
    log = tmp_path / LOG_FILE
    log.write_text(damage(log.read_text()))
    with pytest.raises(DamagedFileError, match=r"training.csv is not as it was written"):
        train_some(tmp_path, *lesson, begin(read, corpus), settings)
    log.unlink()
    train_some(tmp_path, *lesson, begin(read, corpus), settings)
    assert [row["step"] for row in log_of(tmp_path)] == ["4"]
    assert (tmp_path / CHECKPOINT_FILE).exists()
