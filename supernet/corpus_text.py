"""Text sources: documents of English sentences, with the group that each is split by.

- `python-docs`: the docstrings of the standard library and of every installed package. Files are
  read and parsed, never imported or run.
- a file in the paper's format: UTF-8, one sentence a line, an empty line between documents.

A sentence that was seen before, in another group or in the same, is left out: what is held out
must not have been trained on.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autotinybert.errors import InputError
from supernet.docstrings import prose_sentences

PYTHON_DOCS = "python-docs"

# The full environment holds several times as much, and parsing it takes minutes.
DEFAULT_PYTHON_DOCS_CHARACTERS = 12_000_000

# Longer files are generated tables; they hold little text and take seconds to parse.
_MAX_FILE_BYTES = 1_000_000

_Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Document:
    """A text whose sentences belong together.

    Attributes:
        group: what it is split by: documents of one group all go to the same split.
        sentences: in order, white space collapsed, none empty.
    """

    group: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class CorpusText:
    """The documents of a source.

    Attributes:
        source: `python-docs`, or the path of the file.
        documents: those of one group stand together.
        files: files read.
        files_skipped: files that could not be read or parsed.
        repeated_sentences: sentences left out because they were seen before.
        complete: whether the source ended before the cap on characters was reached.
    """

    source: str
    documents: Sequence[Document] = field(repr=False)
    files: int
    files_skipped: int
    repeated_sentences: int
    complete: bool

    @property
    def characters(self) -> int:
        """Characters in all sentences."""
        return sum(len(sentence) for document in self.documents for sentence in document.sentences)


class _Collector:
    """Documents up to a cap on characters, without sentences that were seen before."""

    def __init__(self, max_characters: int | None) -> None:
        if max_characters is not None and max_characters < 1:
            raise InputError(f"a corpus of {max_characters} characters is none: ask for 1 or more")
        self.documents: list[Document] = []
        self.repeated = 0
        self._left = max_characters
        self._seen: set[bytes] = set()

    @property
    def is_full(self) -> bool:
        return self._left is not None and self._left <= 0

    def add(self, group: str, sentences: Iterable[str]) -> None:
        new: list[str] = []
        for sentence in sentences:
            # Letters and digits alone: the same words in another dress are the same sentence.
            words = "".join(filter(str.isalnum, sentence)).casefold() or sentence
            key = hashlib.blake2b(words.encode(), digest_size=12).digest()
            if key in self._seen:
                self.repeated += 1
            else:
                self._seen.add(key)
                new.append(sentence)
        if new:
            self.documents.append(Document(group, tuple(new)))
            if self._left is not None:
                self._left -= sum(map(len, new))


def read_corpus_text(source: str, *, max_characters: int | None = None) -> CorpusText:
    """Reads a source by the name that `--corpus` gives it.

    Args:
        source: `python-docs`, or the path of a file in the paper's format.
        max_characters: where to stop, at the end of a module or document; by default
            `DEFAULT_PYTHON_DOCS_CHARACTERS` for `python-docs` and nowhere for a file.

    Raises:
        InputError: if the file cannot be read, is not UTF-8 text, or holds no sentence.
    """
    if source == PYTHON_DOCS:
        if max_characters is None:
            max_characters = DEFAULT_PYTHON_DOCS_CHARACTERS
        return read_python_docs(python_folders(), max_characters=max_characters)
    return read_text_file(Path(source), max_characters=max_characters)


def python_folders() -> list[Path]:
    """The folders of the standard library and of installed packages, as this interpreter has them.

    Folders that hold somebody's work in progress (the current one, editable installs) are not
    among them.
    """
    installed = [Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    folders = [Path(sysconfig.get_paths()["stdlib"]), *installed]
    return list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))


def read_python_docs(folders: Sequence[Path], *, max_characters: int | None = None) -> CorpusText:
    """Reads the docstrings of all modules below some folders, grouped by module.

    Modules are taken in the order of a hash of their names, so that a part of an environment is
    a fair sample of it; the same files give the same text.

    Args:
        folders: roots of modules; of two modules of one name, the first folder's counts.
        max_characters: take no further module once there is so much text.

    Raises:
        InputError: if there is no text.
    """
    modules: dict[str, Path] = {}
    for folder in folders:
        for name, path in _modules_below(folder):
            modules.setdefault(name, path)
    collector = _Collector(max_characters)
    files = skipped = 0
    for name in sorted(modules, key=_hash):
        if collector.is_full:
            break
        files += 1
        try:
            docstrings = _docstrings(modules[name])
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            skipped += 1  # templates, other Pythons' syntax, tests of parsers
            continue
        for docstring in docstrings:
            collector.add(name, prose_sentences(docstring))
    return _corpus_text(
        PYTHON_DOCS, collector, files=files, skipped=skipped, complete=files == len(modules)
    )


def _modules_below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        # The standard library's folder holds site-packages, which is a folder of its own.
        if "site-packages" not in parts and "dist-packages" not in parts:
            yield ".".join(parts).removesuffix(".__init__"), path


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="replace")).digest()


def _docstrings(path: Path) -> list[str]:
    """All docstrings of a file, in the order of the file."""
    content = path.read_bytes()
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"{path} is too long")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes, which are not our caller's concern
        tree = ast.parse(content)
    found = (ast.get_docstring(node) for node in _definitions(tree))
    # A string may hold halves of surrogate pairs, which are no text.
    return [text.encode(errors="ignore").decode() for text in found if text]


def _definitions(tree: ast.Module) -> Iterator[_Definition]:
    """Whatever may have a docstring, in the order of the file."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _Definition):
            yield node
        # Definitions are statements, and only these hold statements; expressions are many.
        for name in ("finalbody", "orelse", "handlers", "cases", "body"):
            waiting.extend(reversed(getattr(node, name, ())))


def read_text_file(path: Path, *, max_characters: int | None = None) -> CorpusText:
    """Reads a file with one sentence a line and an empty line between documents.

    Every document is a group of its own, named by a hash of its text.

    Args:
        path: the file.
        max_characters: take no further document once there is so much text.

    Raises:
        InputError: if it cannot be read, is not UTF-8 text, or holds no sentence.
    """
    collector = _Collector(max_characters)
    complete = True
    try:
        with path.open("rb") as file:
            for sentences in _documents(path, file):
                if collector.is_full:
                    complete = False
                    break
                group = hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:16]
                collector.add(group, sentences)
    except OSError as error:
        raise InputError(
            f"cannot read corpus {path}: {error.strerror}; name a text file, or {PYTHON_DOCS}"
        ) from error
    return _corpus_text(str(path), collector, files=1, skipped=0, complete=complete)


def _documents(path: Path, lines: Iterable[bytes]) -> Iterator[list[str]]:
    sentences: list[str] = []
    for number, line in enumerate(lines, start=1):
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
        sentence = " ".join(text.split())
        if sentence:
            sentences.append(sentence)
        elif sentences:
            yield sentences
            sentences = []
    if sentences:
        yield sentences


def _corpus_text(
    source: str, collector: _Collector, *, files: int, skipped: int, complete: bool
) -> CorpusText:
    if not collector.documents:
        remedy = "give UTF-8 text, one sentence a line and an empty line between documents"
        raise InputError(f"corpus {source} holds no sentence: {remedy}")
    return CorpusText(
        source=source,
        documents=collector.documents,
        files=files,
        files_skipped=skipped,
        repeated_sentences=collector.repeated,
        complete=complete,
    )
