"""`train-supernet`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.files import (
    REQUEST_FILE,
    OutputFolder,
    check_apart,
    sha256_file,
)
from supernet.checkpoint import CHECKPOINT_FILE
from supernet.corpus import CORPUS_FILE, CORPUS_FILES, load_corpus
from supernet.corpus_cli import PreparedCorpus, corpus_identity, prepare
from supernet.demo_teacher import DEMO_TEACHER
from supernet.distributed import Group, joined
from supernet.elastic import DEPTH_RULES
from supernet.objectives import OBJECTIVES
from supernet.starting import STARTS, check_corpus, check_positions
from supernet.supernet_folder import LOG_FILE, SUPERNET_FILE, WEIGHTS_FILE, load_supernet
from supernet.tokenizer_files import (
    TOKENIZER_FILES,
    check_tokenizer_files,
    read_tokenizer_files,
)
from supernet.training import ALWAYS, TRAINING_PRECISIONS
from supernet.training_folder import CHECKPOINT_EVERY_S
from supernet.training_report import last_log_row, progress_line, supernet_answer
from supernet.training_request import (
    DEFAULT_MINUTES,
    DEFAULT_SEQUENCE_LENGTH,
    one_of,
    ready_corpus,
    settings_of,
    starting_point,
)
from supernet.training_runs import SupernetRun

CORPUS_FOLDER = "corpus"


def train_supernet(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the SuperPLM.")],
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Hugging Face folder of a BERT, RoBERTa, ELECTRA or DistilBERT, or "
            f"{DEMO_TEACHER} for the demo's."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of a tokenizer: for mlm without a teacher.")
    ] = None,
    corpus: Annotated[
        str, typer.Option(help="python-docs, text, or a folder of prepare-corpus.")
    ] = "python-docs",
    space: Annotated[
        str, typer.Option(help="What its slices are: kd, mlm, hf-native, or a .toml or .json file.")
    ] = "kd",
    objective: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(OBJECTIVES)}: the teacher's encoder, masked words, the teacher's "
            "classifier too."
        ),
    ] = "kd",
    attention_loss: Annotated[
        str,
        typer.Option(
            help="What is distilled of the attention: scores (equal numbers of heads), relations, "
            "or auto."
        ),
    ] = "auto",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help=f"Time to train instead; default {DEFAULT_MINUTES:g}.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help=f"Weights to start from: {' or '.join(STARTS)}; default the teacher's."),
    ] = None,
    largest: Annotated[
        str | None,
        typer.Option(metavar="L-d-f-h-q", help="Its own shape, with --start random."),
    ] = None,
    depth_rule: Annotated[
        str | None,
        typer.Option(
            help=f"Layers of a shallow slice: {' or '.join(DEPTH_RULES)}; the default is the first "
            "from a teacher, the second from random weights."
        ),
    ] = None,
    channel_order: Annotated[
        str,
        typer.Option(help="From a teacher: channels by importance, or as the teacher has them."),
    ] = "importance",
    sequence_length: Annotated[
        int | None,
        typer.Option(help=f"Most tokens of a sequence; default {DEFAULT_SEQUENCE_LENGTH}."),
    ] = None,
    max_megabytes: Annotated[
        float | None, typer.Option(help="Take no more text than this.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences of a batch.")] = 16,
    batches_per_step: Annotated[
        int, typer.Option(min=1, help="Batches of an optimiser step, in each process.")
    ] = 1,
    shapes_per_batch: Annotated[int, typer.Option(min=1, help="Slices trained on each batch.")] = 4,
    always: Annotated[
        str,
        typer.Option(help=f"Slices in every batch: {', '.join(ALWAYS)} (with the smallest)."),
    ] = "largest",
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Smaller slices learn from the largest.")
    ] = False,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 1e-3,
    precision: Annotated[
        str, typer.Option(help=f"{' or '.join(TRAINING_PRECISIONS)}, of products.")
    ] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    checkpoint_every: Annotated[
        float, typer.Option(min=0, help="Seconds that a crash may cost.")
    ] = CHECKPOINT_EVERY_S,
    seed: Annotated[int, typer.Option(min=0, help="Of shapes and batches.")] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Trains a SuperPLM: one encoder that holds every shape of a space as a slice.

    Interrupted, it goes on from its last checkpoint when the same command is given again.
    On several processes or machines: torchrun -m supernet.training, with the same options.
    """
    del json, version  # the frame around every command reads them
    settings = settings_of(
        steps,
        minutes,
        shapes_per_batch=shapes_per_batch,
        always=always,
        in_place=in_place,
        batches_per_step=batches_per_step,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
    )
    point = starting_point(
        objective=objective,
        teacher=teacher,
        tokenizer=tokenizer,
        space=space,
        start=start,
        largest=largest,
        depth_rule=depth_rule,
        attention_loss=attention_loss,
    )
    ordered = one_of("--channel-order", channel_order, ("importance", "teacher")) == "importance"
    files = read_tokenizer_files(point.source)
    check_tokenizer_files(files, point.config.vocab_size)
    inputs = {"the folder of the teacher": point.source, "the folder of the corpus": Path(corpus)}
    check_apart(out, inputs)
    planned = SupernetRun(
        point=point,
        tokenizer=files,
        ordered=ordered and point.start == "teacher",
        settings=settings,
        batch_size=batch_size,
    )
    text = _Text(corpus, sequence_length, max_megabytes)
    with joined(device) as group:
        claimed = group.first(lambda: _claim(out, planned, text, overwrite=overwrite))
        finished = claimed is not None and claimed.text is None
        if group.agree(float(finished)):
            return _answer(out, group, finished_before=True)
        folder = text.ready_path or out / CORPUS_FOLDER
        tokens = claimed.text.corpus if claimed and claimed.text else load_corpus(folder)
        with progress_line(settings) as on_step:
            planned.train(
                out,
                tokens,
                folder,
                clock_s=time.monotonic,
                on_step=on_step,
                checkpoint_every_s=checkpoint_every,
                group=group,
            )
        if claimed is not None:
            finish(claimed.folder)
        return _answer(out, group)


