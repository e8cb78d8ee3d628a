"""The two trainings as values: what is trained, from what, and how; run in a folder.

What `train-supernet` and `train-model` do once their options are understood. A run that was
interrupted goes on from the checkpoint in its folder when it is run there again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotinybert.errors import WorkError
from autotinybert.files import sha256_file
from supernet.architecture import Architecture
from supernet.checkpoint import CHECKPOINT_FILE
from supernet.corpus import CORPUS_FILE, TokenCorpus
from supernet.distilling import (
    CHECKPOINT_EVERY_S,
    Lesson,
    Start,
    measure_variance,
    student_from_random,
    student_from_teacher,
    train_in_folder,
    training_batches,
)
from supernet.elastic import DepthRule
from supernet.extraction import as_model, extract, extract_projection
from supernet.held_out import HeldOutLoss
from supernet.huggingface import BertFolder
from supernet.space import Space
from supernet.student_folder import Student, save_student
from supernet.supernet_folder import Origin, save_supernet
from supernet.tokenizer_files import write_tokenizer_files
from supernet.training import StepReport, TrainingSettings, TrainingState, shapes_of_step

# Shapes whose held-out loss is taken when training is done: what a user may expect of a search.
_SHOWN_SHAPES = 5


@dataclass(frozen=True, kw_only=True)
class SupernetRun:
    """A SuperPLM to be trained.

    Attributes:
        teacher: the teacher.
        tokenizer: its tokenizer's files by name.
        space: what the slices are; the SuperPLM holds all of it.
        largest: the SuperPLM's own shape.
        start: whose weights it starts from.
        depth_rule: how its shallower slices choose layers.
        settings: how long, and how.
        batch_size: sequences of a batch.
    """

    teacher: BertFolder
    tokenizer: Mapping[str, bytes]
    space: Space
    largest: Architecture
    start: Start
    depth_rule: DepthRule
    settings: TrainingSettings
    batch_size: int

    def train(
        self,
        folder: Path,
        corpus: TokenCorpus,
        corpus_folder: Path,
        *,
        clock_s: Callable[[], float],
        on_step: Callable[[StepReport], None] = lambda _: None,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    ) -> None:
        """Trains, and writes the SuperPLM beside the checkpoint.

        Args:
            folder: it exists; unfinished work of the same run in it is gone on with.
            corpus: the text.
            corpus_folder: where it stands.
            clock_s: reads seconds.
            on_step: told after every step.
            checkpoint_every_s: seconds between checkpoints.

        Raises:
            DamagedFileError: if a checkpoint or log in the folder is damaged.
            WorkError: if the loss is no finite number any more.
        """
        seed = self.settings.seed
        batch_of = training_batches(corpus, batch_size=self.batch_size, seed=seed)
        model = self.teacher.model()
        lesson = Lesson(model, measure_variance(model, batch_of), batch_of)
        if self.start == "teacher":
            resumed = (folder / CHECKPOINT_FILE).exists()  # the order is in the checkpoint then
            student, projection = student_from_teacher(
                self.teacher, batch_of, depth_rule=self.depth_rule, ordered=not resumed
            )
        else:
            student, projection = student_from_random(
                self.teacher, self.largest, depth_rule=self.depth_rule, seed=seed
            )
        state = TrainingState(student, projection)
        train_in_folder(
            folder,
            state,
            lesson,
            lambda step: shapes_of_step(self.space, self.largest, self.settings, step),
            self.settings,
            clock_s=clock_s,
            on_step=on_step,
            checkpoint_every_s=checkpoint_every_s,
        )
        held_out = HeldOutLoss(model, lesson.variance, corpus.splits["search"])
        losses = {str(shape): held_out(student, projection, shape).loss for shape in self._shown()}
        _check_finite(losses.values())
        write_tokenizer_files(folder, self.tokenizer)
        origin = Origin(
            teacher=self.teacher.path,
            teacher_sha256=self.teacher.sha256,
            corpus=corpus_folder,
            corpus_sha256=sha256_file(corpus_folder / CORPUS_FILE),
            variance=lesson.variance,
        )
        facts = {
            "start": self.start,
            **_facts(self.settings, self.batch_size, state),
            "held_out_losses": losses,
        }
        save_supernet(folder, student, projection, self.space, origin, facts)

    def _shown(self) -> list[Architecture]:
        rng = np.random.default_rng([self.settings.seed, 2])
        spread = self.space.space_filling(rng, min(_SHOWN_SHAPES, self.space.size))
        return list(dict.fromkeys([self.largest, *spread]))


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """An encoder to be trained further.

    Attributes:
        student: the encoder as it is, with its teacher and corpus.
        tokenizer: its tokenizer's files by name.
        settings: how long, and how.
        batch_size: sequences of a batch.
    """

    student: Student
    tokenizer: Mapping[str, bytes]
    settings: TrainingSettings
    batch_size: int

    def train(
        self,
        folder: Path,
        teacher: BertFolder,
        corpus: TokenCorpus,
        *,
        clock_s: Callable[[], float],
        on_step: Callable[[StepReport], None] = lambda _: None,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    ) -> None:
        """Trains, and writes the student beside the checkpoint.

        Args:
            folder: it exists; unfinished work of the same run in it is gone on with.
            teacher: the student's.
            corpus: the student's.
            clock_s: reads seconds.
            on_step: told after every step.
            checkpoint_every_s: seconds between checkpoints.

        Raises:
            DamagedFileError: if a checkpoint or log in the folder is damaged.
            WorkError: if the loss is no finite number any more.
        """
        student, variance = self.student, self.student.origin.variance
        architecture = student.encoder.architecture
        model = teacher.model()
        batch_of = training_batches(corpus, batch_size=self.batch_size, seed=self.settings.seed)
        # A copy: the student stays what it was.
        projection = extract_projection(student.projection, architecture.hidden_size)
        state = TrainingState(as_model(student.encoder), projection)
        held_out = {
            name: HeldOutLoss(model, variance, corpus.splits[name]) for name in ("search", "test")
        }

        def losses() -> dict[str, float]:
            return {
                name: score(state.student, state.projection).loss
                for name, score in held_out.items()
            }

        before = losses()
        train_in_folder(
            folder,
            state,
            Lesson(model, variance, batch_of),
            lambda _: [architecture],
            self.settings,
            clock_s=clock_s,
            on_step=on_step,
            checkpoint_every_s=checkpoint_every_s,
        )
        after = losses()
        _check_finite(after.values())
        step = {
            "did": "train-model",
            **_facts(self.settings, self.batch_size, state),
            "held_out_loss_before": before,
            "held_out_loss": after,
        }
        trained = Student(
            extract(state.student, architecture),
            state.projection,
            student.origin,
            (*student.history, step),
        )
        save_student(folder, trained, self.tokenizer)


def _facts(settings: TrainingSettings, batch_size: int, state: TrainingState) -> dict[str, Any]:
    return {
        "settings": settings.to_json(),
        "batch_size": batch_size,
        "steps": state.step,
        "elapsed_s": round(state.elapsed_s, 1),
    }


def _check_finite(losses: Iterable[float]) -> None:
    if not all(map(math.isfinite, losses)):
        raise WorkError("the held-out loss is no finite number: try a lower --learning-rate")
