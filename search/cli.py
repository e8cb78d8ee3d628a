"""`verify-model`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, check_apart
from autotinybert.text_table import text_table
from device_profiles.journal import Journal
from device_profiles.profile import DeviceProfile
from search.constraints import Budget, parse_latency
from search.exported_model import ExportedModel
from search.file_score import SCORE_FILE, score_text
from search.options import (
    BatchSizeOption,
    BudgetStatisticOption,
    MaxLatencyOption,
    SequenceLengthOption,
    ThreadsOption,
)
from search.verification import (
    DEFAULT_MAX_WAIT_S,
    JOURNAL_FILE,
    ModelWorker,
    Progress,
    check_this_machine,
    local_worker,
    run_verification,
)
from search.verification_plan import VerificationPlan, choose_slice
from search.verification_result import VERIFICATION_FILE, Verification
from supernet.architecture import Architecture
from supernet.published import BERT_BASE

if TYPE_CHECKING:
    from search.file_scorer import FileScorer

_VERIFY = "verify-model"


def verify_model(
    *,
    model: Annotated[Path, typer.Option(help="Model folder: model.onnx and config.json.")],
    profile: Annotated[Path, typer.Option(help="Device profile of this machine.")],
    out: Annotated[Path, typer.Option(help="Folder of the verification.")],
    max_latency: MaxLatencyOption = None,
    speedup: Annotated[
        float | None, typer.Option(help="Budget: times as fast as the reference beside it.")
    ] = None,
    speedup_reference: Annotated[
        str, typer.Option(metavar="L-d-f-h-q", help="The shape that --speedup counts against.")
    ] = str(BERT_BASE.architecture),
    budget_statistic: BudgetStatisticOption = "p50",
    sequence_length: SequenceLengthOption = None,
    batch_size: BatchSizeOption = None,
    threads: ThreadsOption = None,
    score_with: Annotated[
        Path | None,
        typer.Option(help="The encoder's folder: score the file on its held-out text, too."),
    ] = None,
    max_wait: Annotated[
        float,
        typer.Option(min=0, max=86_400, help="Seconds to wait for a quiet machine, in all."),
    ] = DEFAULT_MAX_WAIT_S,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of the visits.")] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Measures an exported model on this machine, and says whether it meets its budget.

    Exit code 0 if it does; 1 if it does not, or if the machine did not let it be told. A file that
    passed or failed is not measured again. Precision and graph variant are the file's own.
    """
    del json, version  # the frame around every command reads them
    budget = Budget(
        statistic=budget_statistic,
        max_latency_ms=None if max_latency is None else parse_latency(max_latency),
        min_speedup=speedup,
        speedup_reference=Architecture.parse(speedup_reference),
    )
    inputs = {"the model's own folder": model, "the profile": profile}
    if score_with is not None:
        inputs["the encoder's own folder"] = score_with
    check_apart(out, inputs)
    exported = ExportedModel.read(model)
    loaded = DeviceProfile.load(profile)
    workload, target = choose_slice(
        loaded,
        graph_variant=exported.graph_variant,
        precision=exported.precision,
        sequence_length=sequence_length,
        batch_size=batch_size,
        threads=threads,
    )
    plan = VerificationPlan.make(
        exported, loaded, budget, workload=workload, target=target, seed=seed
    )
    scorer = None if score_with is None else prepare_score(exported, score_with)
    answer = verify_into(
        out,
        plan,
        local_worker(plan),
        clock_s=time.monotonic,
        sleep_s=time.sleep,
        max_wait_s=max_wait,
        overwrite=overwrite,
    )
    return answer if scorer is None else scored(answer, out, scorer)


