"""Which layers and channels a shallow slice should take: trains a SuperPLM by each rule.

    python -m benchmarks.depth_rules [STEPS]

All start from the demo's teacher, see the same batches and the same shapes, and are scored on the
same held-out text. Printed are the held-out losses before and after training, for the published
shapes that the SuperPLM holds and some others.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np

from supernet.architecture import Architecture
from supernet.corpus_preparation import prepare_corpus
from supernet.demo_teacher import DEMO_TEACHER, teacher_folder
from supernet.distilling import measure_variance, student_from_teacher, training_batches
from supernet.elastic import DepthRule
from supernet.held_out import HeldOutLoss
from supernet.huggingface import read_bert_folder
from supernet.space import kd_space
from supernet.training import TrainingSettings, TrainingState, shapes_of_step, train

SHAPES = (
    "5-324-600-12-324",
    "5-280-512-12-276",
    "4-256-480-12-192",
    "4-312-1200-12-312",
    "3-384-1536-12-384",
    "6-192-512-12-192",
    "2-384-1536-12-384",
    "1-256-512-12-192",
    "6-384-1536-12-384",
)
RULES: tuple[tuple[str, DepthRule, bool], ...] = (
    ("first layers", "first", False),
    ("evenly spaced", "evenly-spaced", False),
    ("... and importance order", "evenly-spaced", True),
)
_BATCH_SIZE = 16
_MAX_CHARACTERS = 3_000_000


def main() -> None:
    """Prints a row for each shape."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    settings = TrainingSettings(steps=steps)
    read = read_bert_folder(teacher_folder(DEMO_TEACHER))
    teacher = read.model()
    space = kd_space().clipped(read.config.largest)
    shapes = [Architecture.parse(name) for name in SHAPES]
    with tempfile.TemporaryDirectory() as folder:
        corpus = prepare_corpus(
            "python-docs",
            read.path,
            Path(folder),
            sequence_length=64,
            max_characters=_MAX_CHARACTERS,
        )
    batch_of = training_batches(corpus, batch_size=_BATCH_SIZE, seed=0)
    variance = measure_variance(teacher, batch_of)
    held_out = HeldOutLoss(teacher, variance, corpus.splits["search"])
    columns = []
    for name, rule, ordered in RULES:
        student, projection = student_from_teacher(read, batch_of, depth_rule=rule, ordered=ordered)
        before = [held_out(student, projection, shape).loss for shape in shapes]
        train(
            TrainingState(student, projection),
            teacher,
            variance,
            batch_of,
            lambda step: shapes_of_step(space, read.config.largest, settings, step),
            settings,
            clock_s=itertools.count(0.0).__next__,
        )
        after = [held_out(student, projection, shape).loss for shape in shapes]
        columns.append((before, after))
        print(f"{name}: geometric mean of the slices {np.exp(np.log(after[:-1]).mean()):.3f}")
    print(f"\n{steps} steps of {_BATCH_SIZE} x 64 tokens, {settings.shapes_per_batch} shapes each")
    print(f"{'':<20}" + "".join(f"{name:>26}" for name, _, _ in RULES))
    for index, shape in enumerate(SHAPES):
        cells = [f"{before[index]:.2f} -> {after[index]:.2f}" for before, after in columns]
        print(f"{shape:<20}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
