"""Reads how long a user's texts are, from lengths or from the texts themselves.

The file is read line by line and never held: it may be larger than the memory.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from autotinybert.errors import InputError
from device_profiles.lengths import IntVector
from supernet.cost import MAX_POSITIONS

# Of each text, how many tokens it has, [CLS] and [SEP] included.
Tokenize = Callable[[list[str]], list[int]]

COLUMN = "length"

# No text of one line is so long; a file without line breaks would be held whole.
MAX_LINE_BYTES = 1 << 20

# Texts are tokenised many at a time; both bounds keep what is held small.
_CHUNK_TEXTS = 1000
_CHUNK_CHARACTERS = 1 << 22


def count_lengths(path: Path, tokenize: Tokenize | None = None) -> tuple[IntVector, int]:
    """Counts the texts of each length.

    Args:
        path: without `tokenize`, one length a line, or a CSV file with a column `length`; with
            it, one text a line. Empty lines are passed over.
        tokenize: counts the tokens of texts.

    Returns:
        int64 `[MAX_POSITIONS + 1]`, how many texts have each length, longer ones counted at the
        last; and how many these were.

    Raises:
        InputError: if the file cannot be read, is no UTF-8 text, is empty, or a line is not
            right; names the line.
    """
    counts = np.zeros(MAX_POSITIONS + 1, dtype=np.int64)
    cut = 0
    lengths = _lengths(path) if tokenize is None else _lengths_of_texts(path, tokenize)
    try:
        for length in lengths:
            counts[min(length, MAX_POSITIONS)] += 1
            cut += length > MAX_POSITIONS
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if not counts.any():
        raise InputError(f"{path} holds no {'lengths' if tokenize is None else 'texts'}")
    return counts, cut


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Each line with its number, without its line break; empty ones are left out."""
    number = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise InputError(
                    f"{path} line {number} is longer than {MAX_LINE_BYTES >> 20} MiB: put one "
                    "text on a line"
                )
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path} line {number} is not UTF-8 text: save the file as UTF-8"
                ) from error
            if text:
                yield number, text


def _lengths_of_texts(path: Path, tokenize: Tokenize) -> Iterator[int]:
    chunk: list[str] = []
    characters = 0
    for _, text in _lines(path):
        chunk.append(text)
        characters += len(text)
        if len(chunk) == _CHUNK_TEXTS or characters > _CHUNK_CHARACTERS:
            yield from tokenize(chunk)
            chunk, characters = [], 0
    if chunk:
        yield from tokenize(chunk)


def _lengths(path: Path) -> Iterator[int]:
    lines = _lines(path)
    number, first = next(lines, (0, ""))
    if not first:
        return
    if _is_integer(first):
        yield _length(path, number, first)
        for number, text in lines:
            yield _length(path, number, text)
        return
    last_number = number

    def rows() -> Iterator[str]:
        nonlocal last_number
        for last_number, text in lines:  # noqa: B007 (read below, for messages)
            yield text + "\n"

    try:
        header = [name.strip() for name in next(csv.reader([first], strict=True))]
        if COLUMN not in header:
            raise InputError(
                f"{path} line {number} is neither a length nor the header of a CSV file with a "
                f"column {COLUMN}: give one length a line, or --tokenizer if these are texts"
            )
        place = header.index(COLUMN)
        for fields in csv.reader(rows(), strict=True):
            text = fields[place] if place < len(fields) else ""
            yield _length(path, last_number, text.strip())
    except csv.Error as error:
        raise InputError(f"{path} line {last_number} is not valid CSV: {error}") from error


def _is_integer(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _length(path: Path, number: int, text: str) -> int:
    if not _is_integer(text) or int(text) < 1:
        raise InputError(
            f"{path} line {number}: {text[:40]!r} is no length: give the tokens of a text, at "
            "least 1"
        )
    return int(text)
