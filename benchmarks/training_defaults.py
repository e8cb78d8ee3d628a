"""How a SuperPLM should be trained: every option against the default, for the same time.

    python -m benchmarks.training_defaults [SECONDS] [VARIANT ...]

All start from the demo's teacher and see the same batches in the same order; each is trained for
the same time, alone on the machine, with its learning rate following the clock. Printed is the
held-out loss of twelve fixed slices (geometric mean, in units of the teacher's variance) and of the
largest, with the steps that the time was enough for.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.demo_lesson import DemoLesson
from supernet.elastic import DepthRule
from supernet.starting import learner_from_teacher
from supernet.training import TrainingSettings, TrainingState, shapes_of_batch, train

_BATCH_SIZE = 16


@dataclass(frozen=True)
class Variant:
    """An option that differs from the default.

    Attributes:
        depth_rule: how shallower slices choose layers.
        ordered: important channels first.
        settings: of `TrainingSettings`.
    """

    depth_rule: DepthRule = "evenly-spaced"
    ordered: bool = True
    settings: tuple[tuple[str, Any], ...] = ()


def _set(**settings: object) -> Variant:
    return Variant(settings=tuple(settings.items()))


VARIANTS: dict[str, Variant] = {
    "default": Variant(),
    "first layers": Variant(depth_rule="first"),
    "channels as the teacher has them": Variant(ordered=False),
    "sandwich rule": _set(always="sandwich"),
    "nothing always there": _set(always="none"),
    "in-place distillation": _set(in_place=True),
    "sandwich and in-place": _set(always="sandwich", in_place=True),
    "2 shapes a batch": _set(shapes_per_batch=2),
    "8 shapes a batch": _set(shapes_per_batch=8),
    "2 batches a step": _set(batches_per_step=2),
    "learning rate 5e-4": _set(learning_rate=5e-4),
}


def main() -> None:
    """Prints a row for each variant."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    names = sys.argv[2:] or list(VARIANTS)
    lesson = DemoLesson.prepare(
        batch_size=_BATCH_SIZE, max_characters=4_000_000, sequence_length=64
    )
    print(f"{seconds:g} s each, batches of {_BATCH_SIZE} x 64 tokens")
    print(f"{'':<34}{'12 slices':>10}{'largest':>9}{'steps':>7}")
    for name in names:
        variant = VARIANTS[name]
        settings = TrainingSettings(minutes=seconds / 60, **dict(variant.settings))
        learner = learner_from_teacher(
            lesson.read,
            lesson.batch_of,
            depth_rule=variant.depth_rule,
            ordered=variant.ordered,
        )
        state = TrainingState(learner)
        train(
            state,
            lesson.objective,
            lesson.batch_of,
            lambda number, settings=settings: shapes_of_batch(  # type: ignore[misc]
                lesson.space, lesson.read.config.largest, settings, number
            ),
            settings,
            clock_s=time.monotonic,
        )
        largest = lesson.held_out(learner).loss
        print(
            f"{name:<34}{lesson.mean_loss(learner):>10.3f}{largest:>9.3f}{state.step:>7}",
            flush=True,
        )


if __name__ == "__main__":
    main()
