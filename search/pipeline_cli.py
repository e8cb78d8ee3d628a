"""`autotinybert`: the whole path, from a teacher and a budget to a verified model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import (
    OutputFolder,
    check_apart,
    read_signed_json,
    whole_file,
    write_signed_json,
)
from profiler.variant_choice import AUTO
from search.constraints import parse_latency
from search.options import BudgetStatisticOption, MaxLatencyOption
from search.searching import METHODS
from search.stages import STAGES_FILE
from search.verification import DEFAULT_MAX_WAIT_S
from search.verification_result import VERIFICATION_FILE
from supernet.variants import GRAPH_VARIANTS

if TYPE_CHECKING:
    from search.candidates import Try
    from search.path_checks import CheckedRequest

_COMMAND = "autotinybert"

REPORT_FILE = "report.html"
OUTCOME_FILE = "outcome.json"

# Of `outcome.json`. 1: the first.
SCHEMA_VERSION = 1


def autotinybert(
    *,
    teacher: Annotated[str, typer.Option(help="Hugging Face BERT folder, or minilm-l6.")],
    target: Annotated[
        str,
        typer.Option(
            help="The device, this machine: cpu-x86 or cpu-arm (gpu-cuda: not tried yet)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of everything.")],
    max_latency: MaxLatencyOption = None,
    speedup: Annotated[
        float | None, typer.Option(help="Budget instead: times as fast as a reference shape.")
    ] = None,
    speedup_reference: Annotated[
        str | None,
        typer.Option(
            metavar="teacher|L-d-f-h-q",
            help="What --speedup counts against; default BERT-base, with --task the teacher.",
        ),
    ] = None,
    budget_statistic: BudgetStatisticOption = "p50",
    corpus: Annotated[
        str, typer.Option(help="python-docs, text, or a folder of prepare-corpus.")
    ] = "python-docs",
    task: Annotated[
        str | None,
        typer.Option(
            help="The teacher is a classifier, and so is the result: csv, sst2, mnli, ... say how "
            "--train and --dev are read."
        ),
    ] = None,
    train: Annotated[
        Path | None, typer.Option(help="With --task: texts to distil on; labels are not needed.")
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="With --task: labelled texts to score on.")
    ] = None,
    max_score_drop: Annotated[
        float | None,
        typer.Option(help="Budget instead: the fastest that scores at most so many points lower."),
    ] = None,
    space: Annotated[
        str, typer.Option(help="kd, mlm, hf-native, or a .toml or .json file.")
    ] = "kd",
    profile: Annotated[
        Path | None, typer.Option(help="A profile of this machine, instead of measuring one.")
    ] = None,
    configs: Annotated[int, typer.Option(min=20, help="Shapes to profile.")] = 60,
    sequence_length: Annotated[
        int | None,
        typer.Option(
            help="Tokens of a run, padding included; default 128, with --task what 95 % of its "
            "texts need."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences of a run.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of a run.")] = 1,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32 or int8, of all that is measured; --speedup counts int8 against int8."
        ),
    ] = "fp32",
    graph_variant: Annotated[
        str,
        typer.Option(help=f"{', '.join(GRAPH_VARIANTS)}; or {AUTO}: the fastest, by measurement."),
    ] = AUTO,
    training_sequence_length: Annotated[
        int | None, typer.Option(help="Most tokens of a training sequence; default 64.")
    ] = None,
    max_megabytes: Annotated[
        float | None, typer.Option(help="Train on no more text than this.")
    ] = None,
    supernet_minutes: Annotated[float, typer.Option(help="Time to train the SuperPLM.")] = 30.0,
    train_minutes: Annotated[float, typer.Option(help="Time to train the winner.")] = 30.0,
    method: Annotated[str, typer.Option(help="Of the search: evolved, random, fast.")] = "evolved",
    evaluations: Annotated[int, typer.Option(min=1, help="Architectures to evaluate.")] = 100,
    shortlist: Annotated[int, typer.Option(min=1, help="How many of the best to measure.")] = 24,
    tries: Annotated[int, typer.Option(min=1, help="Candidates that may be verified.")] = 4,
    max_wait: Annotated[
        float,
        typer.Option(min=0, max=86_400, help="Seconds to wait for a quiet machine, per file."),
    ] = DEFAULT_MAX_WAIT_S,
    seed: Annotated[int, typer.Option(min=0, help="Of everything.")] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Finds, trains and verifies the best small encoder that meets a latency budget here.

    Interrupted, it goes on where it stopped when the same command is given again. Exit code 0: the
    model in OUT/model was measured to meet its budget. Exit code 1: none did, and none is there.
    """
    del json, version  # the frame around every command reads them
    latency_ms = None if max_latency is None else parse_latency(max_latency)
    if method not in METHODS:
        raise InputError(f"no --method {method!r}: use {', '.join(METHODS)}")
    # torch takes seconds to load: a budget without a unit is refused before.
    from search.path_checks import check_request

    checked = check_request(
        teacher=teacher,
        target=target,
        max_latency_ms=latency_ms,
        speedup=speedup,
        speedup_reference=speedup_reference,
        budget_statistic=budget_statistic,
        corpus=corpus,
        task=task,
        train=train,
        dev=dev,
        max_score_drop=max_score_drop,
        space=space,
        profile=profile,
        configs=configs,
        sequence_length=sequence_length,
        batch_size=batch_size,
        threads=threads,
        precision=precision,
        graph_variant=graph_variant,
        training_sequence_length=training_sequence_length,
        max_megabytes=max_megabytes,
        supernet_minutes=supernet_minutes,
        train_minutes=train_minutes,
        method=method,
        evaluations=evaluations,
        shortlist=shortlist,
        tries=tries,
        max_wait=max_wait,
        seed=seed,
    )
    return run_path(out, checked, overwrite=overwrite)


