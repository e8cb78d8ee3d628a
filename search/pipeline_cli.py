"""`autotinybert`: the whole path, from a teacher and a budget to a verified model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import (
    OutputFolder,
    read_signed_json,
    sha256_file,
    whole_file,
    write_signed_json,
)
from device_profiles.machine import key_differences, measurement_key
from device_profiles.profile import PROFILE_FILE, DeviceProfile
from device_profiles.target import Target, Workload, check_target
from profiler.host import host_facts
from search.constraints import BUDGET_STATISTICS, Budget, parse_latency
from search.search_cli import METHODS
from supernet.architecture import Architecture
from supernet.published import BERT_BASE
from supernet.space_file import load_space, space_document
from supernet.variants import GRAPH_VARIANTS

_COMMAND = "autotinybert"

REPORT_FILE = "report.html"
OUTCOME_FILE = "outcome.json"

# Of `outcome.json`. 1: the first.
SCHEMA_VERSION = 1


def autotinybert(
    *,
    teacher: Annotated[str, typer.Option(help="Hugging Face BERT folder, or minilm-l6.")],
    target: Annotated[str, typer.Option(help="The device: cpu-x86 or cpu-arm; this machine.")],
    out: Annotated[Path, typer.Option(help="Folder of everything.")],
    max_latency: Annotated[
        str | None, typer.Option(help="Budget with its unit: 12ms, 800us, 0.5s.")
    ] = None,
    speedup: Annotated[
        float | None, typer.Option(help="Budget instead: times as fast as a reference shape.")
    ] = None,
    speedup_reference: Annotated[
        str,
        typer.Option(
            metavar="teacher|L-d-f-h-q", help="What --speedup counts against; default BERT-base."
        ),
    ] = str(BERT_BASE.architecture),
    budget_statistic: Annotated[
        str, typer.Option(help=f"Of the latency: {', '.join(BUDGET_STATISTICS)}.")
    ] = "p50",
    corpus: Annotated[
        str, typer.Option(help="python-docs, a text file, or a folder of prepare-corpus.")
    ] = "python-docs",
    space: Annotated[str, typer.Option(help="kd, or a .toml or .json file.")] = "kd",
    profile: Annotated[
        Path | None, typer.Option(help="A profile of this machine, instead of measuring one.")
    ] = None,
    configs: Annotated[int, typer.Option(min=20, help="Shapes to profile.")] = 60,
    sequence_length: Annotated[int, typer.Option(help="Tokens of a run, padding included.")] = 128,
    batch_size: Annotated[int, typer.Option(help="Sequences of a run.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of a run.")] = 1,
    graph_variant: Annotated[str, typer.Option(help=f"{', '.join(GRAPH_VARIANTS)}.")] = "plain",
    training_sequence_length: Annotated[
        int, typer.Option(help="Most tokens of a training sequence.")
    ] = 64,
    max_megabytes: Annotated[
        float | None, typer.Option(help="Train on no more text than this.")
    ] = None,
    supernet_minutes: Annotated[float, typer.Option(help="Time to train the SuperPLM.")] = 30.0,
    train_minutes: Annotated[float, typer.Option(help="Time to train the winner.")] = 30.0,
    method: Annotated[str, typer.Option(help="Of the search: evolved, random, fast.")] = "evolved",
    evaluations: Annotated[int, typer.Option(min=1, help="Architectures to evaluate.")] = 100,
    shortlist: Annotated[int, typer.Option(min=1, help="How many of the best to measure.")] = 24,
    tries: Annotated[int, typer.Option(min=1, help="Candidates that may be verified.")] = 4,
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
    from search.pipeline import PathRequest, WholePath
    from supernet.demo_teacher import teacher_folder
    from supernet.distilling import check_corpus, check_positions
    from supernet.huggingface import read_bert_folder
    from supernet.objectives import check_heads
    from supernet.tokenizer_files import check_tokenizer_files, read_tokenizer_files
    from supernet.training import TrainingSettings

    Workload(batch_size, sequence_length)
    Target(threads=threads, graph_variant=graph_variant)  # type: ignore[arg-type] # checked there
    for minutes in (supernet_minutes, train_minutes):
        TrainingSettings(minutes=minutes)
    read = read_bert_folder(teacher_folder(teacher))
    tokenizer = read_tokenizer_files(read.path)
    check_tokenizer_files(tokenizer, read.config.vocab_size)
    check_positions(training_sequence_length, read)
    largest = read.config.largest
    budget = Budget(
        statistic=budget_statistic,
        max_latency_ms=latency_ms,
        min_speedup=speedup,
        speedup_reference=(
            largest if speedup_reference == "teacher" else Architecture.parse(speedup_reference)
        ),
    )
    chosen = load_space(space).clipped(largest)
    check_heads(chosen, largest)
    host = host_facts()
    check_target(target, host)
    if profile is not None:
        _check_profile(DeviceProfile.load(profile), profile, host)
    request = PathRequest(
        teacher=teacher,
        largest=largest,
        target=target,
        budget=budget,
        corpus=corpus,
        space=space,
        profile=profile,
        configs=configs,
        sequence_length=sequence_length,
        batch_size=batch_size,
        threads=threads,
        graph_variant=graph_variant,
        training_sequence_length=training_sequence_length,
        max_megabytes=max_megabytes,
        supernet_minutes=supernet_minutes,
        train_minutes=train_minutes,
        method=method,
        evaluations=evaluations,
        shortlist=shortlist,
        tries=tries,
        seed=seed,
    )
    identity = {
        **request.to_json(),
        "teacher": read.sha256,
        "space": space_document(chosen),
        "profile": None if profile is None else sha256_file(profile / PROFILE_FILE),
    }
    files = (REPORT_FILE, OUTCOME_FILE)
    folder = OutputFolder.claim(out, _COMMAND, identity, files=files, overwrite=overwrite)
    if folder.state == "finished":
        return _answer(_read_outcome(out), finished_before=True)
    path = WholePath(out, request, clock_s=time.monotonic, say=_say, overwrite=overwrite)
    # Whatever is wrong with the text is known before anything is written.
    check_corpus(path.read_corpus(read.path), read, tokenizer)
    folder.begin(files)
    tried = path.run()
    from search.outcome import outcome_of
    from search.report import path_report

    with path.stage("report"):
        data = outcome_of(path, tried)
        with whole_file(out / REPORT_FILE) as file:
            file.write(path_report(path, tried, data))
    data["stages_s"] = dict(path.stages.seconds)
    write_signed_json(
        out / OUTCOME_FILE,
        {"schema_version": SCHEMA_VERSION, "kind": "path-outcome", **data},
    )
    if data["outcome"] == "passed":
        folder.finish()
    return _answer(data)


def _check_profile(profile: DeviceProfile, path: Path, host: Mapping[str, Any]) -> None:
    """Refuses a profile of another machine: what it says does not hold here.

    Raises:
        InputError: naming the fields of the measurement key that differ.
    """
    differences = key_differences(profile.key, measurement_key(host))
    if differences:
        raise InputError(
            f"{path} was measured on another machine or build ({'; '.join(differences)}): leave "
            "--profile out to measure this one"
        )


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
