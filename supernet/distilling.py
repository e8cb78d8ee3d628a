"""From a teacher and a corpus to a trained student: what the training commands share."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import sha256_bytes, whole_file
from supernet.architecture import Architecture
from supernet.batches import BatchOrder
from supernet.checkpoint import CHECKPOINT_FILE, restore_checkpoint, save_checkpoint
from supernet.corpus import TokenCorpus
from supernet.elastic import DepthRule
from supernet.held_out import as_batch
from supernet.huggingface import BertFolder
from supernet.importance import ChannelOrder, channel_order, reorder
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.objectives import TeacherVariance, teacher_signals, teacher_variance
from supernet.supernet_folder import LOG_FILE
from supernet.training import Batch, StepReport, TrainingSettings, TrainingState, train

Start = Literal["teacher", "random"]
STARTS: tuple[Start, ...] = get_args(Start)

# Batches that the teacher's variance and the order of channels are taken from: with 32 sequences
# of 64 tokens each, 16,000 tokens, which fixes both within a few per cent.
_CALIBRATION_BATCHES = 8

# A crash costs as much training; writing one takes a second.
CHECKPOINT_EVERY_S = 60.0
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


def check_corpus(corpus: TokenCorpus, teacher: BertFolder, tokenizer: Mapping[str, bytes]) -> None:
    """Refuses a corpus of another tokenizer, or sequences longer than the teacher's positions.

    Args:
        corpus: the corpus.
        teacher: whose vocabulary has a row for every token of its own tokenizer.
        tokenizer: the teacher's tokenizer files by name.

    Raises:
        InputError: saying which.
    """
    name = corpus.facts.get("tokenizer_file")
    content = tokenizer.get(str(name))
    if (
        content is None
        or sha256_bytes(content) != corpus.facts.get("tokenizer_sha256")
        or corpus.vocab_size > teacher.config.vocab_size
    ):
        raise InputError(
            f"the corpus was made with another tokenizer ({name}, {corpus.vocab_size} tokens) than "
            f"the one in {teacher.path}: make it again with prepare-corpus --teacher {teacher.path}"
        )
    check_positions(corpus.sequence_length, teacher)


def check_positions(sequence_length: int, teacher: BertFolder) -> None:
    """Refuses sequences that are longer than what a teacher reads.

    Raises:
        InputError: naming both lengths.
    """
    if sequence_length > teacher.config.max_positions:
        raise InputError(
            f"sequences of {sequence_length} tokens are too long for the teacher in "
            f"{teacher.path}: it reads up to {teacher.config.max_positions}; choose a shorter "
            "--sequence-length"
        )


def training_batches(corpus: TokenCorpus, *, batch_size: int, seed: int) -> Callable[[int], Batch]:
    """The training batch of a step, the same whenever it is asked for."""
    split = corpus.splits["train"]
    order = BatchOrder(split.lengths, batch_size=batch_size, seed=seed)
    return lambda step: as_batch(split, order.indices(step))


def measure_variance(teacher: SuperPLM, batch_of: Callable[[int], Batch]) -> TeacherVariance:
    """The variance of a teacher's signals over the first batches.

    Raises:
        InputError: if they do not vary: there is nothing to learn then.
    """
    batches = map(batch_of, range(_CALIBRATION_BATCHES))
    variance = teacher_variance(teacher_signals(teacher, *batch) for batch in batches)
    if not (variance.scores > 0 and variance.hidden > 0):
        raise InputError("the teacher says the same of every token: give one that was trained")
    return variance


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
    order = None
    if ordered:
        order = channel_order(teacher.model(), map(batch_of, range(_CALIBRATION_BATCHES)))
    return student_in_order(teacher, order, depth_rule=depth_rule)


def student_in_order(
    teacher: BertFolder, order: ChannelOrder | None, *, depth_rule: DepthRule
) -> tuple[SuperPLM, nn.Linear]:
    """A SuperPLM that is the teacher with its channels in some order, and the way back.

    Args:
        teacher: whose weights it starts from.
        order: of its channels; None leaves them as they are.
        depth_rule: how shallower slices choose layers.

    Returns:
        The SuperPLM, and the projection from its hidden state to the teacher's.
    """
    size = teacher.config.largest.hidden_size
    weights = teacher.weights if order is None else reorder(teacher.weights, order)
    position = torch.arange(size) if order is None else order.hidden
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
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
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
        DamagedFileError: if the checkpoint or the log is damaged.
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

    try:
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
    finally:
        # Also when it is interrupted, unless that is in the middle of a step.
        if state.step and not state.updating:
            log.write()
            save_checkpoint(path, state)


class _Log:
    """The rows of `training.csv`: means over ten steps each."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._rows: list[list[str]] = []
        self._pending: list[StepReport] = []
        if path.exists() and step:
            # Steps after the checkpoint are made again.
            self._rows = [row for row in _read_rows(path) if int(row[0]) <= step]

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
        last: dict[str, Any] = self._pending[-1].to_json()
        for name in ("largest_loss", "sampled_loss"):
            values = [getattr(report, name) for report in self._pending]
            last[name] = None if None in values else float(np.mean(values))
        self._rows.append([_cell(value) for value in last.values()])
        self._pending = []


def _cell(value: int | float | None) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if value is None else f"{value:.6g}"


def _read_rows(path: Path) -> list[list[str]]:
    """The rows of a log, below its header.

    Raises:
        DamagedFileError: if it is not as it was written.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if tuple(header) != _LOG_COLUMNS or any(len(row) != len(header) for row in rows):
            raise ValueError("other columns")
        for row in rows:
            int(row[0])
            [float(cell) for cell in row if cell]
    except (OSError, ValueError, csv.Error) as error:
        raise DamagedFileError(
            f"{path} is not as it was written ({error}): remove it, the training does not need it"
        ) from error
    return rows
