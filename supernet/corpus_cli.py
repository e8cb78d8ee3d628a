"""`prepare-corpus`: makes the token shards that a SuperPLM is trained on."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, check_apart, sha256_file, sha256_text
from autotinybert.text_table import text_table
from supernet.corpus import CORPUS_FILE, TokenCorpus, load_corpus, save_corpus
from supernet.corpus_preparation import (
    MAX_SEQUENCE_LENGTH,
    CorpusOptions,
    check_sequence_length,
    write_corpus,
)
from supernet.corpus_staging import PreparedCorpus, open_staging
from supernet.corpus_text import PYTHON_DOCS, corpus_identity
from supernet.tasks.examples import read_examples
from supernet.tasks.task_corpus import describe, task_corpus, text_lengths
from supernet.text_files import DocumentText, SentenceRule
from supernet.text_python import DEFAULT_PYTHON_DOCS_CHARACTERS
from supernet.tokenizer_files import read_tokenizer_files

__all__ = [
    "PreparedCorpus",
    "corpus_identity",
    "prepare",
    "prepare_corpus_command",
    "prepare_task",
]

_COMMAND = "prepare-corpus"

_CHARACTERS_PER_MEGABYTE = 1_000_000


def prepare_corpus_command(
    *,
    teacher: Annotated[Path, typer.Option(help="Hugging Face encoder's folder, with tokenizer.")],
    out: Annotated[Path, typer.Option(help="Folder of the corpus.")],
    corpus: Annotated[
        str | None,
        typer.Option(
            metavar="python-docs|PATH",
            help="Docstrings of installed packages; or text: one sentence a line, an empty line "
            "between documents; or JSONL; or either gzipped; or a folder of them, or of Hugging "
            "Face datasets.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Instead: the texts of a task, csv or one of GLUE's, to distil it on."),
    ] = None,
    train: Annotated[Path | None, typer.Option(help="With --task: texts to train on.")] = None,
    dev: Annotated[Path | None, typer.Option(help="With --task: texts to score on.")] = None,
    sequence_length: Annotated[
        int | None,
        typer.Option(
            help="Most tokens of a sequence; default 64, with --task what 99 % of the texts need."
        ),
    ] = None,
    max_megabytes: Annotated[
        float | None,
        typer.Option(
            help="Take no more text than this; default "
            f"{DEFAULT_PYTHON_DOCS_CHARACTERS // _CHARACTERS_PER_MEGABYTE} for python-docs, "
            "everything for files."
        ),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Two consecutive texts in a sequence.")
    ] = False,
    keep_repeats: Annotated[
        bool,
        typer.Option(
            "--keep-repeats", help="Keep sentences that were seen before, held-out ones too."
        ),
    ] = False,
    text_key: Annotated[str, typer.Option(help="Of JSONL and datasets: where the text is.")] = (
        "text"
    ),
    sentences: Annotated[
        str,
        typer.Option(
            metavar="split|lines",
            help="Of JSONL and datasets: split lines after full stops, or take each for a "
            "sentence.",
        ),
    ] = "split",
    workers: Annotated[
        int, typer.Option(min=1, help="Processes; the corpus is the same for any number.")
    ] = 1,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of a corpus that is there, and check it.")
    ] = False,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Turns text into sequences of tokens in three splits: train, search and test.

    Interrupted, it goes on after what it had tokenised when the same command is given again.
    """
    del json, version  # the frame around every command reads them
    started_s = time.monotonic()
    check_apart(out, {"the folder of the teacher": teacher})
    if task is not None:
        if train is None or dev is None or corpus is not None:
            raise InputError("--task needs --train FILE and --dev FILE, and no --corpus")
        prepared = prepare_task(
            *(task, train, dev, teacher, out),
            sequence_length=sequence_length,
            overwrite=overwrite,
            verify=verify,
        )
        return _written(prepared, started_s)
    if corpus is None:
        raise InputError("name a --corpus: python-docs, or text; or a --task with its files")
    prepared = prepare(
        corpus,
        teacher,
        out,
        sequence_length=64 if sequence_length is None else sequence_length,
        max_megabytes=max_megabytes,
        overwrite=overwrite,
        pairs=pairs,
        keep_repeats=keep_repeats,
        how=DocumentText(text_key, _sentence_rule(sentences)),
        workers=workers,
        verify=verify,
    )
    return _written(prepared, started_s)


