"""`finetune-model`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, check_apart, sha256_bytes, sha256_file
from autotinybert.text_table import text_table
from supernet.encoder import ENCODER_FILE, ENCODER_FILES, load_encoder
from supernet.tasks.examples import TASKS, TaskData, task_name
from supernet.tasks.finetune_grid import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_EPOCHS,
    DEFAULT_LEARNING_RATE,
    FinetuneSettings,
    paper_grid,
    settings_grid,
)
from supernet.tasks.finetune_results import RESULTS_FILE, Results, load_results, save_results
from supernet.tasks.metrics import primary
from supernet.tasks.squad_cli import SQUAD_TASKS, SquadOptions, finetune_on_squad
from supernet.tasks.task_examples import read_task_examples
from supernet.tasks.task_files import ANSWER_FILES, task_files
from supernet.tokenizer_files import (
    TOKENIZER_FILES,
    check_tokenizer_files,
    read_tokenizer_files,
    write_tokenizer_files,
)

COMMAND = "finetune-model"
DEFAULT_SEQUENCE_LENGTH = 128


def finetune_model(
    *,
    model: Annotated[Path, typer.Option(help="Folder of extract-model or train-model.")],
    task: Annotated[
        str,
        typer.Option(help=f"{', '.join((*TASKS, *SQUAD_TASKS))}: csv is files of your own."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the encoder with its head.")],
    data: Annotated[
        Path | None, typer.Option(help="Official folder of a GLUE task, or of SQuAD.")
    ] = None,
    train: Annotated[
        Path | None, typer.Option(help="Instead of --data: .csv, .tsv, .jsonl with text and label.")
    ] = None,
    dev: Annotated[Path | None, typer.Option(help="Likewise, to choose and to judge by.")] = None,
    test: Annotated[Path | None, typer.Option(help="Likewise, to answer at the end.")] = None,
    regression: Annotated[
        bool, typer.Option("--regression", help="csv: labels are numbers to predict.")
    ] = False,
    epochs: Annotated[
        list[int] | None, typer.Option(min=1, help=f"Repeatable; default {DEFAULT_EPOCHS}.")
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(min=1, help=f"Repeatable; default {DEFAULT_BATCH_SIZE}.")
    ] = None,
    learning_rate: Annotated[
        list[float] | None, typer.Option(help=f"Repeatable; default {DEFAULT_LEARNING_RATE:g}.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help="paper: its learning rates, batch sizes and epochs.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every combination.")] = 1,
    sequence_length: Annotated[
        int | None,
        typer.Option(
            min=5,
            help=f"Most tokens of an example; default {DEFAULT_SEQUENCE_LENGTH}, of SQuAD 384.",
        ),
    ] = None,
    doc_stride: Annotated[
        int, typer.Option(min=1, help="SQuAD: tokens from a window of a context to the next.")
    ] = 128,
    max_query_length: Annotated[
        int, typer.Option(min=1, help="SQuAD: most tokens of a question.")
    ] = 64,
    n_best: Annotated[
        int, typer.Option(min=1, help="SQuAD: answers that are kept of a question.")
    ] = 20,
    max_answer_length: Annotated[
        int, typer.Option(min=1, help="SQuAD: most tokens of an answer.")
    ] = 30,
    null_threshold: Annotated[
        float, typer.Option(help="SQuAD 2.0: how much higher no answer must score.")
    ] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Fine-tunes an encoder on a task, and keeps the best on its dev file.

    Interrupted, it goes on with the next run when the same command is given again.
    """
    del json, version  # the frame around every command reads them
    if task in SQUAD_TASKS:
        if regression or test is not None:
            raise InputError(f"--task {task} has neither --regression nor --test: leave them out")
        check_apart(out, {"the folder of what is trained": model})
        options = SquadOptions(
            task=task,
            data=data,
            train=train,
            dev=dev,
            grid=grid,
            tried={
                "epochs": epochs,
                "batch_size": batch_size,
                "learning_rate": learning_rate,
            },
            seeds=seeds,
            sequence_length=sequence_length,
            doc_stride=doc_stride,
            max_query_length=max_query_length,
            n_best=n_best,
            max_answer_length=max_answer_length,
            null_threshold=null_threshold,
        )
        return finetune_on_squad(model, out, options, device=device, overwrite=overwrite)
    sequence_length = sequence_length or DEFAULT_SEQUENCE_LENGTH
    name = task_name(task)
    inputs = {"the folder of what is trained": model, "the folder of the task": data}
    check_apart(out, {what: path for what, path in inputs.items() if path is not None})
    files = task_files(name, data=data, train=train, dev=dev, test=test)
    encoder, extra = load_encoder(model)
    if sequence_length > encoder.max_positions:
        raise InputError(
            f"--sequence-length {sequence_length} is more than the {encoder.max_positions} "
            f"positions of {model}"
        )
    tokenizer = read_tokenizer_files(model)
    check_tokenizer_files(tokenizer, encoder.vocab_size)
    examples = read_task_examples(name, files, encoder.head, regression=regression)
    tried = _settings(
        grid,
        epochs=epochs,
        batch_sizes=batch_size,
        learning_rates=learning_rate,
        seeds=seeds,
        train=examples.train,
    )
    request = {
        "model": sha256_file(model / ENCODER_FILE),
        "tokenizer": {name: sha256_bytes(found) for name, found in tokenizer.items()},
        "task": name,
        "regression": regression,
        "train": sha256_file(files.train),
        "dev": {path.name: sha256_file(path) for path in files.dev},
        "answered": {answer: sha256_file(path) for answer, path in files.answered.items()},
        "sequence_length": sequence_length,
        "settings": [settings.to_json() for settings in tried],
    }
    written = (*ENCODER_FILES, RESULTS_FILE, *tokenizer, *files.answered)
    folder = OutputFolder.claim(out, COMMAND, request, files=written, overwrite=overwrite)
    if folder.state == "finished":
        load_encoder(out)  # refuses what was damaged since
        return _answer(out, load_results(out), finished_before=True)
    # torch takes seconds to load, and what is wrong is said before.
    from supernet.distributed import joined
    from supernet.tasks.finetune_job import FinetuneJob

    with joined(device) as group:
        if group.size > 1:
            raise InputError(f"{COMMAND} runs in one process: start it without torchrun")
        job = FinetuneJob(
            out,
            encoder,
            extra,
            examples,
            model=model,
            sequence_length=sequence_length,
            group=group,
        )
        results = _results_so_far(folder, examples.train)
        folder.begin((*ENCODER_FILES, RESULTS_FILE, *TOKENIZER_FILES, *ANSWER_FILES))
        write_tokenizer_files(out, tokenizer)
        results = job.judge(job.try_all(tried, results))
    save_results(out, results)
    folder.finish()
    return _answer(out, results)


