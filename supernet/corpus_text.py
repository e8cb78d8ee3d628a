"""Text sources: documents of sentences, with the group that each is split by.

- `python-docs`: the docstrings of the standard library and of every installed package
- a text file: UTF-8, one sentence a line, an empty line between documents; gzipped if its name
  ends in `.gz`
- a JSONL file: a document a line; gzipped likewise
- a folder of such files, and of Parquet files
- a folder of Hugging Face `datasets`, as `save_to_disk` writes it

Sources are read from front to back, and nothing but the document at hand is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from autotinybert.errors import InputError
from autotinybert.files import sha256_file, sha256_text
from supernet.text_document import Document, Tally
from supernet.text_files import JSONL_SUFFIXES, TEXT_SUFFIXES, DocumentText, file_documents
from supernet.text_python import python_documents, python_folders
from supernet.text_tables import (
    ARROW_SUFFIX,
    PARQUET_SUFFIX,
    check_tables,
    dataset_files,
    is_dataset,
    table_documents,
)

PYTHON_DOCS = "python-docs"

_SUFFIXES = (*TEXT_SUFFIXES, *JSONL_SUFFIXES, PARQUET_SUFFIX)


def source_files(source: Path) -> list[Path]:
    """The files of a source, in the order in which they are read.

    Raises:
        InputError: if it is a folder without any, or one that cannot be read.
    """
    if not source.is_dir():
        return [source]
    try:
        found = (
            dataset_files(source)
            if is_dataset(source)
            else sorted(
                path
                for path in source.rglob("*")
                if path.name.lower().endswith(_SUFFIXES) and path.is_file()
            )
        )
    except OSError as error:
        raise InputError(f"cannot read corpus {source}: {error.strerror}") from error
    if not found:
        raise InputError(
            f"corpus {source} is a folder without text: put files of {', '.join(_SUFFIXES)} there, "
            "or name a folder of Hugging Face datasets"
        )
    return found


def corpus_identity(corpus: str) -> str:
    """What tells one `--corpus` from another: `python-docs`, or the SHA-256 of its files.

    Raises:
        InputError: if a file cannot be read.
    """
    if corpus == PYTHON_DOCS:
        return corpus
    source = Path(corpus)
    try:
        if not source.is_dir():
            return sha256_file(source)
        names = {path.relative_to(source).as_posix(): path for path in source_files(source)}
        return sha256_text("".join(f"{name}\n{sha256_file(names[name])}\n" for name in names))
    except OSError as error:
        raise InputError(
            f"cannot read --corpus {corpus}: {error.strerror}; name a text file, a folder of them, "
            f"or {PYTHON_DOCS}"
        ) from error


def read_documents(source: str, how: DocumentText, tally: Tally) -> Iterator[Document]:
    """The documents of a source by the name that `--corpus` gives it.

    Args:
        source: `python-docs`, or a path.
        how: how documents that come as one string are read.
        tally: where files are counted.

    Yields:
        Documents; those of one group stand together. Some may be without sentences.

    Raises:
        InputError: if a file cannot be read, or is not text.
    """
    if source == PYTHON_DOCS:
        yield from python_documents(python_folders(), tally)
        return
    files = source_files(Path(source))
    if any(_is_table(path) for path in files):
        check_tables()
    for path in files:
        tally.files += 1
        yield from (table_documents if _is_table(path) else file_documents)(path, how)


def _is_table(path: Path) -> bool:
    return path.suffix in (PARQUET_SUFFIX, ARROW_SUFFIX)
