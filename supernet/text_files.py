"""Text files: lines of UTF-8, plain or gzipped, read without holding a whole file in memory.

- text, the paper's format: one sentence a line, an empty line between documents
- JSONL: one JSON object a line, one document in each
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from autotinybert.errors import InputError
from autotinybert.values import parse_json
from supernet.docstrings import split_sentences
from supernet.text_document import Document, documents_of

SentenceRule = Literal["split", "lines"]

TEXT_SUFFIXES = (".txt", ".txt.gz")
JSONL_SUFFIXES = (".jsonl", ".jsonl.gz")

# What a line may hold at most: a file without line ends must not fill the memory.
_MAX_LINE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class DocumentText:
    """How a document that comes as one string is read.

    Attributes:
        key: of JSONL and of tables: where the string stands.
        rule: `split`: every line is a paragraph, and is split into sentences after full stops
            (`split_sentences`); `lines`: every line is a sentence.
    """

    key: str = "text"
    rule: SentenceRule = "split"

    def sentences(self, text: str) -> Iterator[str]:
        """The sentences of a document, white space collapsed, none empty."""
        for line in text.splitlines():
            paragraph = " ".join(line.split())
            found = split_sentences(paragraph) if self.rule == "split" else (paragraph,)
            yield from filter(None, found)

    def documents(self, text: str, where: str) -> Iterator[Document]:
        """A string as documents: one, or several if it is very long.

        Raises:
            InputError: if it cannot be written in UTF-8, or holds a zero byte.
        """
        if "\0" in text:
            raise InputError(f"corpus {where} holds a zero byte: give text")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"corpus {where} holds half a character: give text") from error
        yield from documents_of(self.sentences(text))


def file_documents(path: Path, how: DocumentText) -> Iterator[Document]:
    """The documents of a file: JSONL by its name, else text.

    Raises:
        InputError: if it cannot be read, or is not what its name says, naming file and line.
    """
    with _opened(path) as file:
        lines = _lines(path, file)
        if path.name.lower().endswith(JSONL_SUFFIXES):
            yield from _jsonl_documents(path, lines, how)
        else:
            yield from _text_documents(lines)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path, "rb") as packed:
                yield cast(IO[bytes], packed)  # a file of bytes, though of no common class
        else:
            with path.open("rb") as file:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"corpus {path} is torn or no gzip file ({error}): fetch it again, or rename it if "
            "it was never compressed"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot read corpus {path}: {error.strerror}; name a text file, a folder of them, or "
            "python-docs"
        ) from error


def _lines(path: Path, file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1; of the first, the mark of UTF-8 is left out."""
    number = 0
    while line := file.readline(_MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > _MAX_LINE_BYTES:
            raise InputError(
                f"corpus {path}, line {number} is longer than {_MAX_LINE_BYTES // 2**20} MiB: "
                "break it up, one sentence or one document a line"
            )
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"corpus {path}, line {number} is not UTF-8 text: convert the file to UTF-8"
            ) from error
        if "\0" in text:
            raise InputError(
                f"corpus {path}, line {number} holds a zero byte: give a UTF-8 text file"
            )
        yield number, text


def _text_documents(lines: Iterable[tuple[int, str]]) -> Iterator[Document]:
    waiting = iter(lines)
    ended = False

    def sentences() -> Iterator[str]:
        """Those up to the next empty line, or the end."""
        nonlocal ended
        for _, line in waiting:
            sentence = " ".join(line.split())
            if not sentence:
                return
            yield sentence
        ended = True

    while not ended:
        yield from documents_of(sentences())


def _jsonl_documents(
    path: Path, lines: Iterable[tuple[int, str]], how: DocumentText
) -> Iterator[Document]:
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = parse_json(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"corpus {where} is not valid JSON: give one object a line") from error
        text = value.get(how.key) if isinstance(value, dict) else None
        if not isinstance(text, str):
            raise InputError(
                f"corpus {where} has no text under {how.key!r}: say with --text-key where it is"
            )
        yield from how.documents(text, where)
