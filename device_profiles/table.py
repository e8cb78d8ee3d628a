"""Reads the CSV files that people bring, and says exactly what is wrong with one that is not right.

A table is read once and whole, so that a bad last line is found before anything is written.
Numbers are parsed in bulk; only where that fails is a column read field by field, to name the line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]
IntMatrix = npt.NDArray[np.int64]

# Python's own CSV reader takes no longer field.
_LONGEST_LINE = 100_000

_Number = TypeVar("_Number", np.int64, np.float64)


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        path: where it was read.
        header: the column names.
        header_line: the header as it stands in the file, without its line break.
        lines: each row as it stands in the file, without its line break.
        line_numbers: where each row ends in the file, counted from 1, for messages.
        sha256: of the bytes that were read.
        quoted: whether any field may hold a comma or a line break.
    """

    path: Path
    header: tuple[str, ...]
    header_line: str
    lines: list[str]
    line_numbers: Sequence[int]
    sha256: str = ""
    quoted: bool = False

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, column: str) -> bool:
        return column in self.header

    @cached_property
    def rows(self) -> list[list[str]]:
        """The fields of each row, as many as the header has."""
        return list(csv.reader(self.lines, strict=True))

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

    def without(self, columns: Sequence[str]) -> Table:
        """The table less these columns, where it has them."""
        kept = [index for index, name in enumerate(self.header) if name not in columns]
        if len(kept) == len(self.header):
            return self

        def line(fields: Sequence[str]) -> str:
            text = io.StringIO()
            csv.writer(text, lineterminator="").writerow([fields[index] for index in kept])
            return text.getvalue()

        return Table(
            self.path,
            tuple(self.header[index] for index in kept),
            line(self.header),
            [line(fields) for fields in self.rows],
            self.line_numbers,
            self.sha256,
            self.quoted,
        )

    def texts(self, column: str) -> list[str]:
        """A column's fields, without surrounding spaces."""
        index = self.header.index(column)
        if self.quoted:
            return [fields[index].strip() for fields in self.rows]
        return [line.split(",", index + 1)[index].strip() for line in self.lines]

    def integers(self, highest: Mapping[str, int]) -> IntMatrix:
        """Columns of integers from 1 to a bound of each.

        Args:
            highest: the bound of each column, by its name.

        Returns:
            int64 `[N, len(highest)]`.

        Raises:
            InputError: naming the line and the field that is none.
        """
        bounds = np.array(list(highest.values()), dtype=np.int64)
        matrix = self._bulk(list(highest), np.int64)
        if matrix is None:
            columns = [
                [self._integer(row, name, text) for row, text in enumerate(self.texts(name))]
                for name in highest
            ]
            matrix = np.array(columns, dtype=np.int64).T
        outside = np.argwhere((matrix < 1) | (matrix > bounds))
        if len(outside):
            row, column = outside[0].tolist()
            name = list(highest)[column]
            raise self.error(
                row, f"{name} is {matrix[row, column]}, which must be from 1 to {highest[name]}"
            )
        return matrix

    def positive_floats(
        self, column: str, *, highest: float, allow_empty: bool = False
    ) -> FloatVector:
        """A column of numbers above zero, float64 `[N]`; NaN where empty if allowed.

        Args:
            column: its name.
            highest: the largest value that makes sense; the smallest is 1 / highest.
            allow_empty: whether a field may be empty.

        Raises:
            InputError: naming the line and the field that is none.
        """
        values = self._bulk([column], np.float64)
        if values is not None and ((values >= 1 / highest) & (values <= highest)).all():
            return values[:, 0]
        found = []
        for row, text in enumerate(self.texts(column)):
            value = math.nan
            if text or not allow_empty:
                try:
                    value = math.nan if "_" in text else float(text)
                except ValueError:
                    value = math.nan
                if not 1 / highest <= value <= highest:
                    problem = f"{column} is {text[:40]!r}, which is not a finite number above 0"
                    if value > 0 and math.isfinite(value):
                        problem = f"{column} is {text[:40]}, which makes no sense"
                    raise self.error(row, problem)
            found.append(value)
        return np.array(found)

    def error(self, row: int, problem: str) -> InputError:
        """An error that says where in the file a row is wrong."""
        return InputError(f"{self.path} line {self.line_numbers[row]}: {problem}")

    def _bulk(self, columns: Sequence[str], dtype: type[_Number]) -> npt.NDArray[_Number] | None:
        """Columns as numbers, `[N, len(columns)]`; None if a field is none."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # numpy only warns of 5.0 where 5 is wanted
                return np.loadtxt(
                    self.lines,
                    dtype=dtype,
                    comments=None,
                    delimiter=",",
                    quotechar='"',
                    usecols=[self.header.index(column) for column in columns],
                    ndmin=2,
                )
        except (ValueError, OverflowError, Warning):
            return None

    def _integer(self, row: int, column: str, text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
            raise self.error(row, f"{column} is {text[:40]!r}, which is not an integer")
        return int(text)


def read_table(path: Path) -> Table:
    """Reads a CSV file with a header line; blank lines are passed over.

    Raises:
        InputError: if it cannot be read, is no text, is empty, or a row has another number of
            fields than the header.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a UTF-8 text file: give a CSV file") from error
    if "\0" in text:
        raise InputError(f"{path} is a binary file: give a CSV file")
    try:
        return _parse(path, text, hashlib.sha256(content).hexdigest())
    except csv.Error as error:
        raise InputError(f"{path} is not valid CSV: {error}") from error


def _parse(path: Path, text: str, sha256: str) -> Table:
    raw = list(io.StringIO(text, newline=""))
    reader = csv.reader(raw, strict=True)
    header = tuple(name.strip() for name in next(reader, []))
    if not any(header):
        raise InputError(f"{path} is empty: a CSV file with a header line is needed")
    if len(header) == 1 and ";" in header[0]:
        raise InputError(f"{path} is separated by semicolons: save it with commas")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path} has the column {twice!r} twice: keep one")
    first = reader.line_num
    header_line = "".join(raw[:first]).rstrip("\r\n")
    if '"' in text:
        lines, numbers, widths = _quoted_lines(raw)
    else:
        stripped = [line.rstrip("\r\n") for line in raw[first:]]
        numbers = [first + 1 + index for index, line in enumerate(stripped) if line]
        lines = list(filter(None, stripped))
        widths = [line.count(",") + 1 for line in lines]
    if not lines:
        raise InputError(f"{path} has a header but no rows")
    if max(map(len, lines)) > _LONGEST_LINE:
        raise InputError(f"{path} has a line of more than {_LONGEST_LINE} characters: no CSV file?")
    table = Table(path, header, header_line, lines, numbers, sha256, '"' in text)
    for row, width in enumerate(widths):
        if width != len(header):
            raise table.error(row, f"{width} fields, but the header has {len(header)}")
    return table


def _quoted_lines(raw: Sequence[str]) -> tuple[list[str], list[int], list[int]]:
    """Each row's text, last line and number of fields; quotes may hold commas and breaks."""
    reader = csv.reader(raw, strict=True)
    next(reader)
    lines: list[str] = []
    numbers: list[int] = []
    widths: list[int] = []
    start = reader.line_num
    for fields in reader:
        if fields:
            lines.append("".join(raw[start : reader.line_num]).rstrip("\r\n"))
            numbers.append(reader.line_num)
            widths.append(len(fields))
        start = reader.line_num
    return lines, numbers, widths
