"""Tables of text with a header, read with the number of every line: TSV, CSV and JSONL.

A TSV file is read as GLUE's are: a tab ends a field and a line end a row, quotes are characters
like others. In a CSV file, a field in quotes may hold commas, line ends and doubled quotes.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotinybert.errors import InputError
from autotinybert.values import parse_json

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        where: its file and line, for messages.
        cells: its values by column.
    """

    where: str
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class RawExample:
    """An example as its file has it.

    Attributes:
        where: its file and line, for messages.
        id: its own name, or its number from 0.
        text: the first text.
        pair: the second.
        label: as it is written; None where there is none.
    """

    where: str
    id: str
    text: str
    pair: str | None
    label: str | None


def read_text(path: Path) -> str:
    """A file as text, unpacked if its name ends in `.gz`, without the mark of UTF-8.

    Raises:
        InputError: if it cannot be read, or is not UTF-8, naming the line.
    """
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is torn or no gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; name a file of examples"
        ) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line} is not UTF-8 text: convert the file to UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}, line {line} holds a zero byte: give a UTF-8 text file")
    return text


def tsv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of a TSV file's lines, with their numbers from 1; empty lines are left out."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r").split("\t")


def table_rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV, TSV or JSONL file, by its name.

    Raises:
        InputError: if it cannot be read, or is not what its name says, naming file and line.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind == ".jsonl":
        return _jsonl_rows(path)
    if kind == ".tsv":
        return _with_header(path, tsv_lines(path))
    if kind == ".csv":
        return _with_header(path, _csv_lines(path))
    raise InputError(
        f"{path} is no {', '.join(TABLE_SUFFIXES)} file by its name: give one of these, or its .gz"
    )


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    number = 1
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{path}, line {number} is not valid CSV ({error}): put a field with quotes, "
                'commas or line ends in quotes, and double the quotes in it ("")'
            ) from error
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield number, fields
        number = reader.line_num + 1


def _with_header(path: Path, lines: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    header: Sequence[str] | None = None
    for number, fields in lines:
        if header is None:
            header = [name.strip() for name in fields]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise InputError(f"{path} has more than one column {twice[0]!r}: rename them")
            continue
        if len(fields) != len(header):
            raise InputError(
                f"{path}, line {number} has {len(fields)} fields, the header {len(header)}: mend "
                "the line"
            )
        yield Row(f"{path}, line {number}", dict(zip(header, fields, strict=True)))
    if header is None:
        raise InputError(f"{path} is empty: give a header and a line for every example")


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = parse_json(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is not valid JSON: give one object a line") from error
        if not isinstance(value, dict):
            raise InputError(f"{where} is no JSON object: give one object a line")
        yield Row(where, value)
