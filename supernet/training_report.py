"""What the training commands show: a progress line while they run, an answer at the end."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autotinybert.command import Answer
from autotinybert.text_table import text_table
from supernet.student_folder import Student
from supernet.supernet_folder import LOG_FILE, Supernet
from supernet.training import StepReport, TrainingSettings


@contextmanager
def progress_line(settings: TrainingSettings) -> Iterator[Callable[[StepReport], None]]:
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
            bar.update(
                task,
                completed=settings.progress(report.step, report.elapsed_s),
                step=report.step,
                text=progress_text(report),
            )

        yield show


def progress_text(report: StepReport) -> str:
    """Speed, losses and time left after a step."""
    minutes, seconds = divmod(round(report.remaining_s), 60)
    sampled = "" if report.sampled_loss is None else f", sampled {report.sampled_loss:.2f}"
    return (
        f"{report.tokens_per_s:,.0f} tokens/s, loss {report.largest_loss:.2f}{sampled}, "
        f"about {minutes}:{seconds:02d} left"
    )


def last_log_row(folder: Path) -> dict[str, float]:
    """The last row of `training.csv`, by column; empty if there is none."""
    with (folder / LOG_FILE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: float(value) for name, value in rows[-1].items() if value} if rows else {}


def supernet_answer(
    supernet: Supernet, log: Mapping[str, float], *, finished_before: bool = False
) -> Answer:
    """What `train-supernet` says.

    Args:
        supernet: what was trained.
        log: the last row of its log; empty where nothing was trained now.
        finished_before: whether it was there already.
    """
    training: Mapping[str, Any] = supernet.document["training"]
    losses: Mapping[str, float] = training["held_out_losses"]
    config = supernet.model.config
    lines = [
        f"SuperPLM {config.largest}, {config.depth_rule} layers, from {training['start']} "
        f"weights: {_pace(training, log)}",
        text_table(
            ("slice", "held-out loss"),
            [(name, f"{loss:.3f}") for name, loss in losses.items()],
        ),
        _last_line(supernet.folder, finished_before=finished_before),
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


def model_answer(
    out: Path, student: Student, log: Mapping[str, float], *, finished_before: bool = False
) -> Answer:
    """What `train-model` says.

    Args:
        out: the folder of the encoder.
        student: what was trained.
        log: the last row of its log; empty where nothing was trained now.
        finished_before: whether it was there already.
    """
    step = student.history[-1]
    rows = [
        (name, f"{step['held_out_loss_before'][name]:.3f}", f"{loss:.3f}")
        for name, loss in step["held_out_loss"].items()
    ]
    lines = [
        f"{student.architecture}: {_pace(step, log)}",
        text_table(("held-out loss", "before", "after"), rows),
        _last_line(out, finished_before=finished_before),
    ]
    data = {
        "model": str(out),
        "architecture": str(student.architecture),
        **step,
        "tokens_per_s": log.get("tokens_per_s"),
        "finished_before": finished_before,
    }
    return Answer(data, "\n".join(lines))


def _pace(training: Mapping[str, Any], log: Mapping[str, float]) -> str:
    pace = f", {log['tokens_per_s']:,.0f} tokens/s" if log else ""
    return f"{training['steps']} steps in {training['elapsed_s']:.0f} s{pace}"


def _last_line(out: Path, *, finished_before: bool) -> str:
    return f"{out} was trained before; nothing was written" if finished_before else f"wrote {out}"
