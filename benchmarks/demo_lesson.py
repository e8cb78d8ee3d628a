"""The demo's teacher and text, as the training benchmarks share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.corpus import TokenCorpus
from supernet.corpus_preparation import make_corpus
from supernet.demo_teacher import DEMO_TEACHER, teacher_folder
from supernet.distillation import Distillation, measured_spec
from supernet.held_out import HeldOutLoss
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.learner import Learner
from supernet.space import Space, kd_space
from supernet.starting import CALIBRATION_BATCHES, training_batches
from supernet.supernet_folder import teacher_of

# The published shapes that the demo's teacher holds, hand-designed ones and others.
SHAPES = (
    "5-324-600-12-324",
    "5-280-512-12-276",
    "4-256-480-12-192",
    "4-312-1200-12-312",
    "3-384-1536-12-384",
    "6-192-512-12-192",
    "2-384-1536-12-384",
    "1-256-512-12-192",
    "4-264-1056-12-264",
    "4-192-768-12-192",
    "3-256-1024-12-252",
    "6-384-768-12-384",
)


@dataclass(frozen=True)
class DemoLesson:
    """The demo's teacher, its text, and the distillation of the one on the other.

    Attributes:
        read: the teacher.
        corpus: documentation text.
        batch_of: training batches by number.
        objective: the distillation.
        held_out: scores slices on the split kept for the search.
        space: `kd`, cut to what the teacher holds.
    """

    read: BertFolder
    corpus: TokenCorpus
    batch_of: Callable[[int], Batch]
    objective: Distillation
    held_out: HeldOutLoss
    space: Space

    @classmethod
    def prepare(cls, *, batch_size: int, max_characters: int, sequence_length: int) -> DemoLesson:
        """Reads the teacher and the text."""
        read = read_bert_folder(teacher_folder(DEMO_TEACHER))
        corpus = make_corpus(
            "python-docs",
            Path(read.path),
            sequence_length=sequence_length,
            max_characters=max_characters,
        )
        batch_of = training_batches(corpus, batch_size=batch_size, seed=0)
        teacher = teacher_of(read, "kd")
        spec = measured_spec(
            teacher,
            map(batch_of, range(CALIBRATION_BATCHES)),
            name="kd",
            attention="scores",
            relation_heads=None,
        )
        objective = Distillation(teacher, spec)
        held_out = HeldOutLoss(objective, corpus.splits["search"])
        return cls(
            read, corpus, batch_of, objective, held_out, kd_space().clipped(read.config.largest)
        )

    def losses(self, learner: Learner) -> dict[str, float]:
        """The held-out loss of each of `SHAPES`."""
        return {name: self.held_out(learner, Architecture.parse(name)).loss for name in SHAPES}

    def mean_loss(self, learner: Learner) -> float:
        """Their geometric mean."""
        return float(np.exp(np.mean(np.log(list(self.losses(learner).values())))))
