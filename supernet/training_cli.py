"""`train-supernet` and `train-model`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import (
    REQUEST_FILE,
    OutputFolder,
    check_apart,
    sha256_bytes,
    sha256_file,
)
from supernet.architecture import Architecture
from supernet.checkpoint import CHECKPOINT_FILE
from supernet.corpus import CORPUS_FILE, CORPUS_FILES
from supernet.corpus_cli import PreparedCorpus, corpus_identity, prepare
from supernet.demo_teacher import DEMO_TEACHER, teacher_folder
from supernet.distilling import STARTS, Start, check_corpus, check_positions
from supernet.elastic import DEPTH_RULES, DepthRule
from supernet.encoder import ENCODER_FILE
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.objectives import check_heads, check_heads_of
from supernet.space_file import load_space, space_document
from supernet.student_folder import STUDENT_FILES, load_student
from supernet.supernet_folder import LOG_FILE, SUPERNET_FILE, WEIGHTS_FILE, load_supernet
from supernet.tokenizer_files import (
    TOKENIZER_FILES,
    check_tokenizer_files,
    read_tokenizer_files,
)
from supernet.training import TrainingSettings
from supernet.training_report import last_log_row, model_answer, progress_line, supernet_answer
from supernet.training_runs import ModelRun, SupernetRun

CORPUS_FOLDER = "corpus"

_DEFAULT_MINUTES = 30.0
DEFAULT_SEQUENCE_LENGTH = 64


def train_supernet(
    *,
    teacher: Annotated[
        str, typer.Option(help=f"Hugging Face BERT folder, or {DEMO_TEACHER} for the demo's.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the SuperPLM.")],
    corpus: Annotated[
        str, typer.Option(help="python-docs, a text file, or a folder of prepare-corpus.")
    ] = "python-docs",
    space: Annotated[
        str, typer.Option(help="What its slices are: kd, or a .toml or .json file.")
    ] = "kd",
    objective: Annotated[str, typer.Option(help="kd: distillation from the teacher.")] = "kd",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help=f"Time to train instead; default {_DEFAULT_MINUTES:g}.")
    ] = None,
    start: Annotated[
        str, typer.Option(help=f"Weights to start from: {' or '.join(STARTS)}.")
    ] = "teacher",
    largest: Annotated[
        str | None,
        typer.Option(metavar="L-d-f-h-q", help="Its own shape, with --start random."),
    ] = None,
    depth_rule: Annotated[
        str | None,
        typer.Option(
            help="Layers of a shallow slice: evenly-spaced (default from a teacher) or first "
            "(default from random weights)."
        ),
    ] = None,
    sequence_length: Annotated[
        int | None,
        typer.Option(help=f"Most tokens of a sequence; default {DEFAULT_SEQUENCE_LENGTH}."),
    ] = None,
    max_megabytes: Annotated[
        float | None, typer.Option(help="Take no more text than this.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences of a batch.")] = 16,
    shapes_per_batch: Annotated[
        int, typer.Option(min=1, help="Slices trained on each batch, the largest among them.")
    ] = 4,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of shapes and batches.")] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Trains a SuperPLM: one encoder that holds every shape of a space as a slice.

    Interrupted, it goes on from its last checkpoint when the same command is given again.
    """
    del json, version  # the frame around every command reads them
    if objective != "kd":
        raise InputError(f"--objective {objective} is not there: use kd")
    settings = _settings(
        steps, minutes, shapes_per_batch=shapes_per_batch, learning_rate=learning_rate, seed=seed
    )
    begins = _start(start)
    rule = _depth_rule(depth_rule, begins)
    read = read_bert_folder(teacher_folder(teacher))
    shape = _largest(begins, largest, read)
    chosen = load_space(space).clipped(shape)
    check_heads(chosen, read.config.largest)
    check_heads_of(shape, read.config.largest)
    tokenizer = read_tokenizer_files(read.path)
    check_tokenizer_files(tokenizer, read.config.vocab_size)
    inputs = {"the folder of the teacher": read.path, "the folder of the corpus": Path(corpus)}
    check_apart(out, inputs)
    length = DEFAULT_SEQUENCE_LENGTH if sequence_length is None else sequence_length
    ready = ready_corpus(corpus, sequence_length, max_megabytes)
    check_positions(ready.corpus.sequence_length if ready else length, read)
    request = {
        "teacher": read.sha256,
        "tokenizer": {name: sha256_bytes(found) for name, found in tokenizer.items()},
        "corpus": sha256_file(ready.path / CORPUS_FILE) if ready else corpus_identity(corpus),
        "space": space_document(chosen),
        "start": begins,
        "largest": str(shape),
        "depth_rule": rule,
        "sequence_length": ready.corpus.sequence_length if ready else length,
        "max_megabytes": max_megabytes,
        "batch_size": batch_size,
        "settings": settings.to_json(),
    }
    files = (SUPERNET_FILE, WEIGHTS_FILE, LOG_FILE)
    folder = OutputFolder.claim(out, "train-supernet", request, files=files, overwrite=overwrite)
    if folder.state == "finished":
        (out / CHECKPOINT_FILE).unlink(missing_ok=True)  # a crash may have left it
        return supernet_answer(load_supernet(out), {}, finished_before=True)
    # Everything is read and checked before anything is written.
    text = ready or prepare(
        corpus,
        read.path,
        out / CORPUS_FOLDER,
        sequence_length=length,
        max_megabytes=max_megabytes,
        overwrite=overwrite and folder.state == "new",
    )
    check_corpus(text.corpus, read, tokenizer)
    # A corpus of the request before would be in the way of this one's, were it interrupted here.
    stale = () if text.finished_before else (*CORPUS_FILES, REQUEST_FILE)
    in_corpus = (f"{CORPUS_FOLDER}/{name}" for name in stale)
    folder.begin((*files, CHECKPOINT_FILE, *TOKENIZER_FILES, *in_corpus))
    text.write()
    planned = SupernetRun(
        teacher=read,
        tokenizer=tokenizer,
        space=chosen,
        largest=shape,
        start=begins,
        depth_rule=rule,
        settings=settings,
        batch_size=batch_size,
    )
    with progress_line(settings) as on_step:
        planned.train(out, text.corpus, text.path, clock_s=time.monotonic, on_step=on_step)
    _finish(folder)
    return supernet_answer(load_supernet(out), last_log_row(out))


