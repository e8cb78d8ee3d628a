"""`train-model`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, check_apart, sha256_file
from supernet.checkpoint import CHECKPOINT_FILE
from supernet.demo_teacher import DEMO_TEACHER, teacher_folder
from supernet.distillation import check_attention_loss
from supernet.distributed import joined
from supernet.encoder import ENCODER_FILE
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.objective_change import with_objective
from supernet.objectives import OBJECTIVES, ObjectiveName
from supernet.starting import check_corpus, training_batches
from supernet.student_folder import STUDENT_FILES, load_student
from supernet.supernet_folder import LOG_FILE
from supernet.tokenizer_files import TOKENIZER_FILES, read_tokenizer_files
from supernet.training import TRAINING_PRECISIONS
from supernet.training_cli import finish
from supernet.training_report import last_log_row, model_answer, progress_line
from supernet.training_request import DEFAULT_MINUTES, one_of, settings_of
from supernet.training_runs import ModelRun


def train_model(
    *,
    model: Annotated[Path, typer.Option(help="Folder of extract-model or train-model.")],
    out: Annotated[Path, typer.Option(help="Folder of the trained encoder.")],
    objective: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(OBJECTIVES)}; default: what its SuperPLM was trained for."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help=f"Another teacher of the same tokenizer to distil: a folder, or {DEMO_TEACHER}."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help=f"Time to train instead; default {DEFAULT_MINUTES:g}.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences of a batch.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 1e-3,
    precision: Annotated[
        str, typer.Option(help=f"{' or '.join(TRAINING_PRECISIONS)}, of products.")
    ] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the batches.")] = 1,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Trains an encoder that was extracted from a SuperPLM further.

    Interrupted, it goes on from its last checkpoint when the same command is given again.
    """
    del json, version  # the frame around every command reads them
    settings = settings_of(
        steps,
        minutes,
        shapes_per_batch=1,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
    )
    check_apart(out, {"the folder of what is trained": model})
    student = load_student(model)
    check_apart(out, {"the folder of the teacher": student.origin.teacher})
    tokenizer = read_tokenizer_files(model)
    goal = None if objective is None else one_of("--objective", objective, OBJECTIVES)
    other = None if teacher is None else read_bert_folder(teacher_folder(teacher))
    request = {
        "model": sha256_file(model / ENCODER_FILE),
        "objective": goal or student.origin.objective.name,
        "teacher": None if other is None else other.sha256,
        "batch_size": batch_size,
        "settings": settings.to_json(),
    }
    files = (*STUDENT_FILES, LOG_FILE)
    folder = OutputFolder.claim(out, "train-model", request, files=files, overwrite=overwrite)
    if folder.state == "finished":
        return model_answer(out, load_student(out), {}, finished_before=True)
    corpus = student.origin.read_corpus()
    read = other or student.origin.read_teacher()
    if other is not None:
        check_corpus(corpus, other.config, tokenizer, other.path)
    if goal not in (None, student.origin.objective.name) or other is not None:
        batches = training_batches(corpus, batch_size=batch_size, seed=seed)
        name = goal or student.origin.objective.name
        student = with_objective(student, name, _required(read, name), batches, seed=seed)
    attention = student.origin.objective.attention
    if attention is not None and read is not None:
        check_attention_loss(attention, [student.architecture.num_heads], read.config.largest)
    folder.begin((*files, CHECKPOINT_FILE, *TOKENIZER_FILES))
    planned = ModelRun(
        student=student, tokenizer=tokenizer, settings=settings, batch_size=batch_size
    )
    with joined(device) as group, progress_line(settings) as on_step:
        planned.train(out, read, corpus, clock_s=time.monotonic, on_step=on_step, group=group)
    finish(folder)
    return model_answer(out, load_student(out), last_log_row(out))


def _required(teacher: BertFolder | None, objective: ObjectiveName) -> BertFolder | None:
    """The teacher, where one is needed."""
    if teacher is None and objective != "mlm":
        raise InputError(f"--objective {objective} needs a --teacher: it was trained without one")
    return teacher


def train_model_main() -> None:
    """Runs `train-model`."""
    run(train_model, "train-model")
