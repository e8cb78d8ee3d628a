"""`search-architecture`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, canonical_json, check_apart, sha256_file, sha256_text
from autotinybert.text_table import text_table
from device_profiles.journal import Journal
from device_profiles.machine import (
    EMULATED_REMARK,
    key_differences,
    measurement_key,
    refuse_emulated,
)
from device_profiles.measurements import SLICE_DEFAULTS, rows_of_slice
from predictor.model import LatencyPredictor
from predictor.store import PREDICTOR_FILE, load_predictor
from search.constraints import Budget, parse_latency
from search.evaluation import Evaluation, run_search
from search.options import (
    BatchSizeOption,
    BudgetStatisticOption,
    MaxLatencyOption,
    PrecisionOption,
    SequenceLengthOption,
    ThreadsOption,
)
from search.result import (
    EVALUATIONS_FILE,
    JOURNAL_FILE,
    SEARCH_FILE,
    SEARCH_FILES,
    Candidate,
    SearchResult,
    load_search,
    read_evaluations,
    save_search,
)
from search.searching import (
    DEFAULT_SEQUENCES,
    METHODS,
    choose_slice,
    feasible_under,
    make_searcher,
    searched_space,
)
from supernet.architecture import Architecture
from supernet.published import BERT_BASE
from supernet.space_file import space_document

if TYPE_CHECKING:
    pass

_COMMAND = "search-architecture"

DEFAULT_EVALUATIONS = 100

_SHOWN_CANDIDATES = 5


def search_architecture(
    *,
    supernet: Annotated[Path, typer.Option(help="Folder of train-supernet.")],
    predictor: Annotated[Path, typer.Option(help="Folder of fit-predictor.")],
    out: Annotated[Path, typer.Option(help="Folder of the search.")],
    max_latency: MaxLatencyOption = None,
    speedup: Annotated[
        float | None, typer.Option(help="Budget instead: times as fast as a reference shape.")
    ] = None,
    speedup_reference: Annotated[
        str, typer.Option(metavar="L-d-f-h-q", help="The shape that --speedup counts against.")
    ] = str(BERT_BASE.architecture),
    budget_statistic: BudgetStatisticOption = "p50",
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")] = "evolved",
    evaluations: Annotated[
        int, typer.Option(min=1, help="Architectures to evaluate.")
    ] = DEFAULT_EVALUATIONS,
    space: Annotated[
        str | None,
        typer.Option(help="What is searched: kd, or a .toml or .json; default the SuperPLM's."),
    ] = None,
    sequences: Annotated[
        int, typer.Option(min=1, help="Held-out sequences that an architecture is scored on.")
    ] = DEFAULT_SEQUENCES,
    sequence_length: SequenceLengthOption = None,
    batch_size: BatchSizeOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    graph_variant: Annotated[
        str | None, typer.Option(help="Needed where several were profiled.")
    ] = None,
    other_device: Annotated[
        bool,
        typer.Option("--other-device", help="The budget is for another machine than this one."),
    ] = False,
    allow_unverified: Annotated[
        bool,
        typer.Option(
            "--allow-unverified", help="Accept a predictor of which no machine is known (exit 0)."
        ),
    ] = False,
    allow_emulated: Annotated[
        bool,
        typer.Option("--allow-emulated", help="Accept a predictor fitted to an emulator."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Finds the slice of a SuperPLM with the lowest held-out loss within a latency budget.

    Only architectures whose predicted upper bound meets the budget are ever evaluated.
    Interrupted, it goes on where it stopped when the same command is given again.
    """
    del json, version  # the frame around every command reads them
    budget = Budget(
        statistic=budget_statistic,
        max_latency_ms=None if max_latency is None else parse_latency(max_latency),
        min_speedup=speedup,
        speedup_reference=Architecture.parse(speedup_reference),
    )
    if method not in METHODS:
        raise InputError(f"no --method {method!r}: use {', '.join(METHODS)}")
    loaded = load_predictor(predictor)
    if loaded.key is not None and not allow_emulated:
        refuse_emulated(loaded.key, predictor, allow="--allow-emulated")
    _check_machine(loaded, predictor, other_device=other_device)
    part = choose_slice(
        loaded,
        {
            "sequence_length": sequence_length,
            "batch_size": batch_size,
            "threads": threads,
            "precision": precision,
            "graph_variant": graph_variant,
        },
    )
    limit_ms = budget.limit_ms(rows_of_slice(loaded.references, part.slice))
    part.calibration(budget.statistic)  # refuses a statistic that was not measured
    check_apart(out, {"what is searched": supernet, "what is searched with": predictor})
    # torch takes seconds to load: what it is not needed for was checked before.
    from search.fitness import slice_fitness
    from supernet.distillation import check_comparable
    from supernet.supernet_folder import load_supernet

    trained = load_supernet(supernet)
    searched = searched_space(trained, space)
    request = {
        "supernet": trained.sha256,
        "predictor": sha256_file(predictor / PREDICTOR_FILE),
        "budget": budget.to_json(),
        "slice": list(part.slice),
        "method": method,
        "space": sha256_text(canonical_json(space_document(searched))),
        "sequences": sequences,
        "evaluations": evaluations,
        "seed": seed,
    }
    folder = OutputFolder.claim(out, _COMMAND, request, files=SEARCH_FILES, overwrite=overwrite)
    if folder.state == "finished":
        return _answer(
            out, load_search(out), allow_unverified=allow_unverified, finished_before=True
        )
    check_comparable(trained.origin.objective, searched, trained.origin.read_teacher())
    feasible = feasible_under(method, searched, part, budget, limit_ms)
    fitness = slice_fitness(trained, sequences=sequences)
    folder.create()
    with Journal(out / JOURNAL_FILE, fresh=folder.state == "new") as journal:
        folder.begin((SEARCH_FILE, EVALUATIONS_FILE))
        known = read_evaluations(journal)
        with _progress_bar(evaluations, known) as on_evaluation:

            def record(evaluation: Evaluation) -> None:
                journal.append({"kind": "evaluation", **evaluation.to_json()})
                on_evaluation(evaluation)

            proposed, stopped = run_search(
                make_searcher(method, feasible, seed=seed),
                fitness,
                known,
                evaluations=evaluations,
                on_evaluation=record,
            )
        facts = {
            "method": method,
            "seed": seed,
            "budget": budget.to_json(),
            "budget_text": budget.describe(),
            "space": searched.name,
            "space_size": searched.size,
            "feasible": len(feasible),
            "unpredicted": feasible.unpredicted,
            "lowest": str(feasible.lowest),
            "lowest_ms": feasible.lowest_ms,
            "slice": dict(zip(SLICE_DEFAULTS, part.slice, strict=True)),
            "sequences": sequences,
            "stopped": stopped,
            "elapsed_s": round(sum(found.seconds for found in proposed), 2),
            "unverified": loaded.key is None,
            "emulated": loaded.emulated,
            "supernet_sha256": trained.sha256,
            "predictor_sha256": request["predictor"],
        }
        candidates = [
            Candidate(found, *feasible.predicted_ms(found.architecture)) for found in proposed
        ]
        result = SearchResult(candidates, limit_ms, budget.statistic, facts)
        save_search(out, result)
        folder.finish()
    return _answer(out, result, allow_unverified=allow_unverified)


