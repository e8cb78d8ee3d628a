"""`prepare-corpus`: makes the token shards that a SuperPLM is trained on."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, check_apart, sha256_file, sha256_text
from autotinybert.text_table import text_table
from supernet.corpus import CORPUS_FILES, TokenCorpus, load_corpus, save_corpus
from supernet.corpus_preparation import check_sequence_length, make_corpus
from supernet.corpus_text import DEFAULT_PYTHON_DOCS_CHARACTERS, PYTHON_DOCS
from supernet.tokenizer_files import read_tokenizer_files

_COMMAND = "prepare-corpus"

_CHARACTERS_PER_MEGABYTE = 1_000_000


def prepare_corpus_command(
    *,
    corpus: Annotated[
        str,
        typer.Option(
            metavar="python-docs|FILE",
            help="Docstrings of installed packages, or text: one sentence a line, an empty line "
            "between documents.",
        ),
    ],
    teacher: Annotated[Path, typer.Option(help="Hugging Face BERT folder with the tokenizer.")],
    out: Annotated[Path, typer.Option(help="Folder of the corpus.")],
    sequence_length: Annotated[int, typer.Option(help="Most tokens of a sequence.")] = 64,
    max_megabytes: Annotated[
        float | None,
        typer.Option(
            help="Take no more text than this; default "
            f"{DEFAULT_PYTHON_DOCS_CHARACTERS // _CHARACTERS_PER_MEGABYTE} for python-docs, "
            "everything for a file."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Turns text into sequences of tokens in three splits: train, search and test."""
    del json, version  # the frame around every command reads them
    started_s = time.monotonic()
    check_apart(out, {"the folder of the teacher": teacher})
    prepared = prepare(
        corpus,
        teacher,
        out,
        sequence_length=sequence_length,
        max_megabytes=max_megabytes,
        overwrite=overwrite,
    )
    if prepared.finished_before:
        return _answer(out, prepared.corpus)
    prepared.write()
    return _answer(out, prepared.corpus, seconds=time.monotonic() - started_s)


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus, and the folder that it goes to; nothing of it is on disk before `write`.

    Attributes:
        folder: of the corpus, claimed.
        corpus: the corpus.
    """

    folder: OutputFolder
    corpus: TokenCorpus

    @classmethod
    def read(cls, path: Path) -> Self:
        """A corpus that is finished.

        Raises:
            InputError: if there is none, or it is damaged.
        """
        return cls(OutputFolder(path, _COMMAND, {}, "finished"), load_corpus(path))

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def finished_before(self) -> bool:
        """Whether the folder already holds it."""
        return self.folder.state == "finished"

    def write(self) -> None:
        """Writes the corpus, unless its folder already holds it.

        Raises:
            InputError: if the folder cannot be written.
        """
        if not self.finished_before:
            self.folder.begin(CORPUS_FILES)
            save_corpus(self.path, self.corpus)
            self.folder.finish()


def prepare(
    corpus: str,
    teacher: Path,
    out: Path,
    *,
    sequence_length: int,
    max_megabytes: float | None,
    overwrite: bool,
) -> PreparedCorpus:
    """Makes the corpus that the options ask for, or reads it if `out` holds it already.

    Raises:
        InputError: if an option is wrong, or `out` belongs to something else.
    """
    check_sequence_length(sequence_length)
    request = {
        # The documentation on a machine changes with every package; what was prepared stays.
        "corpus": corpus_identity(corpus),
        "tokenizer": _hash_of_tokenizer(teacher),
        "sequence_length": sequence_length,
        "max_megabytes": max_megabytes,
    }
    max_characters = _characters(max_megabytes)
    folder = OutputFolder.claim(out, _COMMAND, request, files=CORPUS_FILES, overwrite=overwrite)
    if folder.state == "finished":
        return PreparedCorpus(folder, load_corpus(out))
    with _spinner(f"reading {corpus}"):
        made = make_corpus(
            corpus, teacher, sequence_length=sequence_length, max_characters=max_characters
        )
    return PreparedCorpus(folder, made)


def corpus_identity(corpus: str) -> str:
    """What tells one `--corpus` from another: `python-docs`, or the SHA-256 of a text file.

    Raises:
        InputError: if the file cannot be read.
    """
    if corpus == PYTHON_DOCS:
        return corpus
    try:
        return sha256_file(Path(corpus))
    except OSError as error:
        raise InputError(
            f"cannot read --corpus {corpus}: {error.strerror}; name a text file, or {PYTHON_DOCS}"
        ) from error


def _hash_of_tokenizer(folder: Path) -> str:
    files = read_tokenizer_files(folder)
    return sha256_text("".join(f"{name}\n{files[name].hex()}\n" for name in sorted(files)))


def _characters(megabytes: float | None) -> int | None:
    if megabytes is None:
        return None
    if not math.isfinite(megabytes) or megabytes * _CHARACTERS_PER_MEGABYTE < 1:
        raise InputError(f"--max-megabytes {megabytes} is no amount of text: give one above 0")
    return round(megabytes * _CHARACTERS_PER_MEGABYTE)


@contextlib.contextmanager
def _spinner(text: str) -> Iterator[None]:
    """Shows on stderr, where that is a terminal, that work goes on."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


def _answer(out: Path, corpus: TokenCorpus, *, seconds: float | None = None) -> Answer:
    """What the command says; without `seconds`, the corpus was there before."""
    facts = corpus.facts
    splits: dict[str, dict[str, Any]] = {
        name: {**facts["splits"][name], "padding": round(split.padding, 4)}
        for name, split in corpus.splits.items()
    }
    rows = [
        (
            name,
            *(f"{counts[key]:,}" for key in ("groups", "documents", "sequences", "tokens")),
            f"{counts['padding']:.1%}",
        )
        for name, counts in splits.items()
    ]
    groups = "modules" if facts["source"] == PYTHON_DOCS else "groups"
    lines = [
        f"{facts['source']}: {facts['characters'] / _CHARACTERS_PER_MEGABYTE:.1f} MB of text, "
        f"{facts['repeated_sentences']:,} repeated sentences left out",
        text_table(("split", groups, "documents", "sequences", "tokens", "padding"), rows),
    ]
    if not facts["complete"]:
        lines.append("there is more text: --max-megabytes says how much to take")
    lines.append(
        f"{out} was prepared before; nothing was written"
        if seconds is None
        else f"wrote {out} in {seconds:.1f} s"
    )
    data = {
        "corpus": str(out),
        "source": facts["source"],
        "characters": facts["characters"],
        "complete": facts["complete"],
        "sequence_length": corpus.sequence_length,
        "vocab_size": corpus.vocab_size,
        "splits": splits,
        "elapsed_s": None if seconds is None else round(seconds, 1),
        "finished_before": seconds is None,
    }
    return Answer(data, "\n".join(lines))


def prepare_corpus_main() -> None:
    """Runs `prepare-corpus`."""
    run(prepare_corpus_command, _COMMAND)