def run_path(
    out: Path,
    checked: CheckedRequest,
    *,
    overwrite: bool = False,
    commands: Mapping[str, Callable[..., Answer]] | None = None,
) -> Answer:
    """Runs a request that was checked, or goes on with it, or says what came of it.

    Args:
        out: the folder of everything.
        checked: the request.
        overwrite: replace what another request left.
        commands: what runs the stages instead of the commands themselves.

    Raises:
        InputError: if the text is wrong, `out` belongs to something else, or nothing is reachable.
        WorkError: if a stage failed.
    """
    from search.candidates import check_model_folder_is_ours, is_handed_out, withdraw
    from search.outcome import outcome_of
    from search.pipeline import COMMANDS, WholePath
    from search.quality import climb
    from search.report import path_report
    from supernet.starting import check_corpus

    inputs = {
        "the folder of the teacher": checked.teacher.path,
        "the corpus": Path(checked.request.corpus),
        "the profile": checked.request.profile,
    }
    check_apart(out, {what: read for what, read in inputs.items() if read is not None})
    files = (REPORT_FILE, OUTCOME_FILE)
    folder = OutputFolder.claim(out, _COMMAND, checked.identity, files=files, overwrite=overwrite)
    if folder.state == "finished":
        data = _read_outcome(out)
        # Without the model that it tells of, it is not finished: it is handed out again.
        if data["model"] is None or is_handed_out(out, data["onnx_sha256"]):
            return _answer(data, finished_before=True)
    check_model_folder_is_ours(out)
    path = WholePath(
        out,
        checked.request,
        clock_s=time.monotonic,
        say=_say,
        fresh=folder.state == "new",
        overwrite=overwrite,
        commands=COMMANDS if commands is None else commands,
    )
    # Whatever is wrong with the text is known before anything is written.
    teacher = checked.teacher
    text = path.read_corpus(teacher.path)
    check_corpus(text, teacher.config, checked.tokenizer, teacher.path)
    if folder.state == "new":
        # The model goes first: one of another budget must not outlive its request.
        withdraw(out)
        for name in (VERIFICATION_FILE, STAGES_FILE):
            (out / name).unlink(missing_ok=True)
    folder.begin(files)
    shown, more = path, {}
    if checked.request.max_score_drop is None:
        tried: Sequence[Try] = path.run()
    else:
        found = climb(path)
        shown, tried = found.best.path, found.tries
        more = {
            "max_score_drop": checked.request.max_score_drop,
            "rungs": [rung.to_json() for rung in found.rungs],
        }
    shown.hand_out(tried)
    with path.stage("report"):
        data = {**outcome_of(shown, tried), **more}
        with whole_file(out / REPORT_FILE) as file:
            file.write(path_report(shown, tried, data))
    data["stages_s"] = dict(path.stages.seconds)
    write_signed_json(
        out / OUTCOME_FILE,
        {"schema_version": SCHEMA_VERSION, "kind": "path-outcome", **data},
    )
    if data["outcome"] != "undecided":
        folder.finish()
    return _answer(data)


def _say(stage: str) -> None:
    """Says on stderr, where that is a terminal, which stage begins."""
    from rich.console import Console

    from search.outcome import STAGE_NAMES

    console = Console(stderr=True)
    if console.is_terminal:
        console.print(f"[bold]{STAGE_NAMES[stage]}[/bold]")


def _read_outcome(out: Path) -> dict[str, Any]:
    return read_signed_json(
        out / OUTCOME_FILE,
        kind="path-outcome",
        schema_version=SCHEMA_VERSION,
        remedy="remove it, and run the same command again",
    )


def _answer(data: Mapping[str, Any], *, finished_before: bool = False) -> Answer:
    from search.outcome import outcome_text

    text = outcome_text(data)
    if finished_before:
        text += "\nall of it was finished before; nothing was done"
    code = 0 if data["outcome"] == "passed" else 1
    return Answer({**data, "finished_before": finished_before}, text, exit_code=code)


def main() -> None:
    """Runs `autotinybert`."""
    run(autotinybert, _COMMAND)


if __name__ == "__main__":
    main()
