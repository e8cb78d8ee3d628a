"""From a teacher and a corpus to a trained student: what the training commands share."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from autotinybert.errors import InputError
from autotinybert.files import whole_file
from supernet.architecture import Architecture
from supernet.batches import BatchOrder
from supernet.checkpoint import CHECKPOINT_FILE, restore_checkpoint, save_checkpoint
from supernet.corpus import TokenCorpus
from supernet.elastic import DepthRule
from supernet.held_out import as_batch
from supernet.huggingface import BertFolder
from supernet.importance import channel_order, reorder
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.objectives import TeacherVariance, teacher_signals, teacher_variance
from supernet.supernet_folder import LOG_FILE
from supernet.training import Batch, StepReport, TrainingSettings, TrainingState, train

Start = Literal["teacher", "random"]
STARTS: tuple[Start, ...] = get_args(Start)

# Batches that the teacher's variance and the order of channels are taken from: with 32 sequences
# of 64 tokens each, 16,000 tokens, which fixes both within a few per cent.
_CALIBRATION_BATCHES = 8

_CHECKPOINT_EVERY_S = 60.0
_STEPS_PER_LOG_ROW = 10

_LOG_COLUMNS = tuple(field.name for field in dataclasses.fields(StepReport))


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Who teaches, and from what text.

    Attributes:
        teacher: frozen.
        variance: of its signals: the unit of each loss term.
        batch_of: the training batch of a step.
    """

    teacher: SuperPLM
    variance: TeacherVariance
    batch_of: Callable[[int], Batch]


def check_vocabulary(teacher: BertFolder, corpus: TokenCorpus) -> None:
    """Refuses a corpus of another tokenizer, or sequences longer than the teacher's positions.

    Raises:
        InputError: saying which.
    """
    if corpus.vocab_size > teacher.config.vocab_size:
        raise InputError(
            f"the corpus was made with a vocabulary of {corpus.vocab_size}, the teacher's has "
            f"{teacher.config.vocab_size}: prepare the corpus with the teacher's own tokenizer"
        )
    if corpus.sequence_length > teacher.config.max_positions:
        raise InputError(
            f"the corpus has sequences of {corpus.sequence_length} tokens, the teacher reads up "
            f"to {teacher.config.max_positions}: prepare it with a shorter --sequence-length"
        )


def training_batches(corpus: TokenCorpus, *, batch_size: int, seed: int) -> Callable[[int], Batch]:
    """The training batch of a step, the same whenever it is asked for."""
    split = corpus.splits["train"]
    order = BatchOrder(split.lengths, batch_size=batch_size, seed=seed)
    return lambda step: as_batch(split, order.indices(step))


def measure_variance(teacher: SuperPLM, batch_of: Callable[[int], Batch]) -> TeacherVariance:
    """The variance of a teacher's signals over the first batches."""
    batches = map(batch_of, range(_CALIBRATION_BATCHES))
    return teacher_variance(teacher_signals(teacher, *batch) for batch in batches)


def student_from_teacher(
    teacher: BertFolder,
    batch_of: Callable[[int], Batch],
    *,
    depth_rule: DepthRule = "evenly-spaced",
    ordered: bool = True,
) -> tuple[SuperPLM, nn.Linear]:
    """A SuperPLM that is the teacher, and the projection that undoes the order of its channels.

    Args:
        teacher: whose weights it starts from.
        batch_of: text to judge the importance of channels by.
        depth_rule: how shallower slices choose layers.
        ordered: put important channels first; without it they stay as the teacher has them.
    """
    weights = dict(teacher.weights)
    size = teacher.config.largest.hidden_size
    position = torch.arange(size)
    if ordered:
        order = channel_order(teacher.model(), map(batch_of, range(_CALIBRATION_BATCHES)))
        weights = reorder(weights, order)
        position = order.hidden
    projection = nn.Linear(size, size)
    with torch.no_grad():
        projection.weight.zero_()
        projection.bias.zero_()
        projection.weight[position, torch.arange(size)] = 1.0
    config = dataclasses.replace(teacher.config, depth_rule=depth_rule)
    return SuperPLM.from_weights(config, weights), projection


def student_from_random(
    teacher: BertFolder, largest: Architecture, *, depth_rule: DepthRule = "first", seed: int
) -> tuple[SuperPLM, nn.Linear]:
    """A SuperPLM of any shape with random weights, and a random projection."""
    config: SuperPLMConfig = dataclasses.replace(
        teacher.config, largest=largest, depth_rule=depth_rule
    )
    generator = torch.Generator().manual_seed(seed)
    student = SuperPLM(config)
    student.initialise(generator)
    projection = nn.Linear(largest.hidden_size, teacher.config.largest.hidden_size)
    with torch.no_grad():
        projection.bias.zero_()
        projection.weight.normal_(0.0, largest.hidden_size**-0.5, generator=generator)
    return student, projection


def train_in_folder(
    folder: Path,
    state: TrainingState,
    lesson: Lesson,
    shapes_of: Callable[[int], Sequence[Architecture]],
    settings: TrainingSettings,
    *,
    clock_s: Callable[[], float],
    on_step: Callable[[StepReport], None] = lambda _: None,
    checkpoint_every_s: float = _CHECKPOINT_EVERY_S,
) -> None:
    """Trains, with a log and checkpoints in a folder; goes on from the checkpoint that is there.

    Args:
        folder: it exists.
        state: the student as it begins.
        lesson: the teacher and the text.
        shapes_of: the slices that a step trains, the largest first.
        settings: how long, and how.
        clock_s: reads seconds.
        on_step: told after every step.
        checkpoint_every_s: seconds between checkpoints.

    Raises:
        DamagedFileError: if the checkpoint is damaged.
        WorkError: if the loss is no finite number any more.
    """
    path = folder / CHECKPOINT_FILE
    if path.exists():
        restore_checkpoint(path, state)
    log = _Log(folder / LOG_FILE, state.step)
    saved_s = clock_s()

    def after(report: StepReport) -> None:
        nonlocal saved_s
        log.add(report)
        on_step(report)
        if clock_s() - saved_s >= checkpoint_every_s:
            log.write()
            save_checkpoint(path, state)
            saved_s = clock_s()

    train(
        state,
        lesson.teacher,
        lesson.variance,
        lesson.batch_of,
        shapes_of,
        settings,
        clock_s=clock_s,
        on_step=after,
    )
    log.write()
    save_checkpoint(path, state)


class _Log:
    """The rows of `training.csv`: means over ten steps each."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._rows: list[list[str]] = []
        self._pending: list[StepReport] = []
        if path.exists() and step:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))[1:]
            # Steps after the checkpoint are made again.
            self._rows = [row for row in rows if row and int(row[0]) <= step]

    def add(self, report: StepReport) -> None:
        self._pending.append(report)
        if len(self._pending) == _STEPS_PER_LOG_ROW:
            self._flush()

    def write(self) -> None:
        self._flush()
        with whole_file(self._path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_LOG_COLUMNS)
            writer.writerows(self._rows)

    def _flush(self) -> None:
        if not self._pending:
            return
        last = self._pending[-1].to_json()
        for name in ("largest_loss", "sampled_loss"):
            values = [getattr(report, name) for report in self._pending]
            last[name] = None if None in values else float(np.mean(values))
        cells = ("" if value is None else f"{value:.6g}" for value in last.values())
        self._rows.append(list(cells))
        self._pending = []