def _settings(
    grid: str | None,
    *,
    epochs: Sequence[int] | None,
    batch_sizes: Sequence[int] | None,
    learning_rates: Sequence[float] | None,
    seeds: int,
    train: TaskData,
) -> tuple[FinetuneSettings, ...]:
    if grid is None:
        return settings_grid(
            epochs=epochs or (DEFAULT_EPOCHS,),
            batch_sizes=batch_sizes or (DEFAULT_BATCH_SIZE,),
            learning_rates=learning_rates or (DEFAULT_LEARNING_RATE,),
            seeds=seeds,
        )
    if grid != "paper":
        raise InputError(f"no --grid {grid!r}: use paper")
    if epochs or batch_sizes or learning_rates:
        raise InputError(
            "--grid says epochs, batch sizes and learning rates: leave these options out"
        )
    return paper_grid(train.task, len(train.examples), seeds=seeds)


def _results_so_far(folder: OutputFolder, train: TaskData) -> Results:
    """Those of the runs that were made before it was interrupted."""
    if folder.state == "unfinished" and (folder.path / RESULTS_FILE).exists():
        return load_results(folder.path)
    return Results(
        task=train.task, primary=primary(train.task, regression=train.kind == "regression")
    )


def _answer(out: Path, results: Results, *, finished_before: bool = False) -> Answer:
    chosen = results.chosen
    rows = [
        (
            str(point.settings.epochs),
            str(point.settings.batch_size),
            f"{point.settings.learning_rate:g}",
            f"{point.mean:.1f}" + ("" if point.deviation is None else f" ± {point.deviation:.1f}"),
        )
        for point in results.points()
    ]
    low, high = results.interval or (math.nan, math.nan)
    header = ("epochs", "batch size", "learning rate", results.primary)
    lines = [
        text_table(header, rows),
        f"chosen: {chosen.settings.epochs} epochs (the best is {chosen.epoch}), batches of "
        f"{chosen.settings.batch_size}, learning rate {chosen.settings.learning_rate:g}, seed "
        f"{chosen.settings.seed}: {results.primary} {chosen.score:.1f} ({low:.1f} to {high:.1f})",
        *(
            f"{name}: " + ", ".join(f"{metric} {score:.1f}" for metric, score in found.items())
            for name, found in [*chosen.dev.items(), *results.test.items()]
        ),
        f"{out} was fine-tuned before; nothing was written" if finished_before else f"wrote {out}",
    ]
    data = {
        "model": str(out),
        "task": results.task,
        "primary": results.primary,
        "score": chosen.score,
        "interval_95": list(results.interval or ()),
        "chosen": chosen.to_json(),
        "runs": len(results.runs),
        "test": {name: dict(found) for name, found in results.test.items()},
        "finished_before": finished_before,
    }
    return Answer(data, "\n".join(lines))


def finetune_model_main() -> None:
    """Runs `finetune-model`."""
    run(finetune_model, COMMAND)
