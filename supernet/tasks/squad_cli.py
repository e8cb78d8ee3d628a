"""The SQuAD part of `finetune-model`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotinybert.command import Answer
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, sha256_bytes, sha256_file
from autotinybert.text_table import text_table
from supernet.encoder import ENCODER_FILE, ENCODER_FILES, load_encoder
from supernet.tasks.finetune_results import RESULTS_FILE
from supernet.tasks.span_decoding import SQUAD_FILES
from supernet.tasks.squad import read_squad
from supernet.tokenizer import load_tokenizer
from supernet.tokenizer_files import (
    TOKENIZER_FILES,
    check_tokenizer_files,
    read_tokenizer_files,
    write_tokenizer_files,
)

if TYPE_CHECKING:
    from supernet.tasks.squad_job import SquadRun

# Official files of each version, in the folder that --data names.
_OFFICIAL = {
    "squad": ("train-v1.1.json", "dev-v1.1.json"),
    "squad2": ("train-v2.0.json", "dev-v2.0.json"),
}
SQUAD_TASKS = tuple(_OFFICIAL)

# The published code fine-tunes SQuAD for four epochs at 3e-5 in batches of 16.
_PAPER: dict[str, Sequence[Any]] = {
    "epochs": (4,),
    "batch_size": (16, 32),
    "learning_rate": (1e-5, 2e-5, 3e-5),
}
_DEFAULTS: dict[str, Sequence[Any]] = {
    "epochs": (3,),
    "batch_size": (16,),
    "learning_rate": (5e-5,),
}


@dataclass(frozen=True, kw_only=True)
class SquadOptions:
    """What is typed for SQuAD.

    Attributes:
        task: `squad` or `squad2`.
        data: the official folder, or None.
        train: the official file to learn from, or None.
        dev: the one to answer, or None.
        grid: `paper`, or None.
        tried: values of epochs, batch size and learning rate; None for the default.
        seeds: runs of every combination.
        sequence_length: most tokens of a window; None for the default.
        doc_stride: tokens from a window to the next.
        max_query_length: most tokens of a question.
        n_best: answers that are kept of a question.
        max_answer_length: most tokens of an answer.
        null_threshold: how much higher "no answer" must score.
    """

    task: str
    data: Path | None
    train: Path | None
    dev: Path | None
    grid: str | None
    tried: dict[str, Sequence[Any] | None]
    seeds: int
    sequence_length: int | None
    doc_stride: int
    max_query_length: int
    n_best: int
    max_answer_length: int
    null_threshold: float

    def files(self) -> tuple[Path, Path]:
        """The files to learn from and to answer.

        Raises:
            InputError: if they are not named, or named twice.
        """
        if self.data is not None:
            if self.train is not None or self.dev is not None:
                raise InputError("--data names the folder of all files: leave --train, --dev out")
            train, dev = (self.data / name for name in _OFFICIAL[self.task])
            return train, dev
        if self.train is None or self.dev is None:
            names = " and ".join(_OFFICIAL[self.task])
            raise InputError(
                f"--task {self.task} needs --data FOLDER with {names}, or --train FILE and "
                "--dev FILE"
            )
        return self.train, self.dev


def finetune_on_squad(
    model: Path, out: Path, options: SquadOptions, *, device: str, overwrite: bool
) -> Answer:
    """Fine-tunes an encoder on SQuAD; see `finetune-model`.

    Raises:
        InputError: if an option or a file is wrong, or `out` belongs to something else.
        WorkError: if a loss is no finite number any more.
    """
    train, dev = options.files()
    encoder, extra = load_encoder(model)
    tokenizer_files = read_tokenizer_files(model)
    check_tokenizer_files(tokenizer_files, encoder.vocab_size)
    for path in (train, dev):
        read_squad(path)
    # torch takes seconds to load, and what is wrong is said before.
    from supernet.distributed import joined
    from supernet.tasks.squad_job import SquadJob, load_runs

    tried = _tried(options, encoder.max_positions)
    request = {
        "model": sha256_file(model / ENCODER_FILE),
        "tokenizer": {name: sha256_bytes(found) for name, found in tokenizer_files.items()},
        "task": options.task,
        "train": sha256_file(train),
        "dev": sha256_file(dev),
        "tried": [[settings.to_json(), seed] for settings, seed in tried],
    }
    written = (*ENCODER_FILES, RESULTS_FILE, *tokenizer_files, *SQUAD_FILES[:2])
    folder = OutputFolder.claim(out, "finetune-model", request, files=written, overwrite=overwrite)
    if folder.state == "finished":
        load_encoder(out)  # refuses what was damaged since
        return _answer(out, load_runs(out), finished_before=True)
    with joined(device) as group:
        if group.size > 1:
            raise InputError("finetune-model runs in one process: start it without torchrun")
        if folder.state == "new":
            folder.begin((*ENCODER_FILES, RESULTS_FILE, *TOKENIZER_FILES, *SQUAD_FILES))
        write_tokenizer_files(out, tokenizer_files)
        tokenizer = load_tokenizer(model)
        job = SquadJob(out, encoder, extra, tokenizer, train=train, dev=dev, group=group)
        runs = job.try_all(tried)
    folder.finish()
    return _answer(out, runs)


def _tried(options: SquadOptions, max_positions: int) -> list[tuple[Any, int]]:
    from supernet.tasks.span_decoding import DecodingSettings
    from supernet.tasks.span_finetuning import SpanTraining
    from supernet.tasks.squad_features import FeatureSettings
    from supernet.tasks.squad_finetuning import SquadSettings

    if options.grid not in (None, "paper"):
        raise InputError(f"no --grid {options.grid!r}: use paper")
    named = [name for name, values in options.tried.items() if values]
    if options.grid is not None and named:
        raise InputError(
            "--grid says epochs, batch sizes and learning rates: leave these options out"
        )
    length = options.sequence_length or FeatureSettings.sequence_length
    if length > max_positions:
        raise InputError(
            f"--sequence-length {length}: the encoder has {max_positions} positions; choose fewer"
        )
    values = _PAPER if options.grid else {**_DEFAULTS, **{n: options.tried[n] for n in named}}
    features = FeatureSettings(
        sequence_length=length,
        doc_stride=options.doc_stride,
        max_query_length=options.max_query_length,
    )
    decoding = DecodingSettings(
        n_best_size=options.n_best,
        max_answer_length=options.max_answer_length,
        null_threshold=options.null_threshold,
    )
    points = itertools.product(*(values[name] or () for name in _DEFAULTS))
    return [
        (
            SquadSettings(
                features=features,
                training=SpanTraining(**dict(zip(_DEFAULTS, point, strict=True))),
                decoding=decoding,
            ),
            seed,
        )
        for point in points
        for seed in range(options.seeds)
    ]


def _answer(out: Path, runs: Sequence[SquadRun], *, finished_before: bool = False) -> Answer:
    from supernet.tasks.squad_job import best_of

    rows = []
    for run in runs:
        training, metrics = run.settings["training"], run.results["metrics"]
        exact = metrics["exact" if "exact" in metrics else "exact_match"]
        rows.append(
            (
                *(f"{training[name]:g}" for name in _DEFAULTS),
                str(run.seed),
                f"{exact:.2f}",
                f"{metrics['f1']:.2f}",
            )
        )
    best = best_of(runs)
    header = ("epochs", "batch size", "learning rate", "seed", "exact", "F1")
    last = (
        f"{out} was fine-tuned before; nothing was written" if finished_before else f"wrote {out}"
    )
    data = {
        "model": str(out),
        "metrics": dict(best.results["metrics"]),
        "version": best.results["version"],
        "left_out_questions": best.results["left_out_questions"],
        "runs": len(runs),
        "finished_before": finished_before,
    }
    return Answer(data, "\n".join([text_table(header, rows), last]))
