from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autotinybert.errors import DamagedFileError, InputError
from supernet.architecture import Architecture
from supernet.checkpoint import CHECKPOINT_FILE
from supernet.corpus import TokenCorpus
from supernet.corpus_preparation import make_corpus
from supernet.distilling import (
    Lesson,
    check_corpus,
    measure_variance,
    student_from_random,
    student_from_teacher,
    student_in_order,
    train_in_folder,
    training_batches,
)
from supernet.held_out import HeldOutLoss
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.importance import ChannelOrder
from supernet.supernet_folder import LOG_FILE
from supernet.tokenizer_files import read_tokenizer_files
from supernet.training import StepReport, TrainingSettings, TrainingState

SMALL = Architecture(1, 8, 16, 4, 8)


@pytest.fixture
def read(teacher: Path) -> BertFolder:
    return read_bert_folder(teacher)


@pytest.fixture
def corpus(text: Path, teacher: Path) -> TokenCorpus:
    return make_corpus(str(text), teacher, sequence_length=32)


def lesson_of(read: BertFolder, corpus: TokenCorpus) -> Lesson:
    batch_of = training_batches(corpus, batch_size=8, seed=0)
    model = read.model()
    return Lesson(model, measure_variance(model, batch_of), batch_of)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_student_from_a_teacher_begins_as_the_teacher(
    read: BertFolder, corpus: TokenCorpus, *, ordered: bool
) -> None:
    lesson = lesson_of(read, corpus)
    student, projection = student_from_teacher(read, lesson.batch_of, ordered=ordered)
    held_out = HeldOutLoss(lesson.teacher, lesson.variance, corpus.splits["search"])
    assert held_out(student, projection).loss < 1e-6
    assert held_out(student, projection, SMALL).loss > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_channels_is_undone_by_the_projection(
    read: BertFolder, corpus: TokenCorpus, seed: int
) -> None:
    torch.manual_seed(seed)
    layers, heads = range(3), range(4)

    def within_heads() -> torch.Tensor:
        return torch.cat([torch.randperm(6) + 6 * head for head in heads])

    order = ChannelOrder(
        hidden=torch.randperm(24),
        ffn=tuple(torch.randperm(48) for _ in layers),
        query_key=tuple(within_heads() for _ in layers),
        value=tuple(within_heads() for _ in layers),
    )
    lesson = lesson_of(read, corpus)
    student, projection = student_in_order(read, order, depth_rule="first")
    held_out = HeldOutLoss(lesson.teacher, lesson.variance, corpus.splits["test"])
    assert held_out(student, projection).loss < 1e-6


def test_important_channels_first_make_better_slices(
    save_teacher: Callable[..., Any], tmp_path: Path, text: Path
) -> None:
    """In a teacher whose channels differ in size, as those of trained ones do."""
    peer = save_teacher(tmp_path / "uneven", num_hidden_layers=1)
    with torch.no_grad():
        scale = torch.linspace(0.1, 2, 24)
        for name, parameter in peer.named_parameters():
            if "LayerNorm" in name:
                parameter.mul_(scale)
    peer.save_pretrained(tmp_path / "uneven")
    read = read_bert_folder(tmp_path / "uneven")
    corpus = make_corpus(str(text), tmp_path / "uneven", sequence_length=32)
    lesson = lesson_of(read, corpus)
    held_out = HeldOutLoss(lesson.teacher, lesson.variance, corpus.splits["search"])
    slice_ = Architecture(1, 12, 48, 4, 24)
    with_order, without = (
        held_out(*student_from_teacher(read, lesson.batch_of, ordered=ordered), slice_).hidden
        for ordered in (True, False)
    )
    assert with_order < 0.8 * without


