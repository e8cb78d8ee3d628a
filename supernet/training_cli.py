"""`train-supernet` and `train-model`."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, sha256_file, whole_binary_file
from autotinybert.text_table import text_table
from supernet.architecture import Architecture
from supernet.checkpoint import CHECKPOINT_FILE
from supernet.corpus import CORPUS_FILE, TokenCorpus, load_corpus
from supernet.corpus_cli import prepare_corpus_command
from supernet.demo_teacher import DEMO_TEACHER, teacher_folder
from supernet.distilling import (
    STARTS,
    Lesson,
    check_vocabulary,
    measure_variance,
    student_from_random,
    student_from_teacher,
    train_in_folder,
    training_batches,
)
from supernet.elastic import DEPTH_RULES, DepthRule
from supernet.encoder import ENCODER_FILES
from supernet.extraction import as_model, extract
from supernet.held_out import HeldOutLoss
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.objectives import check_heads
from supernet.space_file import load_space, space_document
from supernet.student_folder import STUDENT_FILES, Student, load_student, save_student
from supernet.supernet_folder import (
    LOG_FILE,
    SUPERNET_FILE,
    WEIGHTS_FILE,
    Origin,
    Supernet,
    load_supernet,
    save_supernet,
)
from supernet.tokenizer_files import read_tokenizer_files
from supernet.training import StepReport, TrainingSettings, TrainingState, shapes_of_step

CORPUS_FOLDER = "corpus"

_DEFAULT_MINUTES = 30.0

# Shapes whose held-out loss is shown when training is done: what a user may expect of a search.
_SHOWN_SHAPES = 5


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
    sequence_length: Annotated[int, typer.Option(help="Most tokens of a sequence.")] = 64,
    max_megabytes: Annotated[
        float | None, typer.Option(help="Take no more text than this.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences of a batch.")] = 32,
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
    read = read_bert_folder(teacher_folder(teacher))
    shape = _largest(start, largest, read)
    rule = _depth_rule(depth_rule, start)
    chosen = load_space(space).clipped(shape)
    check_heads(chosen, read.config.largest)
    tokenizer = read_tokenizer_files(read.path)
    request = {
        "teacher": read.sha256,
        "corpus": corpus,
        "space": space_document(chosen),
        "start": start,
        "largest": str(shape),
        "depth_rule": rule,
        "sequence_length": sequence_length,
        "max_megabytes": max_megabytes,
        "batch_size": batch_size,
        "settings": settings.to_json(),
    }
    files = (SUPERNET_FILE, WEIGHTS_FILE, LOG_FILE)
    folder = OutputFolder.claim(out, "train-supernet", request, files=files, overwrite=overwrite)
    if folder.state == "finished":
        return _supernet_answer(load_supernet(out), {}, finished_before=True)
    folder.begin((*files, CHECKPOINT_FILE, *tokenizer))
    corpus_folder, tokens = _corpus(
        corpus, read, out, sequence_length, max_megabytes, overwrite=overwrite
    )
    check_vocabulary(read, tokens)
    batch_of = training_batches(tokens, batch_size=batch_size, seed=seed)
    model = read.model()
    lesson = Lesson(model, measure_variance(model, batch_of), batch_of)
    if start == "teacher":
        resumed = (out / CHECKPOINT_FILE).exists()  # the order is in the checkpoint then
        student, projection = student_from_teacher(
            read, batch_of, depth_rule=rule, ordered=not resumed
        )
    else:
        student, projection = student_from_random(read, shape, depth_rule=rule, seed=seed)
    state = TrainingState(student, projection)
    with _progress_line(settings) as on_step:
        train_in_folder(
            out,
            state,
            lesson,
            lambda step: shapes_of_step(chosen, shape, settings, step),
            settings,
            clock_s=time.monotonic,
            on_step=on_step,
        )
    held_out = HeldOutLoss(model, lesson.variance, tokens.splits["search"])
    losses = {
        str(found): held_out(student, projection, found).loss
        for found in dict.fromkeys([shape, *chosen.space_filling(_rng(seed), _SHOWN_SHAPES)])
    }
    _write_tokenizer(out, tokenizer)
    origin = Origin(
        teacher=read.path,
        teacher_sha256=read.sha256,
        corpus=corpus_folder,
        corpus_sha256=sha256_file(corpus_folder / CORPUS_FILE),
        variance=lesson.variance,
    )
    training = {
        "start": start,
        "settings": settings.to_json(),
        "batch_size": batch_size,
        "steps": state.step,
        "elapsed_s": round(state.elapsed_s, 1),
        "held_out_losses": losses,
    }
    save_supernet(out, student, projection, chosen, origin, training)
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    folder.finish()
    return _supernet_answer(load_supernet(out), _last_log_row(out))


def train_model(
    *,
    model: Annotated[Path, typer.Option(help="Folder of extract-model or train-model.")],
    out: Annotated[Path, typer.Option(help="Folder of the trained encoder.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help=f"Time to train instead; default {_DEFAULT_MINUTES:g}.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences of a batch.")] = 32,
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
    student = load_student(model)
    if out.resolve() == model.resolve():
        raise InputError(f"--out {out} is what is trained: choose another folder")
    tokenizer = read_tokenizer_files(model)
    request = {
        "model": sha256_file(model / ENCODER_FILES[-1]),
        "batch_size": batch_size,
        "settings": settings.to_json(),
    }
    files = (*STUDENT_FILES, LOG_FILE)
    folder = OutputFolder.claim(out, "train-model", request, files=files, overwrite=overwrite)
    if folder.state == "finished":
        return _model_answer(out, load_student(out), {}, finished_before=True)
    read, tokens = student.origin.read_teacher(), student.origin.read_corpus()
    folder.begin((*files, CHECKPOINT_FILE))
    teacher = read.model()
    variance = student.origin.variance
    lesson = Lesson(teacher, variance, training_batches(tokens, batch_size=batch_size, seed=seed))
    state = TrainingState(as_model(student.encoder), student.projection)
    architecture = student.encoder.architecture
    held_out = {
        name: HeldOutLoss(teacher, variance, tokens.splits[name]) for name in ("search", "test")
    }

    def losses() -> dict[str, float]:
        return {
            name: score(state.student, state.projection).loss for name, score in held_out.items()
        }

    before = losses()
    with _progress_line(settings) as on_step:
        train_in_folder(
            out,
            state,
            lesson,
            lambda _: [architecture],
            settings,
            clock_s=time.monotonic,
            on_step=on_step,
        )
    step = {
        "did": "train-model",
        "settings": settings.to_json(),
        "batch_size": batch_size,
        "steps": state.step,
        "elapsed_s": round(state.elapsed_s, 1),
        "held_out_loss_before": before,
        "held_out_loss": losses(),
    }
    trained = Student(
        extract(state.student, architecture),
        state.projection,
        student.origin,
        (*student.history, step),
    )
    save_student(out, trained, tokenizer)
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    folder.finish()
    return _model_answer(out, load_student(out), _last_log_row(out))


def _settings(steps: int | None, minutes: float | None, **others: Any) -> TrainingSettings:
    if steps is not None and minutes is not None:
        raise InputError("--steps and --minutes say the same thing twice: leave one out")
    if steps is None and minutes is None:
        minutes = _DEFAULT_MINUTES
    return TrainingSettings(steps=steps, minutes=minutes, **others)


def _largest(start: str, largest: str | None, teacher: BertFolder) -> Architecture:
    """The SuperPLM's own shape."""
    if start not in STARTS:
        raise InputError(f"no --start {start!r}: use {' or '.join(STARTS)}")
    if largest is None:
        return teacher.config.largest
    shape = Architecture.parse(largest)
    if start == "teacher" and shape != teacher.config.largest:
        raise InputError(
            f"--largest {shape} with --start teacher: it begins as the teacher, which is "
            f"{teacher.config.largest}; leave --largest out, or use --start random"
        )
    return shape


