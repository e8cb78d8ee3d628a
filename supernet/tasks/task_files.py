"""Which files a fine-tuning reads, and what it answers them with."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.files import whole_file
from supernet.tasks.examples import TaskData
from supernet.tasks.glue import GLUE_TASKS, write_submission

TRAIN_FILE = "train.tsv"
PREDICTIONS_FILE = "predictions.csv"

# All files of answers that any task has.
ANSWER_FILES = (
    PREDICTIONS_FILE,
    *(name for task in GLUE_TASKS.values() for name in task.submissions.values()),
)


@dataclass(frozen=True)
class TaskFiles:
    """The files of a task.

    Attributes:
        train: what is learnt from.
        dev: what is judged by; the first decides.
        answered: files that are answered at the end, by the name of the file of answers.
    """

    train: Path
    dev: tuple[Path, ...]
    answered: Mapping[str, Path]


def task_files(
    task: str, *, data: Path | None, train: Path | None, dev: Path | None, test: Path | None
) -> TaskFiles:
    """Understands the options that say where the examples are.

    Args:
        task: one of `TASKS`.
        data: the official folder of a GLUE task.
        train: a file, instead.
        dev: likewise.
        test: likewise; may be left out.

    Raises:
        InputError: if they do not go together, or the folder lacks a file.
    """
    if data is not None:
        if any(path is not None for path in (train, dev, test)):
            raise InputError("--data names all files: leave --train, --dev and --test out")
        return _official(task, data)
    if train is None or dev is None:
        folder = "--data DIR, or " if task in GLUE_TASKS else ""
        raise InputError(f"say where the examples are: {folder}--train FILE and --dev FILE")
    name = PREDICTIONS_FILE
    if task in GLUE_TASKS and test is not None:
        submissions = GLUE_TASKS[task].submissions
        name = submissions.get(test.name, next(iter(submissions.values())))
    return TaskFiles(train, (dev,), {} if test is None else {name: test})


def write_answers(
    path: Path, data: TaskData, predicted: npt.NDArray[np.integer] | npt.NDArray[np.floating]
) -> None:
    """Writes the answers to a file of examples: a GLUE submission, or `id` and `prediction`.

    Args:
        path: the file, of a name in `ANSWER_FILES`.
        data: the examples.
        predicted: for each, the number of a label in `data.labels`, or a value.

    Raises:
        InputError: if it cannot be written.
    """
    ids = [example.id for example in data.examples]
    if path.name != PREDICTIONS_FILE:
        write_submission(path, GLUE_TASKS[data.task], ids, predicted, labels=data.labels)
        return
    values = predicted.tolist()
    if data.kind == "classification":
        values = [data.labels[value] for value in values]
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "prediction"))
        writer.writerows(zip(ids, values, strict=True))


def _official(task: str, folder: Path) -> TaskFiles:
    glue = GLUE_TASKS.get(task)
    if glue is None:
        raise InputError(f"--data is for GLUE's tasks: give {task} --train FILE and --dev FILE")
    needed = [folder / TRAIN_FILE, *(folder / name for name in glue.dev_files)]
    for path in needed:
        if not path.is_file():
            raise InputError(
                f"no {path.name} in {folder}: name the folder of GLUE's {glue.name} with "
                f"{', '.join(found.name for found in needed)}"
            )
    answered = {
        answers: folder / name
        for name, answers in glue.submissions.items()
        if (folder / name).is_file()
    }
    return TaskFiles(needed[0], tuple(needed[1:]), answered)
