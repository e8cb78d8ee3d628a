"""The two trainings as values: what is trained, from what, and how; run in a folder.

What `train-supernet` and `train-model` do once their options are understood. A run that was
interrupted goes on from the checkpoint in its folder when it is run there again. Several processes
run the same; the first one writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotinybert.errors import WorkError
from autotinybert.files import sha256_bytes, sha256_file
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.checkpoint import CHECKPOINT_FILE
from supernet.corpus import CORPUS_FILE, TokenCorpus
from supernet.distillation import measured_spec, relation_heads_for
from supernet.distributed import ALONE, Group
from supernet.held_out import HeldOutLoss
from supernet.huggingface import BertFolder
from supernet.learner import Learner
from supernet.objectives import Objective, ObjectiveSpec
from supernet.space_file import space_document
from supernet.starting import (
    CALIBRATION_BATCHES,
    StartingPoint,
    learner_from_random,
    learner_from_teacher,
    training_batches,
)
from supernet.student_folder import Student, save_student
from supernet.supernet_folder import Origin, objective_of, save_supernet, teacher_of
from supernet.tokenizer_files import write_tokenizer_files
from supernet.training import StepReport, TrainingSettings, TrainingState, shapes_of_batch
from supernet.training_folder import CHECKPOINT_EVERY_S, train_in_folder

# Shapes whose held-out loss is taken when training is done: what a user may expect of a search.
_SHOWN_SHAPES = 5


@dataclass(frozen=True, kw_only=True)
class SupernetRun:
    """A SuperPLM to be trained.

    Attributes:
        point: what it begins as, and what for.
        tokenizer: its tokenizer's files by name.
        ordered: from a teacher, put its important channels first.
        settings: how long, and how.
        batch_size: sequences of a batch.
    """

    point: StartingPoint
    tokenizer: Mapping[str, bytes]
    ordered: bool
    settings: TrainingSettings
    batch_size: int

    def request(self) -> dict[str, Any]:
        """Everything that decides the result but the text, as JSON values."""
        point = self.point
        return {
            "objective": point.objective,
            "teacher": None if point.teacher is None else point.teacher.sha256,
            "tokenizer": {name: sha256_bytes(found) for name, found in self.tokenizer.items()},
            "space": space_document(point.space),
            "start": point.start,
            "largest": str(point.config.largest),
            "depth_rule": point.config.depth_rule,
            "attention": point.attention,
            "ordered": self.ordered,
            "batch_size": self.batch_size,
            "settings": self.settings.to_json(),
        }

    def train(
        self,
        folder: Path,
        corpus: TokenCorpus,
        corpus_folder: Path,
        *,
        clock_s: Callable[[], float],
        on_step: Callable[[StepReport], None] = lambda _: None,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
        group: Group = ALONE,
    ) -> None:
        """Trains, and writes the SuperPLM beside the checkpoint.

        Args:
            folder: it exists; unfinished work of the same run in it is gone on with.
            corpus: the text.
            corpus_folder: where it stands.
            clock_s: reads seconds.
            on_step: told after every step.
            checkpoint_every_s: seconds between checkpoints.
            group: the processes that train it.

        Raises:
            DamagedFileError: if a checkpoint or log in the folder is damaged.
            WorkError: if the loss is no finite number any more.
        """
        seed = self.settings.seed
        batch_of = training_batches(corpus, batch_size=self.batch_size, seed=seed)
        spec = self._spec(batch_of, group)
        objective = objective_of(spec, self.point.teacher, corpus, seed=seed, device=group.device)
        # The order is in the checkpoint where there is one.
        ordered = self.ordered and not (folder / CHECKPOINT_FILE).exists()
        state = TrainingState(self._learner(batch_of, ordered=ordered), group)
        train_in_folder(
            folder,
            state,
            objective,
            batch_of,
            lambda number: shapes_of_batch(
                self.point.space, self.point.config.largest, self.settings, number
            ),
            self.settings,
            clock_s=clock_s,
            on_step=on_step,
            checkpoint_every_s=checkpoint_every_s,
        )
        if group.is_first:
            self._save(folder, state, objective, corpus, corpus_folder)

    def _spec(self, batch_of: Callable[[int], Batch], group: Group) -> ObjectiveSpec:
        if self.point.objective == "mlm":
            return ObjectiveSpec(name="mlm")
        assert self.point.teacher is not None
        assert self.point.attention is not None
        heads = None
        if self.point.attention == "relations":
            sizes = self.point.space.widths[:, 2].tolist()
            heads = relation_heads_for(sizes, self.point.teacher.config.largest)
        return measured_spec(
            teacher_of(self.point.teacher, self.point.objective, group.device),
            (batch_of(number).to(group.device) for number in range(CALIBRATION_BATCHES)),
            name=self.point.objective,
            attention=self.point.attention,
            relation_heads=heads,
        )

    def _learner(self, batch_of: Callable[[int], Batch], *, ordered: bool) -> Learner:
        if self.point.start == "random":
            return learner_from_random(
                self.point.config,
                teacher=self.point.teacher,
                objective=self.point.objective,
                seed=self.settings.seed,
            )
        assert self.point.teacher is not None
        return learner_from_teacher(
            self.point.teacher,
            batch_of,
            objective=self.point.objective,
            depth_rule=self.point.config.depth_rule,
            ordered=ordered,
            # Heads that are compared one by one stay where they are.
            order_heads=self.point.attention != "scores" and len(self.point.space.num_heads) > 1,
            seed=self.settings.seed,
        )

    def _save(
        self,
        folder: Path,
        state: TrainingState,
        objective: Objective,
        corpus: TokenCorpus,
        corpus_folder: Path,
    ) -> None:
        held_out = HeldOutLoss(objective, corpus.splits["search"], device=state.group.device)
        losses = {str(shape): held_out(state.learner, shape).loss for shape in self._shown()}
        _check_finite(losses.values())
        write_tokenizer_files(folder, self.tokenizer)
        origin = Origin(
            objective=objective.spec,
            teacher=self.point.source,
            teacher_sha256=None if self.point.teacher is None else self.point.teacher.sha256,
            corpus=corpus_folder,
            corpus_sha256=sha256_file(corpus_folder / CORPUS_FILE),
        )
        facts = {
            "start": self.point.start,
            "ordered": self.ordered,
            **_facts(self.settings, self.batch_size, state),
            "held_out_losses": losses,
        }
        save_supernet(folder, state.learner, self.point.space, origin, facts)

    def _shown(self) -> list[Architecture]:
        rng = np.random.default_rng([self.settings.seed, 2])
        spread = self.point.space.space_filling(rng, min(_SHOWN_SHAPES, self.point.space.size))
        return list(dict.fromkeys([self.point.config.largest, *spread]))


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
        teacher: BertFolder | None,
        corpus: TokenCorpus,
        *,
        clock_s: Callable[[], float],
        on_step: Callable[[StepReport], None] = lambda _: None,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
        group: Group = ALONE,
    ) -> None:
        """Trains, and writes the student beside the checkpoint.

        Args:
            folder: it exists; unfinished work of the same run in it is gone on with.
            teacher: the student's.
            corpus: the student's.
            clock_s: reads seconds.
            on_step: told after every step.
            checkpoint_every_s: seconds between checkpoints.
            group: the processes that train it.

        Raises:
            DamagedFileError: if a checkpoint or log in the folder is damaged.
            WorkError: if the loss is no finite number any more.
        """
        student, device = self.student, group.device
        architecture, spec = student.architecture, student.origin.objective
        batch_of = training_batches(corpus, batch_size=self.batch_size, seed=self.settings.seed)
        objective = objective_of(spec, teacher, corpus, seed=self.settings.seed, device=device)
        # A copy: the student stays what it was.
        state = TrainingState(student.learner.slice(architecture), group)
        scored = objective_of(spec, teacher, corpus, device=device)
        held_out = {
            name: HeldOutLoss(scored, corpus.splits[name], device=device)
            for name in ("search", "test")
        }

        def losses() -> dict[str, float]:
            return {name: score(state.learner).loss for name, score in held_out.items()}

        before = losses()
        train_in_folder(
            folder,
            state,
            objective,
            batch_of,
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
            "objective": spec.name,
            **_facts(self.settings, self.batch_size, state),
            "held_out_loss_before": before,
            "held_out_loss": after,
        }
        trained = Student(state.learner, student.origin, (*student.history, step))
        if group.is_first:
            save_student(folder, trained, self.tokenizer)


def _facts(settings: TrainingSettings, batch_size: int, state: TrainingState) -> dict[str, Any]:
    return {
        "settings": settings.to_json(),
        "batch_size": batch_size,
        "processes": state.group.size,
        "steps": state.step,
        "elapsed_s": round(state.elapsed_s, 1),
    }


def _check_finite(losses: Iterable[float]) -> None:
    if not all(map(math.isfinite, losses)):
        raise WorkError("the held-out loss is no finite number: try a lower --learning-rate")
