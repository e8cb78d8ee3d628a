"""Labelled examples: GLUE's official files, and users' own CSV, TSV and JSONL files.

A user's file has a header (JSONL: keys) with a text, perhaps a second text, and perhaps a label:

- text: `text`, `sentence`, `sentence1` or `text_a`
- second text: `text_pair`, `sentence2` or `text_b`
- label: `label`; without it, the examples are unlabelled
- `id`, if it is there, names an example; otherwise its number does
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotinybert.errors import InputError
from supernet.heads import HeadKind
from supernet.tasks.glue import GLUE_TASKS, GlueTask, glue_examples
from supernet.tasks.labels import LabelNames, distinct_labels
from supernet.tasks.rows import RawExample, table_rows

CSV_TASK = "csv"
TASKS = (*GLUE_TASKS, CSV_TASK)

TEXT_COLUMNS = ("text", "sentence", "sentence1", "text_a")
PAIR_COLUMNS = ("text_pair", "sentence2", "text_b")
LABEL_COLUMN = "label"
ID_COLUMN = "id"


@dataclass(frozen=True)
class Example:
    """A text, perhaps with a second one, and what is to be said of it.

    Attributes:
        id: its name in its file.
        text: the first text.
        pair: the second; None where there is one text alone.
        label: the number of a label, or of a regression the value; None where it is unknown.
    """

    id: str
    text: str
    pair: str | None
    label: int | float | None


@dataclass(frozen=True)
class TaskData:
    """The examples of a file.

    Attributes:
        task: one of `TASKS`.
        kind: of the head that answers it.
        labels: their names by number; of a regression the name of its value.
        examples: in the order of the file; all have a label, or none has.
    """

    task: str
    kind: HeadKind
    labels: tuple[str, ...]
    examples: tuple[Example, ...]

    @property
    def is_labelled(self) -> bool:
        """Whether its examples have labels."""
        return self.examples[0].label is not None


def task_name(value: str) -> str:
    """The name of a task, however it is written: `SST-2` is `sst2`.

    Raises:
        InputError: if there is no such task.
    """
    name = value.lower().replace("-", "").replace("_", "")
    if name not in TASKS:
        raise InputError(f"no task {value!r}: use {', '.join(TASKS)}")
    return name


def read_examples(
    task: str, path: Path, *, labels: Sequence[str] | None = None, regression: bool = False
) -> TaskData:
    """Reads a file of examples.

    Args:
        task: one of `TASKS`, however it is written.
        path: an official file of the task; for `csv` a .csv, .tsv or .jsonl file, or its .gz.
        labels: names of a model's outputs, in their order, to which the file's are matched by name,
            or by number if they are `LABEL_i` or integers. One name is a regression's. Without
            them, labels are GLUE's, or for `csv` the distinct ones of the file.
        regression: for `csv`: labels are numbers to be predicted, not classes.

    Raises:
        InputError: if the file cannot be read, has no text or no example, or has a label that is
            none of the names, or a score that is no number.
    """
    name = task_name(task)
    glue = GLUE_TASKS.get(name)
    raw = list(_own_examples(path) if glue is None else glue_examples(glue, path))
    if not raw:
        raise InputError(f"{path} holds no examples: give a line for every example")
    _check_all_or_none(raw)
    given = None if labels is None else tuple(labels)
    if glue is not None:
        return _glue_data(name, glue, raw, given)
    if regression or (given is not None and len(given) == 1):
        if given is not None and len(given) != 1:
            raise InputError(f"a regression has one output, not {', '.join(given)}")
        return TaskData(name, "regression", given or ("score",), tuple(map(_scored, raw)))
    known = given or distinct_labels(example.label for example in raw if example.label is not None)
    return TaskData(name, "classification", known, _classified(raw, LabelNames(known)))


def _check_all_or_none(raw: Sequence[RawExample]) -> None:
    bare = [example.where for example in raw if example.label is None]
    if bare and len(bare) < len(raw):
        raise InputError(f"{bare[0]} has no label, other lines have: give it one, or none of them")


def _glue_data(
    name: str, glue: GlueTask, raw: Sequence[RawExample], given: tuple[str, ...] | None
) -> TaskData:
    if glue.kind == "regression":
        if given is not None and len(given) != 1:
            raise InputError(
                f"a model with the labels {', '.join(given)} does not answer {glue.name}, which "
                "asks for a score"
            )
        return TaskData(name, glue.kind, given or glue.labels, tuple(map(_scored, raw)))
    known = glue.labels if given is None else given
    order = LabelNames(known).order_of(glue.labels, glue.name)
    numbers = dict(zip(glue.labels, order, strict=True))
    examples = tuple(
        Example(
            example.id,
            example.text,
            example.pair,
            None if example.label is None else numbers[example.label],
        )
        for example in raw
    )
    return TaskData(name, glue.kind, known, examples)


def _scored(raw: RawExample) -> Example:
    if raw.label is None:
        return Example(raw.id, raw.text, raw.pair, None)
    try:
        value = float(raw.label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{raw.where} has the label {raw.label!r}: a regression needs a number")
    return Example(raw.id, raw.text, raw.pair, value)


def _classified(raw: Sequence[RawExample], names: LabelNames) -> tuple[Example, ...]:
    return tuple(
        Example(
            example.id,
            example.text,
            example.pair,
            None if example.label is None else names.index_at(example.label, example.where),
        )
        for example in raw
    )


def _own_examples(path: Path) -> Iterator[RawExample]:
    """The examples of a user's file."""
    columns: tuple[str, str | None] | None = None
    for count, row in enumerate(table_rows(path)):
        if columns is None:
            columns = _columns(path, row.cells)
        text_column, pair_column = columns
        label = row.cells.get(LABEL_COLUMN)
        name = row.cells.get(ID_COLUMN)
        yield RawExample(
            where=row.where,
            id=str(count) if name in (None, "") else str(name),
            text=_text(row.cells.get(text_column), text_column, row.where),
            pair=None
            if pair_column is None
            else _text(row.cells.get(pair_column), pair_column, row.where),
            label=_label(label, row.where),
        )


def _columns(path: Path, cells: Mapping[str, Any]) -> tuple[str, str | None]:
    """The columns of the texts: the first of each list that is there."""
    found = next((name for name in TEXT_COLUMNS if name in cells), None)
    if found is None:
        raise InputError(
            f"{path} has the columns {', '.join(map(repr, cells))}, none of which is a text: call "
            f"one {', '.join(TEXT_COLUMNS)}"
        )
    return found, next((name for name in PAIR_COLUMNS if name in cells), None)


def _text(value: object, column: str, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where} has no text under {column!r}: give it one")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds half a character: give text") from error
    return value


def _label(value: object, where: str) -> str | None:
    """A label as text; an empty one is none."""
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    if isinstance(value, bool | int | float):
        return str(value)
    raise InputError(f"{where} has a label that is neither a name nor a number: give one")
