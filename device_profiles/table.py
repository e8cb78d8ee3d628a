"""Reads the CSV files that people bring, and says exactly what is wrong with one that is not right.

A table is read once and whole, so that a bad last line is found before anything is written.
"""

from __future__ import annotations

import csv
import gc
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """A CSV file, parsed.

    Attributes:
        path: where it was read.
        header: the column names.
        rows: the fields of each row, as text, as many as the header has.
        lines: each row as it stands in the file, without its line break.
        line_numbers: where each row ends in the file, counted from 1, for messages.
    """

    path: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[str]
    line_numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, column: str) -> bool:
        return column in self.header

    def require(self, columns: Sequence[str]) -> None:
        """Checks that the table has these columns.

        Raises:
            InputError: naming those it lacks and those it has.
        """
        missing = [column for column in columns if column not in self.header]
        if missing:
            raise InputError(
                f"{self.path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
                f"it has {', '.join(self.header)[:200]}"
            )

    def texts(self, column: str) -> list[str]:
        """A column's fields, without surrounding spaces."""
        return [field.strip() for field in self._fields(column)]

    def integers(self, column: str, *, highest: int) -> IntVector:
        """A column of integers from 1 to `highest`, int64 `[N]`.

        Raises:
            InputError: naming the line and the field that is none.
        """
        values: IntVector = self._numbers(column, int, np.int64, "an integer")
        outside = np.flatnonzero((values < 1) | (values > highest))
        if len(outside):
            raise self.error(
                int(outside[0]),
                f"{column} is {values[outside[0]]}, which must be from 1 to {highest}",
            )
        return values

    def positive_floats(self, column: str, *, allow_empty: bool = False) -> FloatVector:
        """A column of finite numbers above zero, float64 `[N]`; NaN where empty if allowed.

        Raises:
            InputError: naming the line and the field that is none.
        """

        def convert(field: str) -> float:
            if allow_empty and not field.strip():
                return math.nan
            value = float(field)
            if not (math.isfinite(value) and value > 0):
                raise ValueError
            return value

        values: FloatVector = self._numbers(column, convert, np.float64, "a finite number above 0")
        return values

    def error(self, row: int, problem: str) -> InputError:
        """An error that says where in the file a row is wrong."""
        return InputError(f"{self.path} line {self.line_numbers[row]}: {problem}")

    def _fields(self, column: str) -> list[str]:
        return list(map(itemgetter(self.header.index(column)), self.rows))

    def _numbers(
        self,
        column: str,
        convert: Callable[[str], float],
        dtype: type[np.generic],
        wanted: str,
    ) -> npt.NDArray[Any]:
        fields = self._fields(column)
        # In a long table the same few sizes come again and again: each is converted once.
        values: dict[str, float] = {}
        for field in set(fields):
            try:
                values[field] = dtype(convert(field)).item()
            except (ValueError, OverflowError):
                raise self.error(
                    fields.index(field),
                    f"{column} is {field.strip()[:40]!r}, which is not {wanted}",
                ) from None
        return np.array(list(map(values.__getitem__, fields)), dtype=dtype)


def read_table(path: Path) -> Table:
    """Reads a CSV file with a header line; blank lines are passed over.

    Raises:
        InputError: if it cannot be read, is no text, is empty, or a row has another number of
            fields than the header.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a UTF-8 text file: give a CSV file") from error
    if "\0" in text:
        raise InputError(f"{path} is a binary file: give a CSV file")
    collecting = gc.isenabled()
    gc.disable()  # a million small lists would otherwise be scanned over and over
    try:
        return _parse(path, text)
    except csv.Error as error:
        raise InputError(f"{path} is not valid CSV: {error}") from error
    finally:
        if collecting:
            gc.enable()


def _parse(path: Path, text: str) -> Table:
    raw = list(io.StringIO(text, newline=""))
    reader = csv.reader(raw, strict=True)
    header = tuple(name.strip() for name in next(reader, []))
    if not any(header):
        raise InputError(f"{path} is empty: a CSV file with a header line is needed")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path} has the column {twice!r} twice: keep one")
    first = reader.line_num
    rows = list(reader)
    if [] in rows or len(rows) != len(raw) - first:  # blank lines, or line breaks in quotes
        rows, lines, numbers = _with_line_numbers(raw)
    else:
        lines, numbers = raw[first:], range(first + 1, len(raw) + 1)
    if not rows:
        raise InputError(f"{path} has a header but no rows")
    table = Table(path, header, rows, [line.rstrip("\r\n") for line in lines], numbers)
    width = len(header)
    for row, fields in enumerate(rows):
        if len(fields) != width:
            raise table.error(row, f"{len(fields)} fields, but the header has {width}")
    return table


def _with_line_numbers(raw: list[str]) -> tuple[list[list[str]], list[str], Sequence[int]]:
    """Rows, their text and their last lines, where rows and lines are not one to one."""
    reader = csv.reader(raw, strict=True)
    next(reader)
    rows: list[list[str]] = []
    lines: list[str] = []
    numbers: list[int] = []
    start = reader.line_num
    for fields in reader:
        if fields:
            rows.append(fields)
            lines.append("".join(raw[start : reader.line_num]))
            numbers.append(reader.line_num)
        start = reader.line_num
    return rows, lines, numbers
