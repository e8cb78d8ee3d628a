"""GLUE's nine tasks: what each asks, and its official files (Wang et al., 2019).

A folder holds `train.tsv`, `dev.tsv` and `test.tsv`; MNLI's `dev_matched.tsv`,
`dev_mismatched.tsv` and the same of `test_`. Quotes are characters like others. The test files
have no labels: a submission is a file a task, `index` and `prediction` in two columns.

Labels stand in the order that Hugging Face has them in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.files import whole_file
from supernet.heads import HeadKind
from supernet.tasks.labels import LabelNames
from supernet.tasks.rows import RawExample, tsv_lines

_BINARY = ("0", "1")


@dataclass(frozen=True, kw_only=True)
class GlueTask:
    """One of the tasks.

    Attributes:
        name: as GLUE writes it.
        labels: in the order of Hugging Face.
        written: the same as files and submissions have them.
        text: the column of the first text.
        pair: of the second; None where there is one text alone.
        label: of the label.
        test_id: of the name of an example in test files.
        headless: the columns of train and dev files that have no header.
        short_rows: whether the official files have rows that lack fields, which are left out.
        dev_files: files to choose and to judge models by; models are chosen by the first.
        submissions: the name of the submission for each test file.
    """

    name: str
    labels: tuple[str, ...]
    written: tuple[str, ...] = _BINARY
    text: str = "sentence1"
    pair: str | None = "sentence2"
    label: str = "label"
    test_id: str = "index"
    headless: tuple[str, ...] = ()
    short_rows: bool = False
    dev_files: tuple[str, ...] = ("dev.tsv",)
    submissions: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> HeadKind:
        """Of the head that answers it."""
        return "regression" if len(self.labels) == 1 else "classification"


_NLI = ("entailment", "neutral", "contradiction")
_TWO_WAY = ("entailment", "not_entailment")

GLUE_TASKS: Mapping[str, GlueTask] = {
    "cola": GlueTask(
        name="CoLA",
        labels=("unacceptable", "acceptable"),
        text="sentence",
        pair=None,
        headless=("source", "label", "original", "sentence"),
        submissions={"test.tsv": "CoLA.tsv"},
    ),
    "sst2": GlueTask(
        name="SST-2",
        labels=("negative", "positive"),
        text="sentence",
        pair=None,
        submissions={"test.tsv": "SST-2.tsv"},
    ),
    "mrpc": GlueTask(
        name="MRPC",
        labels=("not_equivalent", "equivalent"),
        text="#1 String",
        pair="#2 String",
        label="Quality",
        submissions={"test.tsv": "MRPC.tsv"},
    ),
    "qqp": GlueTask(
        name="QQP",
        labels=("not_duplicate", "duplicate"),
        text="question1",
        pair="question2",
        label="is_duplicate",
        test_id="id",
        short_rows=True,
        submissions={"test.tsv": "QQP.tsv"},
    ),
    "stsb": GlueTask(
        name="STS-B",
        labels=("score",),
        written=(),
        label="score",
        submissions={"test.tsv": "STS-B.tsv"},
    ),
    "mnli": GlueTask(
        name="MNLI",
        labels=_NLI,
        written=_NLI,
        label="gold_label",
        dev_files=("dev_matched.tsv", "dev_mismatched.tsv"),
        submissions={
            "test_matched.tsv": "MNLI-m.tsv",
            "test_mismatched.tsv": "MNLI-mm.tsv",
            "diagnostic.tsv": "AX.tsv",
        },
    ),
    "qnli": GlueTask(
        name="QNLI",
        labels=_TWO_WAY,
        written=_TWO_WAY,
        text="question",
        pair="sentence",
        submissions={"test.tsv": "QNLI.tsv"},
    ),
    "rte": GlueTask(
        name="RTE",
        labels=_TWO_WAY,
        written=_TWO_WAY,
        submissions={"test.tsv": "RTE.tsv"},
    ),
    "wnli": GlueTask(
        name="WNLI",
        labels=("not_entailment", "entailment"),
        submissions={"test.tsv": "WNLI.tsv"},
    ),
}

# The highest score of STS-B; the lowest is 0.
STSB_HIGHEST = 5.0


def glue_examples(task: GlueTask, path: Path) -> Iterator[RawExample]:
    """The examples of an official file; labels are named as in `task.labels`, scores as written.

    Raises:
        InputError: if it cannot be read or is no file of the task, naming file and line.
    """
    lines = tsv_lines(path)
    first = next(lines, None)
    if first is None:
        raise InputError(f"{path} is empty: fetch GLUE's {task.name} again")
    columns = first[1]
    if task.headless and task.text not in columns:
        yield from _examples(task, path, list(task.headless), iter((first,)), 0)
        columns, start = list(task.headless), 1
    else:
        start = 0
    needed = [task.text, *([task.pair] if task.pair else [])]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r} in its first line: give GLUE's file for "
            f"{task.name}"
        )
    yield from _examples(task, path, columns, lines, start)


def _examples(
    task: GlueTask,
    path: Path,
    columns: Sequence[str],
    lines: Iterator[tuple[int, list[str]]],
    start: int,
) -> Iterator[RawExample]:
    names = {written: name for written, name in zip(task.written, task.labels, strict=False)}
    labelled = task.label in columns
    for count, (number, fields) in enumerate(lines, start):
        where = f"{path}, line {number}"
        if len(fields) < len(columns) and task.short_rows:
            continue
        if len(fields) != len(columns):
            raise InputError(
                f"{where} has {len(fields)} fields, not {len(columns)}: give GLUE's file for "
                f"{task.name}"
            )
        cells = dict(zip(columns, fields, strict=True))
        label = cells[task.label] if labelled else None
        if label is not None and task.written:
            if label not in names:
                raise InputError(
                    f"{where} has the label {label!r}: {task.name} has {', '.join(task.written)}"
                )
            label = names[label]
        yield RawExample(
            where=where,
            id=cells.get(task.test_id, str(count)),
            text=cells[task.text],
            pair=cells[task.pair] if task.pair else None,
            label=label,
        )


def write_submission(
    path: Path,
    task: GlueTask,
    ids: Sequence[str],
    predicted: npt.NDArray[np.integer] | npt.NDArray[np.floating],
    *,
    labels: Sequence[str] | None = None,
) -> None:
    """Writes an official submission file.

    Args:
        path: the file, of a name in `task.submissions`.
        task: the task.
        ids: of the examples of the test file.
        predicted: the number of a label, or a score, for each.
        labels: names of the labels by number, where they are not in GLUE's order.

    Raises:
        InputError: if it cannot be written, or these are not the task's labels.
    """
    if task.kind == "regression":
        written = [f"{min(max(value, 0.0), STSB_HIGHEST):.3f}" for value in predicted.tolist()]
    else:
        order = LabelNames(labels or task.labels).order_of(task.labels, task.name)
        names = dict(zip(order, task.written, strict=True))
        written = [names[int(value)] for value in predicted.tolist()]
    with whole_file(path) as file:
        file.write("index\tprediction\n")
        file.writelines(f"{name}\t{value}\n" for name, value in zip(ids, written, strict=True))