def test_a_student_from_random_weights_has_any_shape_and_follows_from_the_seed(
    read: BertFolder,
) -> None:
    largest = Architecture(5, 40, 20, 4, 12)
    first, second, other = (student_from_random(read, largest, seed=seed) for seed in (1, 1, 2))
    assert first[0].config.largest == largest
    assert first[0].config.vocab_size == read.config.vocab_size
    assert first[1].weight.shape == (24, 40)
    for (name, value), same, different in zip(
        first[0].named_parameters(), second[0].parameters(), other[0].parameters(), strict=True
    ):
        assert torch.equal(value, same)
        assert ("LayerNorm" in name or "bias" in name) == torch.equal(value, different)
    assert torch.equal(first[1].weight, second[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


def test_a_teacher_that_says_the_same_of_every_token_is_refused(
    read: BertFolder, corpus: TokenCorpus
) -> None:
    nothing = {name: torch.zeros_like(value) for name, value in read.weights.items()}
    with pytest.raises(InputError, match="says the same of every token"):
        lesson_of(replace(read, weights=nothing), corpus)


class TestCheckCorpus:
    def test_the_teachers_own_is_accepted(self, read: BertFolder, corpus: TokenCorpus) -> None:
        check_corpus(corpus, read, read_tokenizer_files(read.path))

    @pytest.mark.parametrize(
        "change",
        [
            {"facts": {}},
            {"facts": {"tokenizer_file": "tokenizer.json", "tokenizer_sha256": "0" * 64}},
            {"facts": {"tokenizer_file": "vocab.txt", "tokenizer_sha256": "0" * 64}},
            {"vocab_size": 10_000},
        ],
        ids=["unknown", "other content", "other file", "larger"],
    )
    def test_one_of_another_tokenizer_is_refused(
        self, read: BertFolder, corpus: TokenCorpus, change: Mapping[str, Any]
    ) -> None:
        with pytest.raises(InputError, match=r"another tokenizer .* prepare-corpus --teacher"):
            check_corpus(replace(corpus, **change), read, read_tokenizer_files(read.path))

    def test_sequences_longer_than_its_positions_are_refused(
        self, read: BertFolder, corpus: TokenCorpus
    ) -> None:
        longer = replace(corpus, sequence_length=65)
        with pytest.raises(InputError, match=r"sequences of 65 tokens .* reads up to 64; choose"):
            check_corpus(longer, read, read_tokenizer_files(read.path))


class StoppedError(Exception):
    pass


def train_some(
    folder: Path,
    lesson: Lesson,
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

    largest = state.student.config.largest
    ticks = itertools.count(0.0, 1.0)
    train_in_folder(
        folder,
        state,
        lesson,
        lambda _: [largest, SMALL],
        settings,
        clock_s=lambda: next(ticks),
        on_step=on_step,
        checkpoint_every_s=checkpoint_every_s,
    )


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG_FILE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def begin(read: BertFolder, lesson: Lesson) -> TrainingState:
    return TrainingState(*student_from_teacher(read, lesson.batch_of))


def test_the_log_has_a_row_for_ten_steps_and_the_checkpoint_is_of_the_last(
    read: BertFolder, corpus: TokenCorpus, tmp_path: Path
) -> None:
    lesson = lesson_of(read, corpus)
    state = begin(read, lesson)
    settings = TrainingSettings(steps=23)
    train_some(tmp_path, lesson, state, settings, checkpoint_every_s=math.inf)
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == ["10", "20", "23"]
    assert all(float(row["largest_loss"]) >= 0 for row in rows)
    assert float(rows[0]["sampled_loss"]) > float(rows[-1]["sampled_loss"])
    resumed = begin(read, lesson)
    train_some(tmp_path, lesson, resumed, settings)
    assert resumed.step == 23
    for name, value in resumed.tensors().items():
        assert torch.equal(value, state.tensors()[name]), name


def test_a_stopped_training_goes_on_with_its_log_and_steps_are_not_told_twice(
    read: BertFolder, corpus: TokenCorpus, tmp_path: Path
) -> None:
    lesson = lesson_of(read, corpus)
    settings = TrainingSettings(steps=12)
    with pytest.raises(StoppedError):
        train_some(tmp_path, lesson, begin(read, lesson), settings, stop_at=8)
    train_some(tmp_path, lesson, begin(read, lesson), settings, checkpoint_every_s=math.inf)
    steps = [int(row["step"]) for row in log_of(tmp_path)]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 12], "what was done when it was stopped is kept"


def test_without_a_checkpoint_an_old_log_is_begun_anew(
    read: BertFolder, corpus: TokenCorpus, tmp_path: Path
) -> None:
    (tmp_path / LOG_FILE).write_text("of another training")
    lesson = lesson_of(read, corpus)
    train_some(tmp_path, lesson, begin(read, lesson), TrainingSettings(steps=2))
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
    lesson = lesson_of(read, corpus)
    settings = TrainingSettings(steps=4)
    with pytest.raises(StoppedError):
        train_some(tmp_path, lesson, begin(read, lesson), settings, stop_at=3)
    log = tmp_path / LOG_FILE
    log.write_text(damage(log.read_text()))
    with pytest.raises(DamagedFileError, match=r"training.csv is not as it was written"):
        train_some(tmp_path, lesson, begin(read, lesson), settings)
    log.unlink()
    train_some(tmp_path, lesson, begin(read, lesson), settings)
    assert [row["step"] for row in log_of(tmp_path)] == ["4"]
    assert (tmp_path / CHECKPOINT_FILE).exists()