def verify_into(
    out: Path,
    plan: VerificationPlan,
    open_worker: Callable[[], ModelWorker],
    *,
    clock_s: Callable[[], float],
    sleep_s: Callable[[float], None],
    max_wait_s: float,
    overwrite: bool = False,
) -> Answer:
    """Verifies a file into an output folder; one that has its verdict is not measured again.

    Raises:
        InputError: if the folder is another request's, or the machine is not the profile's; then
            nothing is measured or written.
    """
    folder = _claim(out, plan, overwrite=overwrite)
    journalled = out / JOURNAL_FILE
    # Without its journal a verdict is nobody's: the file is measured, not believed.
    finished = folder.state == "finished" and journalled.stat().st_size > 0
    if not finished:
        check_this_machine(plan, open_worker)
    folder.create()
    with (
        Journal(out / JOURNAL_FILE, fresh=folder.state == "new") as journal,
        _progress_bar() as on_progress,
    ):
        if not finished:
            folder.begin([VERIFICATION_FILE, SCORE_FILE])
        verification = run_verification(
            plan,
            journal,
            open_worker,
            clock_s=clock_s,
            sleep_s=sleep_s,
            max_wait_s=max_wait_s,
            on_progress=on_progress,
        )
        if not finished:
            verification.save(out / VERIFICATION_FILE)
            # What is undecided goes on when the same command is given again.
            if verification.outcome != "undecided":
                folder.finish()
    return _verification_answer(out, verification, finished_before=finished)


def prepare_score(exported: ExportedModel, score_with: Path) -> FileScorer:
    """What `--score-with` needs, read and checked before anything is measured."""
    # torch takes seconds to load, and measuring does without it.
    from search.file_scorer import FileScorer

    return FileScorer.prepare(exported, score_with)


def scored(answer: Answer, out: Path, scorer: FileScorer) -> Answer:
    """What the command says, with the file's held-out loss; the verdict is the latency's."""
    score = scorer.score_into(out)
    return Answer(
        {**answer.data, "held_out": score["splits"]},
        f"{answer.text}\n{score_text(score)}",
        exit_code=answer.exit_code,
    )


def _claim(out: Path, plan: VerificationPlan, *, overwrite: bool) -> OutputFolder:
    request = {"model_sha256": plan.model.sha256, **plan.to_json()}
    files = (VERIFICATION_FILE, JOURNAL_FILE)
    try:
        return OutputFolder.claim(out, _VERIFY, request, files=files)
    except InputError:
        # Only another request's verdict is overwritten: the same file has one try.
        return OutputFolder.claim(out, _VERIFY, request, files=files, overwrite=overwrite)


@contextmanager
def _progress_bar() -> Iterator[Callable[[Progress], None]]:
    """A progress line on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    # No refresh thread: it would wake up while the child is being timed.
    with Bar(
        TextColumn("try {task.fields[number]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rounds{task.fields[waiting]}"),
        console=console,
        auto_refresh=False,
    ) as bar:
        task = bar.add_task("", total=None, number=1, waiting="")

        def show(progress: Progress) -> None:
            waiting = f", waiting {progress.waiting_s:.0f} s for a quieter machine"
            bar.update(
                task,
                completed=progress.rounds_counted,
                total=progress.rounds_needed,
                number=progress.try_number,
                waiting=waiting if progress.waiting_s else "",
                refresh=True,
            )

        yield show


def _verification_answer(out: Path, verification: Verification, *, finished_before: bool) -> Answer:
    """What the command says about a verification."""
    plan = verification.plan
    document = verification.to_json()
    del document["tries"]  # every visit: they are in the file
    rows: list[tuple[Any, ...]] = [
        (
            f"{plan.model.architecture} (the file), {plan.budget.statistic}",
            _figure(verification.measured_ms),
            _figure(verification.upper_ms),
            None,
            None,
        )
    ]
    for check in verification.references:
        profiled_ms = check.reference.profile_ms[check.statistic]
        ratio = check.ratio
        rows.append(
            (
                f"{check.reference.name}, {check.statistic}",
                _figure(check.measured_ms[check.statistic]),
                None,
                _figure(profiled_ms),
                None if ratio is None else f"{ratio - 1:+.1%}",
            )
        )
    header = ("", "ms here", "at most (95 %)", "ms in the profile", "apart")
    lines = [
        text_table(header, rows),
        f"{verification.outcome}: {verification.reason}",
        f"{out} had its verdict before; nothing was measured"
        if finished_before
        else f"{document['visits']} visits in {verification.elapsed_s:.0f} s; wrote {out}",
    ]
    data = {"verification": str(out), **document, "finished_before": finished_before}
    return Answer(data, "\n".join(lines), exit_code=0 if verification.passed else 1)


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def verify_model_main() -> None:
    """Runs `verify-model`."""
    run(verify_model, _VERIFY)
