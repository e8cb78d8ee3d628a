"""The task of a whole path: the user's files, read and checked before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotinybert.errors import InputError
from supernet.corpus_text import PYTHON_DOCS
from supernet.huggingface import BertFolder
from supernet.tasks.examples import TaskData, read_examples
from supernet.tasks.task_corpus import text_lengths

TASK_OPTIONS = ("task", "train", "dev", "corpus", "max_megabytes", "training_sequence_length")


@dataclass(frozen=True)
class TaskTexts:
    """A task's files.

    Attributes:
        train: texts to distil on.
        dev: labelled texts to score on.
        training_length: most tokens of a training sequence.
        usual_length: tokens that the device is measured with.
    """

    train: TaskData
    dev: TaskData
    training_length: int
    usual_length: int


def check_task(
    teacher: BertFolder,
    *,
    task: str | None,
    train: Path | None,
    dev: Path | None,
    corpus: str,
    max_megabytes: float | None,
    training_sequence_length: int | None,
) -> TaskTexts | None:
    """Reads a task's files; None if the path has no task.

    Raises:
        InputError: if an option is missing or does not go with a task, the teacher has no
            classifier for it, or a file is wrong.
    """
    if task is None:
        for name, value in (("--train", train), ("--dev", dev)):
            if value is not None:
                raise InputError(f"{name} {value} without --task: say how the file is read")
        return None
    if train is None or dev is None:
        raise InputError("--task needs both --train FILE and --dev FILE")
    if corpus != PYTHON_DOCS or max_megabytes is not None:
        raise InputError(
            "with --task the texts are those of --train: leave --corpus and --max-megabytes out"
        )
    head = teacher.task_head()
    if head.kind == "span":
        raise InputError(
            f"{teacher.path} answers with spans: whole paths are for classifiers and regressions; "
            "distil it with train-supernet --objective task"
        )
    read = {"train": read_examples(task, train, labels=head.labels)}
    read["dev"] = read_examples(task, dev, labels=head.labels)
    if not read["dev"].is_labelled:
        raise InputError(f"--dev {dev} has no labels, and without them nothing is scored")
    most = teacher.config.max_positions
    lengths = text_lengths(read["train"], teacher.path, most=most)
    if training_sequence_length is not None and training_sequence_length > most:
        raise InputError(
            f"--training-sequence-length {training_sequence_length}: the teacher in "
            f"{teacher.path} reads up to {most} tokens"
        )
    return TaskTexts(
        read["train"],
        read["dev"],
        training_sequence_length or lengths.training,
        lengths.usual,
    )