def train_model(
    *,
    model: Annotated[Path, typer.Option(help="Folder of extract-model or train-model.")],
    out: Annotated[Path, typer.Option(help="Folder of the trained encoder.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help=f"Time to train instead; default {_DEFAULT_MINUTES:g}.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences of a batch.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of the batches.")] = 1,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Trains an encoder that was extracted from a SuperPLM further, from the same teacher.

    Interrupted, it goes on from its last checkpoint when the same command is given again.
    """
    del json, version  # the frame around every command reads them
    settings = _settings(steps, minutes, shapes_per_batch=1, learning_rate=learning_rate, seed=seed)
    check_apart(out, {"the folder of what is trained": model})
    student = load_student(model)
    check_apart(out, {"the folder of the teacher": student.origin.teacher})
    tokenizer = read_tokenizer_files(model)
    request = {
        "model": sha256_file(model / ENCODER_FILE),
        "batch_size": batch_size,
        "settings": settings.to_json(),
    }
    files = (*STUDENT_FILES, LOG_FILE)
    folder = OutputFolder.claim(out, "train-model", request, files=files, overwrite=overwrite)
    if folder.state == "finished":
        return model_answer(out, load_student(out), {}, finished_before=True)
    teacher, corpus = student.origin.read_teacher(), student.origin.read_corpus()
    check_heads_of(student.encoder.architecture, teacher.config.largest)
    folder.begin((*files, CHECKPOINT_FILE, *TOKENIZER_FILES))
    planned = ModelRun(
        student=student, tokenizer=tokenizer, settings=settings, batch_size=batch_size
    )
    with progress_line(settings) as on_step:
        planned.train(out, teacher, corpus, clock_s=time.monotonic, on_step=on_step)
    _finish(folder)
    return model_answer(out, load_student(out), last_log_row(out))


def _settings(steps: int | None, minutes: float | None, **others: Any) -> TrainingSettings:
    if steps is not None and minutes is not None:
        raise InputError("--steps and --minutes say the same thing twice: leave one out")
    if steps is None and minutes is None:
        minutes = _DEFAULT_MINUTES
    return TrainingSettings(steps=steps, minutes=minutes, **others)


def _start(name: str) -> Start:
    for start in STARTS:
        if start == name:
            return start
    raise InputError(f"no --start {name!r}: use {' or '.join(STARTS)}")


def _depth_rule(name: str | None, start: Start) -> DepthRule:
    if name is None:
        return "evenly-spaced" if start == "teacher" else "first"
    for rule in DEPTH_RULES:
        if rule == name:
            return rule
    raise InputError(f"no --depth-rule {name!r}: use {' or '.join(DEPTH_RULES)}")


def _largest(start: Start, largest: str | None, teacher: BertFolder) -> Architecture:
    """The SuperPLM's own shape."""
    if largest is None:
        return teacher.config.largest
    shape = Architecture.parse(largest)
    if start == "teacher" and shape != teacher.config.largest:
        raise InputError(
            f"--largest {shape} with --start teacher: it begins as the teacher, which is "
            f"{teacher.config.largest}; leave --largest out, or use --start random"
        )
    return shape


def ready_corpus(
    corpus: str, sequence_length: int | None, max_megabytes: float | None
) -> PreparedCorpus | None:
    """The token corpus that `--corpus` names; None if it names text."""
    path = Path(corpus)
    if not (path / CORPUS_FILE).exists():
        if path.is_dir():
            raise InputError(
                f"{path} holds no {CORPUS_FILE}: make it with prepare-corpus --out {path}"
            )
        return None
    ready = PreparedCorpus.read(path)
    length = ready.corpus.sequence_length
    if max_megabytes is not None or sequence_length not in (None, length):
        raise InputError(
            f"the corpus in {path} is ready, with sequences of {length} tokens: leave out "
            "--sequence-length and --max-megabytes, or make another with prepare-corpus"
        )
    return ready


def _finish(folder: OutputFolder) -> None:
    """Marks a folder finished; until then its checkpoint is what a crash would leave."""
    folder.finish()
    (folder.path / CHECKPOINT_FILE).unlink(missing_ok=True)


def train_supernet_main() -> None:
    """Runs `train-supernet`."""
    run(train_supernet, "train-supernet")


def train_model_main() -> None:
    """Runs `train-model`."""
    run(train_model, "train-model")