def _depth_rule(rule: str | None, start: str) -> DepthRule:
    if rule is None:
        return "evenly-spaced" if start == "teacher" else "first"
    if rule not in DEPTH_RULES:
        raise InputError(f"no --depth-rule {rule!r}: use {' or '.join(DEPTH_RULES)}")
    return rule


def _corpus(
    corpus: str,
    teacher: BertFolder,
    out: Path,
    sequence_length: int,
    max_megabytes: float | None,
    *,
    overwrite: bool,
) -> tuple[Path, TokenCorpus]:
    """The token corpus that `--corpus` names, prepared if need be."""
    path = Path(corpus)
    if (path / CORPUS_FILE).exists():
        return path, load_corpus(path)
    if path.is_dir():
        raise InputError(f"{path} holds no {CORPUS_FILE}: make it with prepare-corpus --out {path}")
    path = out / CORPUS_FOLDER
    prepare_corpus_command(
        corpus=corpus,
        teacher=teacher.path,
        out=path,
        sequence_length=sequence_length,
        max_megabytes=max_megabytes,
        overwrite=overwrite,
    )
    return path, load_corpus(path)


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 2])


def _write_tokenizer(folder: Path, tokenizer: Mapping[str, bytes]) -> None:
    for name, content in tokenizer.items():
        with whole_binary_file(folder / name) as file:
            file.write(content)


