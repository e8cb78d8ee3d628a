"""Training against the published loop, re-created: tokens a second, and time to the same loss.

    python -m benchmarks.training_speed throughput
    python -m benchmarks.training_speed loss [SECONDS]

`throughput`: a SuperPLM at paper scale (8-768-3072-12-768), batches of 16 x 128 tokens, a teacher
of MiniLM's size, four shapes for each optimiser step in both; rounds interleaved, tokens times shapes.

`loss`: from the demo's teacher, the published loop (one shape a step, first layers, channels as the
teacher has them) is trained for SECONDS; ours until its twelve fixed slices score what those of the
published loop score in the end. Both follow the same triangle of learning rates over the time that
they are given: ours is given half.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.demo_lesson import DemoLesson
from benchmarks.interleaved import interleaved_ms, ratio_summary
from benchmarks.published_loop import PublishedLoop
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.distillation import Distillation, Teacher
from supernet.learner import Learner, random_projection
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.objectives import ObjectiveSpec
from supernet.space import kd_space
from supernet.starting import learner_from_teacher
from supernet.training import TrainingSettings, TrainingState, shapes_of_batch, train

PAPER = Architecture(8, 768, 3072, 12, 768)
MINILM = Architecture(6, 384, 1536, 12, 384)
_SHAPES_PER_STEP = 4


def _random(largest: Architecture, seed: int) -> SuperPLM:
    model = SuperPLM(SuperPLMConfig(largest=largest, depth_rule="first"))
    model.initialise(torch.Generator().manual_seed(seed))
    return model


def _one_step(
    state: TrainingState, objective: Distillation, batch: Batch, shapes: list[Architecture]
) -> Callable[[], None]:
    """One more optimiser step of ours."""

    def step() -> None:
        settings = TrainingSettings(steps=state.step + 1, shapes_per_batch=len(shapes))
        clock = iter(np.arange(10.0))
        train(
            state,
            objective,
            lambda _: batch,
            lambda _: shapes,
            settings,
            clock_s=lambda: float(next(clock)),
        )

    return step


def throughput(rounds: int = 6) -> None:
    """Prints tokens times shapes a second of both, and their ratio."""
    torch.manual_seed(0)
    batch = Batch(torch.randint(0, 30522, (16, 128)), torch.ones(16, 128, dtype=torch.long))
    spec = ObjectiveSpec(name="kd", attention="scores", units={"scores": 1.0, "hidden": 1.0})
    teacher = Teacher(_random(MINILM, 0).requires_grad_(False).eval())  # noqa: FBT003
    objective = Distillation(teacher, spec)
    sampled = kd_space().sample(np.random.default_rng(0), rounds * _SHAPES_PER_STEP)
    ours, theirs = (
        Learner(
            _random(PAPER, 1),
            projection=random_projection(768, 384, torch.Generator().manual_seed(2)),
        )
        for _ in range(2)
    )
    state, published = TrainingState(ours), PublishedLoop(theirs, objective, 1e-4)
    times_ms = []
    for round_number in range(rounds):
        shapes = sampled[round_number * _SHAPES_PER_STEP :][:_SHAPES_PER_STEP]
        steps = [
            _one_step(state, objective, batch, shapes),
            lambda shapes=shapes: published.step(batch, shapes),  # type: ignore[misc]
        ]
        times_ms.append(interleaved_ms(steps, rounds=1, runs=1)[0])
    found = np.array(times_ms[1:])  # the first one warms up
    tokens = batch.input_ids.numel() * _SHAPES_PER_STEP
    rates = 1000 * tokens / found
    print(f"ours {np.median(rates[:, 0]):,.0f}, published {np.median(rates[:, 1]):,.0f} tokens/s")
    print(f"ours / published {ratio_summary(rates[:, 0], rates[:, 1])}")


def loss(seconds: float) -> None:
    """Prints the time in which ours reaches the published loop's held-out loss."""
    lesson = DemoLesson.prepare(batch_size=16, max_characters=4_000_000, sequence_length=64)
    target = _published_loss(lesson, seconds)
    print(f"published loop, {seconds:g} s: held-out loss {target:.3f} (12 slices)", flush=True)
    for share in (0.125, 0.25, 0.5):
        settings = TrainingSettings(minutes=share * seconds / 60)
        state = TrainingState(learner_from_teacher(lesson.read, lesson.batch_of))
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
        found = lesson.mean_loss(state.learner)
        print(f"ours, {share * seconds:g} s: {found:.3f}, {state.step} steps", flush=True)


def _published_loss(lesson: DemoLesson, seconds: float) -> float:
    learner = learner_from_teacher(lesson.read, lesson.batch_of, depth_rule="first", ordered=False)
    settings = TrainingSettings(minutes=seconds / 60, shapes_per_batch=1, always="none")
    loop = PublishedLoop(learner, lesson.objective, settings.learning_rate)
    started_s, number, elapsed_s = time.monotonic(), 0, 0.0
    while elapsed_s < seconds:
        rate = settings.learning_rate_at(max(elapsed_s / seconds, settings.warmup_share / 20))
        for group in loop.optimizer.param_groups:
            group["lr"] = rate
        shapes = shapes_of_batch(lesson.space, lesson.read.config.largest, settings, number)
        loop.step(lesson.batch_of(number), shapes)
        number += 1
        elapsed_s = time.monotonic() - started_s
    print(f"published loop: {number} steps")
    return lesson.mean_loss(learner)


def main() -> None:
    """Runs what is asked for."""
    if sys.argv[1:2] == ["loss"]:
        loss(float(sys.argv[2]) if len(sys.argv) > 2 else 240.0)
    else:
        throughput()


if __name__ == "__main__":
    main()