def _written(prepared: PreparedCorpus, started_s: float) -> Answer:
    """Writes a corpus, unless it is there already, and says so."""
    if prepared.finished_before:
        return _answer(prepared.path, prepared.corpus)
    prepared.write()
    return _answer(prepared.path, prepared.corpus, seconds=time.monotonic() - started_s)


def prepare(
    corpus: str,
    teacher: Path,
    out: Path,
    *,
    sequence_length: int,
    max_megabytes: float | None,
    overwrite: bool,
    pairs: bool = False,
    keep_repeats: bool = False,
    how: DocumentText | None = None,
    workers: int = 1,
    verify: bool = False,
) -> PreparedCorpus:
    """Makes the corpus that the options ask for, or reads it if `out` holds it already.

    It is made beside `out`, which is not touched before `PreparedCorpus.write`.

    Raises:
        InputError: if an option or the text is wrong, or `out` belongs to something else.
    """
    options = CorpusOptions(
        sequence_length=sequence_length,
        max_characters=_characters(max_megabytes),
        pairs=pairs,
        keep_repeats=keep_repeats,
        how=how or DocumentText(),
    )
    request = {
        # The documentation on a machine changes with every package; what was prepared stays.
        "corpus": corpus_identity(corpus),
        "tokenizer": _hash_of_tokenizer(teacher),
        "sequence_length": sequence_length,
        "max_megabytes": max_megabytes,
        **_unusual(options),
    }
    folder = OutputFolder.claim(out, _COMMAND, request, files=(CORPUS_FILE,), overwrite=overwrite)
    if folder.state == "finished":
        return PreparedCorpus(folder, load_corpus(out, verify=verify))
    staging = open_staging(out, request)
    try:
        with _spinner(f"reading {corpus}"):
            made = write_corpus(corpus, teacher, staging, options, workers=workers)
    except InputError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return PreparedCorpus(folder, made, staging)


def prepare_task(
    task: str,
    train: Path,
    dev: Path,
    teacher: Path,
    out: Path,
    *,
    sequence_length: int | None,
    overwrite: bool,
    verify: bool = False,
) -> PreparedCorpus:
    """Makes the corpus of a task's texts, or reads it if `out` holds it already.

    Args:
        task: how the files are read.
        train: texts to train on.
        dev: texts to score on.
        teacher: the folder of the tokenizer.
        out: of the corpus; it is not touched before `PreparedCorpus.write`.
        sequence_length: the most tokens of a sequence; None takes what 99 % of the texts need.
        overwrite: replace another corpus.
        verify: read all of a corpus that is there, and check it.

    Raises:
        InputError: if an option or a file is wrong, or `out` belongs to something else.
    """
    texts, held = read_examples(task, train), read_examples(task, dev)
    if sequence_length is None:
        sequence_length = text_lengths(texts, teacher, most=MAX_SEQUENCE_LENGTH).training
    check_sequence_length(sequence_length)
    request = {
        "task": texts.task,
        "train": sha256_file(train),
        "dev": sha256_file(dev),
        "tokenizer": _hash_of_tokenizer(teacher),
        "sequence_length": sequence_length,
    }
    folder = OutputFolder.claim(out, _COMMAND, request, files=(CORPUS_FILE,), overwrite=overwrite)
    if folder.state == "finished":
        return PreparedCorpus(folder, load_corpus(out, verify=verify))
    made = task_corpus(
        texts, held, teacher, sequence_length=sequence_length, source=describe((train, dev))
    )
    staging = open_staging(out, request)
    save_corpus(staging, made)
    return PreparedCorpus(folder, load_corpus(staging), staging)


def _unusual(options: CorpusOptions) -> dict[str, Any]:
    """The options that were not there at first: a request without them is what it was."""
    usual = CorpusOptions(sequence_length=options.sequence_length)
    found = {
        "pairs": (options.pairs, usual.pairs),
        "keep_repeats": (options.keep_repeats, usual.keep_repeats),
        "text_key": (options.how.key, usual.how.key),
        "sentences": (options.how.rule, usual.how.rule),
    }
    return {name: value for name, (value, default) in found.items() if value != default}


def _sentence_rule(name: str) -> SentenceRule:
    for rule in get_args(SentenceRule):
        if rule == name:
            return cast(SentenceRule, rule)
    raise InputError(f"no --sentences {name!r}: use {' or '.join(get_args(SentenceRule))}")


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