def _check_machine(predictor: LatencyPredictor, path: Path, *, other_device: bool) -> None:
    """Refuses a predictor of another machine, unless that is what is wanted."""
    if predictor.key is None or other_device:
        return
    from profiler.host import facts_as_of

    here = facts_as_of(predictor.key, predictor.target)
    differences = key_differences(predictor.key, measurement_key(here))
    if differences:
        raise InputError(
            f"{path} was made for another machine than this one ({'; '.join(differences)}): "
            "profile this machine, or say --other-device if the model is to run on that one"
        )


@contextmanager
def _progress_bar(
    evaluations: int, known: dict[Architecture, Evaluation]
) -> Iterator[Callable[[Evaluation], None]]:
    """A progress line on stderr, where that is a terminal; it begins with what is known."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("architectures, lowest loss {task.fields[best]}"),
        console=console,
    ) as bar:
        task = bar.add_task("", total=evaluations, best="?")
        best = float("inf")

        def show(evaluation: Evaluation) -> None:
            nonlocal best
            best = min(best, evaluation.score.loss)
            bar.update(task, advance=1, best=f"{best:.3f}")

        for evaluation in known.values():
            show(evaluation)
        yield show


def _answer(
    out: Path, result: SearchResult, *, allow_unverified: bool, finished_before: bool = False
) -> Answer:
    """What the command says about a finished search."""
    # A result of before emulated machines were told apart has no word on it.
    facts, ranked = {"emulated": False, **result.facts}, result.ranked()
    rows = [
        (found.architecture, f"{found.loss:.3f}", f"{found.latency_ms:.2f}", f"{found.high_ms:.2f}")
        for found in ranked[:_SHOWN_CANDIDATES]
    ]
    best = ranked[0]
    unused = 1 - best.high_ms / result.limit_ms
    lines = [
        f"{facts['feasible']:,} of {facts['space_size']:,} architectures of space "
        f"{facts['space']} meet {facts['budget_text']}",
        text_table(
            ("best found", "held-out loss", f"{result.statistic} ms", "at most (95 %)"), rows
        ),
        f"{facts['method']}: {len(result.candidates)} evaluated in {facts['elapsed_s']:.0f} s; "
        f"stopped: {facts['stopped']}; the best leaves {unused:.1%} of the budget unused",
    ]
    if facts["unverified"]:
        lines.append(
            "unverified: the predictor was fitted to a bare CSV file, of which no machine is known;"
            " measure the model with verify-model, or accept it with --allow-unverified"
        )
    if facts["emulated"]:
        lines.append(EMULATED_REMARK)
    lines.append(
        f"{out} was searched before; nothing was written" if finished_before else f"wrote {out}"
    )
    data = {
        "search": str(out),
        "best": str(best.architecture),
        "held_out_loss": best.loss,
        "predicted_ms": best.latency_ms,
        "predicted_high_ms": best.high_ms,
        "limit_ms": result.limit_ms,
        "statistic": result.statistic,
        **facts,
        "evaluations": len(result.candidates),
        "finished_before": finished_before,
    }
    refused = facts["unverified"] and not allow_unverified
    return Answer(data, "\n".join(lines), exit_code=1 if refused else 0)


def main() -> None:
    """Runs `search-architecture`."""
    run(search_architecture, _COMMAND)