@dataclass(frozen=True)
class _Text:
    """The options that say what is read."""

    corpus: str
    sequence_length: int | None
    max_megabytes: float | None

    @property
    def ready_path(self) -> Path | None:
        """The corpus's folder, where it is ready."""
        path = Path(self.corpus)
        return path if (path / CORPUS_FILE).exists() else None


@dataclass(frozen=True)
class _Claimed:
    """The output folder, and its text; None if the folder was finished before."""

    folder: OutputFolder
    text: PreparedCorpus | None


def _claim(out: Path, planned: SupernetRun, text: _Text, *, overwrite: bool) -> _Claimed:
    """Reads and checks everything, and only then writes the request and the corpus."""
    point = planned.point
    asked = text.sequence_length
    length = DEFAULT_SEQUENCE_LENGTH if asked is None else asked
    ready = ready_corpus(text.corpus, text.sequence_length, text.max_megabytes)
    check_positions(ready.corpus.sequence_length if ready else length, point.config, point.source)
    request = {
        **planned.request(),
        "corpus": sha256_file(ready.path / CORPUS_FILE) if ready else corpus_identity(text.corpus),
        "sequence_length": ready.corpus.sequence_length if ready else length,
        "max_megabytes": text.max_megabytes,
    }
    files = (SUPERNET_FILE, WEIGHTS_FILE, LOG_FILE)
    folder = OutputFolder.claim(out, "train-supernet", request, files=files, overwrite=overwrite)
    if folder.state == "finished":
        (out / CHECKPOINT_FILE).unlink(missing_ok=True)  # a crash may have left it
        return _Claimed(folder, None)
    made = ready or prepare(
        text.corpus,
        point.source,
        out / CORPUS_FOLDER,
        sequence_length=length,
        max_megabytes=text.max_megabytes,
        overwrite=overwrite and folder.state == "new",
    )
    check_corpus(made.corpus, point.config, planned.tokenizer, point.source)
    # A corpus of the request before would be in the way of this one's, were it interrupted here.
    stale = () if made.finished_before else (*CORPUS_FILES, REQUEST_FILE)
    in_corpus = (f"{CORPUS_FOLDER}/{name}" for name in stale)
    folder.begin((*files, CHECKPOINT_FILE, *TOKENIZER_FILES, *in_corpus))
    made.write()
    return _Claimed(folder, made)


def _answer(out: Path, group: Group, *, finished_before: bool = False) -> Answer:
    """What the first process says; the others say nothing."""
    if not group.is_first:
        raise typer.Exit
    log = {} if finished_before else last_log_row(out)
    return supernet_answer(load_supernet(out), log, finished_before=finished_before)


def finish(folder: OutputFolder) -> None:
    """Marks a folder finished; until then its checkpoint is what a crash would leave."""
    folder.finish()
    (folder.path / CHECKPOINT_FILE).unlink(missing_ok=True)


def train_supernet_main() -> None:
    """Runs `train-supernet`."""
    run(train_supernet, "train-supernet")
