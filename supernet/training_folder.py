"""Training in a folder: a log, and checkpoints that an interrupted run goes on from."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autotinybert.errors import DamagedFileError
from autotinybert.files import whole_file
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.checkpoint import CHECKPOINT_FILE, restore_checkpoint, save_checkpoint
from supernet.objectives import Objective
from supernet.supernet_folder import LOG_FILE
from supernet.training import StepReport, TrainingSettings, TrainingState, train

# A crash costs as much training; writing one takes a second.
CHECKPOINT_EVERY_S = 60.0
_STEPS_PER_LOG_ROW = 10

_LOG_COLUMNS = tuple(field.name for field in dataclasses.fields(StepReport))


def train_in_folder(
    folder: Path,
    state: TrainingState,
    objective: Objective,
    batch_of: Callable[[int], Batch],
    shapes_of: Callable[[int], Sequence[Architecture]],
    settings: TrainingSettings,
    *,
    clock_s: Callable[[], float],
    on_step: Callable[[StepReport], None] = lambda _: None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> None:
    """Trains, with a log and checkpoints in a folder; goes on from the checkpoint that is there.

    Among several processes the first reads and writes; the others get what it has read.

    Args:
        folder: it exists.
        state: the learner as it begins.
        objective: what it learns.
        batch_of: a batch by its number.
        shapes_of: the slices that a batch trains, the largest first.
        settings: how long, and how.
        clock_s: reads seconds.
        on_step: told after every step, in the first process.
        checkpoint_every_s: seconds between checkpoints.

    Raises:
        DamagedFileError: if the checkpoint or the log is damaged.
        WorkError: if the loss is no finite number any more, or the first process has failed.
    """
    path, group = folder / CHECKPOINT_FILE, state.group
    if path.exists() or group.size > 1:
        group.first(lambda: restore_checkpoint(path, state) if path.exists() else None)
        _share(state)
    log = _Log(folder / LOG_FILE, state.step) if group.is_first else None
    saved_s = clock_s()

    def after(report: StepReport) -> None:
        nonlocal saved_s
        if log is None:
            return
        log.add(report)
        on_step(report)
        if clock_s() - saved_s >= checkpoint_every_s:
            log.write()
            save_checkpoint(path, state)
            saved_s = clock_s()

    try:
        train(state, objective, batch_of, shapes_of, settings, clock_s=clock_s, on_step=after)
    finally:
        # Also when it is interrupted, unless that is in the middle of a step.
        if log is not None and state.step and not state.updating:
            log.write()
            save_checkpoint(path, state)


def _share(state: TrainingState) -> None:
    """Gives every process what the first has read."""
    group = state.group
    if group.size == 1:
        return
    step, elapsed_s = round(group.agree(state.step)), group.agree(state.elapsed_s)
    if not group.is_first and step:
        # Room for the moments, whose values come next.
        blank = {name: value.detach() for name, value in state.learner.named_parameters()}
        moments = {f"{m}.{name}": v for m in ("exp_avg", "exp_avg_sq") for name, v in blank.items()}
        state.restore({**blank, **moments}, step, elapsed_s)
    group.share(state.tensors().values())


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