@contextmanager
def _progress_line(settings: TrainingSettings) -> Iterator[Callable[[StepReport], None]]:
    """Step, speed, losses and time left on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(
        TextColumn("step {task.fields[step]}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
    ) as bar:
        task = bar.add_task("", total=1.0, step=0, text="")

        def show(report: StepReport) -> None:
            minutes, seconds = divmod(round(report.remaining_s), 60)
            sampled = "" if report.sampled_loss is None else f", sampled {report.sampled_loss:.2f}"
            bar.update(
                task,
                completed=settings.progress(report.step, report.elapsed_s),
                step=report.step,
                text=f"{report.tokens_per_s:,.0f} tokens/s, loss {report.largest_loss:.2f}"
                f"{sampled}, about {minutes}:{seconds:02d} left",
            )

        yield show


def _last_log_row(folder: Path) -> dict[str, float]:
    """The last row of `training.csv`, by column; empty if there is none."""
    with (folder / LOG_FILE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: float(value) for name, value in rows[-1].items() if value} if rows else {}


def _supernet_answer(
    supernet: Supernet, log: Mapping[str, float], *, finished_before: bool = False
) -> Answer:
    training: Mapping[str, Any] = supernet.document["training"]
    losses: Mapping[str, float] = training["held_out_losses"]
    config = supernet.model.config
    lines = [
        f"SuperPLM {config.largest}, {config.depth_rule} layers, from {training['start']} "
        f"weights: {training['steps']} steps in {training['elapsed_s']:.0f} s"
        + (f", {log['tokens_per_s']:,.0f} tokens/s" if log else ""),
        text_table(
            ("slice", "held-out loss"),
            [(name, f"{loss:.3f}") for name, loss in losses.items()],
        ),
        f"{supernet.folder} was trained before; nothing was written"
        if finished_before
        else f"wrote {supernet.folder}",
    ]
    data = {
        "supernet": str(supernet.folder),
        "architecture": str(config.largest),
        "depth_rule": config.depth_rule,
        "space_size": supernet.space.size,
        **training,
        "tokens_per_s": log.get("tokens_per_s"),
        "finished_before": finished_before,
    }
    return Answer(data, "\n".join(lines))


def _model_answer(
    out: Path, student: Student, log: Mapping[str, float], *, finished_before: bool = False
) -> Answer:
    step = student.history[-1]
    rows = [
        (name, f"{step['held_out_loss_before'][name]:.3f}", f"{loss:.3f}")
        for name, loss in step["held_out_loss"].items()
    ]
    lines = [
        f"{student.encoder.architecture}: {step['steps']} steps in {step['elapsed_s']:.0f} s"
        + (f", {log['tokens_per_s']:,.0f} tokens/s" if log else ""),
        text_table(("held-out loss", "before", "after"), rows),
        f"{out} was trained before; nothing was written" if finished_before else f"wrote {out}",
    ]
    data = {
        "model": str(out),
        "architecture": str(student.encoder.architecture),
        **step,
        "tokens_per_s": log.get("tokens_per_s"),
        "finished_before": finished_before,
    }
    return Answer(data, "\n".join(lines))


def train_supernet_main() -> None:
    """Runs `train-supernet`."""
    run(train_supernet, "train-supernet")


def train_model_main() -> None:
    """Runs `train-model`."""
    run(train_model, "train-model")
