"""Turns a student to another objective: words after distillation, or a teacher after words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from supernet.batch import Batch
from supernet.distillation import attention_loss_for, measured_spec, relation_heads_for
from supernet.huggingface import BertFolder
from supernet.learner import Learner, random_projection
from supernet.masked_language import MaskedLanguageHead
from supernet.objectives import ObjectiveName, ObjectiveSpec
from supernet.starting import CALIBRATION_BATCHES
from supernet.student_folder import Student
from supernet.supernet_folder import teacher_of
from supernet.task_head import TaskHead


def with_objective(
    student: Student,
    objective: ObjectiveName,
    teacher: BertFolder | None,
    batch_of: Callable[[int], Batch],
    *,
    seed: int,
) -> Student:
    """A student that learns something else from now on.

    What stands on it is kept where the new objective reads it, and drawn anew where it is missing.

    Args:
        student: as it is.
        objective: what it is to learn.
        teacher: whom a distillation distils.
        batch_of: text to measure the teacher's signals on.
        seed: of what is drawn.

    Raises:
        InputError: if the teacher lacks the classifier that is to be learnt.
    """
    generator = torch.Generator().manual_seed(seed)
    learner, shape = student.learner, student.architecture
    if objective == "mlm":
        head = learner.mlm_head
        if head is None:
            config = learner.student.config
            head = MaskedLanguageHead(
                shape.hidden_size, config.vocab_size, config.layer_norm_epsilon
            )
            head.initialise(generator)
        changed = Learner(learner.student, mlm_head=head, task_head=learner.task_head)
        origin = dataclasses.replace(student.origin, objective=ObjectiveSpec(name="mlm"))
        return dataclasses.replace(student, learner=changed, origin=origin)
    assert teacher is not None, "a distillation has a teacher"
    largest = teacher.config.largest
    attention = attention_loss_for([shape.num_heads], largest)
    spec = measured_spec(
        teacher_of(teacher, objective),
        map(batch_of, range(CALIBRATION_BATCHES)),
        name=objective,
        attention=attention,
        relation_heads=(
            relation_heads_for([shape.qkv_size], largest) if attention == "relations" else None
        ),
    )
    projection = learner.projection
    if projection is None or projection.out_features != largest.hidden_size:
        projection = random_projection(shape.hidden_size, largest.hidden_size, generator)
    task_head = learner.task_head
    if objective == "task":
        wanted = teacher.task_head()
        if task_head is None or task_head.labels != wanted.labels:
            task_head = TaskHead(wanted.kind, shape.hidden_size, wanted.labels)
            task_head.initialise(generator)
    changed = Learner(learner.student, projection=projection, task_head=task_head)
    origin = dataclasses.replace(
        student.origin, objective=spec, teacher=teacher.path, teacher_sha256=teacher.sha256
    )
    return dataclasses.replace(student, learner=changed, origin=origin)
