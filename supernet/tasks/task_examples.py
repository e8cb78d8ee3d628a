"""The examples that a fine-tuning reads, with the labels of all files numbered alike."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autotinybert.errors import InputError
from supernet.heads import Head
from supernet.tasks.examples import TaskData, read_examples
from supernet.tasks.labels import LabelNames
from supernet.tasks.task_files import TaskFiles


@dataclass(frozen=True)
class TaskExamples:
    """The examples of all files of a task.

    Attributes:
        train: what is learnt from.
        dev: what is judged by, by the name of the file; the first decides.
        answered: what is answered at the end, by the name of the file of answers.
    """

    train: TaskData
    dev: Mapping[str, TaskData]
    answered: Mapping[str, TaskData]


def read_task_examples(
    task: str, files: TaskFiles, head: Head | None, *, regression: bool = False
) -> TaskExamples:
    """Reads all files; labels have the numbers of a model's head, if that answers the task.

    Args:
        task: one of `TASKS`.
        files: where they are.
        head: the model's, if it has one.
        regression: for `csv`: labels are numbers to be predicted.

    Raises:
        InputError: if a file cannot be read, or has no labels to learn from or to judge by.
    """
    train = read_examples(task, files.train, regression=regression)
    if head is not None and _answers(head, train):
        train = read_examples(task, files.train, labels=head.labels, regression=regression)

    def others(path: Path) -> TaskData:
        return read_examples(task, path, labels=train.labels or None, regression=regression)

    _check_labelled(files.train, train)
    if train.kind == "classification" and len(train.labels) < 2:
        raise InputError(
            f"{files.train} has the label {train.labels[0]} alone: give examples of at least two"
        )
    dev = {path.name: others(path) for path in files.dev}
    for path in files.dev:
        _check_labelled(path, dev[path.name])
    return TaskExamples(
        train,
        dev,
        {answer: others(path) for answer, path in files.answered.items()},
    )


def _check_labelled(path: Path, data: TaskData) -> None:
    if not data.is_labelled:
        raise InputError(f"{path} has no labels: give labelled examples to learn and to judge by")


def _answers(head: Head, data: TaskData) -> bool:
    """Whether a head was made for this task: its labels are called the same."""
    if head.kind != data.kind or len(head.labels) != len(data.labels):
        return False
    names = LabelNames(head.labels)
    if data.kind == "regression" or head.labels == data.labels:
        return True
    with contextlib.suppress(InputError):
        return not names.are_numbers_alone and bool(names.order_of(data.labels, data.task))
    return False
