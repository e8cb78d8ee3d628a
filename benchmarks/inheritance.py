"""Does inheriting work? Slices of a SuperPLM against the same shapes trained alone.

    python -m benchmarks.inheritance [SUPERPLM_MINUTES] [MINUTES] [OUT]

A SuperPLM is distilled from the demo's teacher. Each of six shapes is then taken out of it and
scored (`inherited`), trained further for MINUTES (`further`), and trained from random weights for
the same MINUTES, alone (`alone`); `teacher slice` is the shape cut out of the teacher before any
training, and trained for as long. Held-out loss is the distillation loss on text kept for the
search, in units of the teacher's variance. Topic accuracy: see `benchmarks.topics`.

Prints a Markdown table; with OUT also writes it and a figure there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy.stats import spearmanr

from benchmarks.demo_lesson import DemoLesson
from benchmarks.topics import Topics, read_topics
from supernet.architecture import Architecture
from supernet.learner import Learner
from supernet.starting import learner_from_random, learner_from_teacher
from supernet.training import TrainingSettings, TrainingState, shapes_of_batch, train

SHAPES = (
    "5-324-600-12-324",
    "4-312-1200-12-312",
    "4-256-480-12-192",
    "3-384-1536-12-384",
    "2-256-512-12-192",
    "1-192-384-12-180",
)
_BATCH_SIZE = 16


@dataclass(frozen=True)
class Row:
    """What became of a shape: held-out losses and topic accuracies."""

    shape: str
    losses: dict[str, float]
    accuracies: dict[str, float]


def _train(
    learner: Learner, lesson: DemoLesson, minutes: float, shapes: list[Architecture] | None
) -> TrainingState:
    settings = TrainingSettings(minutes=minutes, shapes_per_batch=4 if shapes is None else 1)
    largest = learner.student.config.largest
    space = lesson.space
    state = TrainingState(learner)
    train(
        state,
        lesson.objective,
        lesson.batch_of,
        lambda number: shapes or shapes_of_batch(space, largest, settings, number),
        settings,
        clock_s=time.monotonic,
    )
    return state


def _alone(lesson: DemoLesson, shape: Architecture) -> Learner:
    config = replace(lesson.read.config, largest=shape, depth_rule="first")
    return learner_from_random(config, teacher=lesson.read, seed=0)


def _measure(
    name: str,
    lesson: DemoLesson,
    topics: Topics,
    superplm: Learner,
    untrained: Learner,
    minutes: float,
) -> Row:
    shape = Architecture.parse(name)
    makers: dict[str, Callable[[], Learner]] = {
        "further": lambda: superplm.slice(shape),
        "alone": lambda: _alone(lesson, shape),
        "teacher slice": lambda: untrained.slice(shape),
    }
    losses = {"inherited": lesson.held_out(superplm, shape).loss}
    inherited = superplm.slice(shape)
    accuracies = {"inherited": topics.accuracy(lambda b: inherited.student(*b).last_hidden_state)}
    for how, make in makers.items():
        learner = _train(make(), lesson, minutes, [shape]).learner
        losses[how] = lesson.held_out(learner).loss
        accuracies[how] = topics.accuracy(
            lambda b, learner=learner: learner.student(*b).last_hidden_state  # type: ignore[misc]
        )
    return Row(name, losses, accuracies)


def _table(rows: list[Row]) -> str:
    kinds = ("inherited", "further", "alone", "teacher slice")
    lines = [
        "| shape | inherited | further | alone | teacher slice | topics: inherited | further | "
        "alone | teacher slice |",
        "|---|" + "---|" * 8,
    ]
    for row in rows:
        cells = [f"{row.losses[kind]:.3f}" for kind in kinds]
        cells += [f"{row.accuracies[kind]:.1%}" for kind in kinds]
        lines.append(f"| {row.shape} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(rows: list[Row], path: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    places = np.arange(len(rows))
    for offset, kind in enumerate(("alone", "inherited", "teacher slice", "further")):
        heights = [row.losses[kind] for row in rows]
        axes.bar(places + 0.2 * (offset - 1.5), heights, width=0.2, label=kind)
    axes.set_xticks(places, [row.shape for row in rows], fontsize=7)
    axes.set_ylabel("held-out distillation loss")
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    """Trains everything and prints the table."""
    started_s = time.monotonic()
    superplm_minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    lesson = DemoLesson.prepare(
        batch_size=_BATCH_SIZE, max_characters=12_000_000, sequence_length=64
    )
    topics = read_topics(Path(lesson.read.path))
    teacher = topics.accuracy(lambda b: lesson.objective.teacher.model(*b).last_hidden_state)
    untrained = learner_from_teacher(lesson.read, lesson.batch_of)
    superplm = learner_from_teacher(lesson.read, lesson.batch_of)
    state = _train(superplm, lesson, superplm_minutes, None)
    print(f"SuperPLM: {state.step} steps in {superplm_minutes:g} minutes", flush=True)
    rows = []
    for name in SHAPES:
        rows.append(_measure(name, lesson, topics, superplm, untrained, minutes))
        print(rows[-1], flush=True)
    inherited, further, alone = (
        [row.losses[kind] for row in rows] for kind in ("inherited", "further", "alone")
    )
    text = "\n".join(
        [
            _table(rows),
            "",
            f"Topics: {len(topics.names)} packages, {int(topics.held_out.sum())} held-out texts, "
            f"the teacher {teacher:.1%}, chance {1 / len(topics.names):.1%}.",
            f"Rank correlation (Spearman) of the inherited loss with the loss after further "
            f"training {spearmanr(inherited, further).statistic:.2f}, with that of shapes trained "
            f"alone {spearmanr(inherited, alone).statistic:.2f}.",
            f"SuperPLM {superplm_minutes:g} minutes ({state.step} steps), each shape {minutes:g} "
            f"minutes; {(time.monotonic() - started_s) / 60:.0f} minutes in all.",
        ]
    )
    print(text)
    if len(sys.argv) > 3:
        out = Path(sys.argv[3])
        (out / "inheriting-table.md").write_text(text + "\n", encoding="utf-8")
        _figure(rows, out / "inheriting.png")


if __name__ == "__main__":
    main()
