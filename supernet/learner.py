"""A student with what stands on it while it learns: all that training changes.

Shape letters: B batch size, S sequence length, k terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supernet.architecture import Architecture
from supernet.encoder import Encoder
from supernet.extraction import as_model, extract, extract_projection
from supernet.masked_language import MaskedLanguageHead
from supernet.model import SuperPLM, WordRows
from supernet.objectives import Lesson, Objective
from supernet.task_head import TaskHead

# The names of what may stand on a student, in files too.
PROJECTION, MASKED_LANGUAGE_HEAD, TASK_HEAD = "projection", "mlm_head", "task_head"


class Learner(nn.Module):
    """A student, and the heads that its objective reads.

    Args:
        student: the SuperPLM.
        projection: from its hidden size to the teacher's, for distillation.
        mlm_head: for masked-language modelling.
        task_head: a classifier's.
    """

    def __init__(
        self,
        student: SuperPLM,
        *,
        projection: nn.Linear | None = None,
        mlm_head: MaskedLanguageHead | None = None,
        task_head: TaskHead | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.projection = projection
        self.mlm_head = mlm_head
        self.task_head = task_head

    def forward(
        self,
        objective: Objective,
        lesson: Lesson,
        architecture: Architecture | None = None,
        words: WordRows | None = None,
        *,
        teaching: bool = False,
    ) -> tuple[Tensor, Lesson]:
        """Runs a slice on a lesson.

        Args:
            objective: what is compared.
            lesson: with what.
            architecture: the slice; None is the whole student.
            words: rows of the word embedding gathered before.
            teaching: also make a lesson of its answer, for smaller slices.

        Returns:
            The sum of each term, `[k]`, and the lesson for the next slice.
        """
        output = self.student(
            *lesson.batch,
            architecture=architecture,
            with_scores=objective.needs_scores,
            with_parts=objective.needs_parts,
            words=words,
        )
        found = objective.sums(output, self, lesson)
        sums = torch.stack([found[name] for name in objective.term_names])
        return sums, objective.taught_by(output, self, lesson) if teaching else lesson

    def slice(self, architecture: Architecture) -> Learner:
        """A learner of its own that holds a slice whole, heads included."""
        d = architecture.hidden_size
        return Learner(
            as_model(extract(self.student, architecture)),
            projection=None if self.projection is None else extract_projection(self.projection, d),
            mlm_head=None if self.mlm_head is None else self.mlm_head.slice(d),
            task_head=None if self.task_head is None else self.task_head.slice(d),
        )

    def encoder(self) -> Encoder:
        """The whole student as arrays, with its task's head."""
        head = None if self.task_head is None else self.task_head.extract(self.hidden_size)
        return extract(self.student, self.student.config.largest, head=head)

    @property
    def hidden_size(self) -> int:
        """Of the whole student."""
        return self.student.config.largest.hidden_size

    def head_tensors(self) -> dict[str, Tensor]:
        """The weights of what stands on the student, by name."""
        return {
            name: value.detach()
            for name, value in self.named_parameters()
            if not name.startswith("student.")
        }


def heads_from_tensors(
    tensors: Mapping[str, Tensor], *, layer_norm_epsilon: float
) -> dict[str, Any]:
    """The projection and the masked-language head in a file's tensors, as arguments of `Learner`.

    Raises:
        RuntimeError, ValueError, LookupError: if their shapes do not go together.
    """
    found: dict[str, Any] = {}
    if f"{PROJECTION}.weight" in tensors:
        teacher_size, hidden_size = tensors[f"{PROJECTION}.weight"].shape
        found[PROJECTION] = nn.Linear(hidden_size, teacher_size)
    if f"{MASKED_LANGUAGE_HEAD}.bias" in tensors:
        vocab_size, hidden_size = (
            len(tensors[f"{MASKED_LANGUAGE_HEAD}.bias"]),
            len(tensors[f"{MASKED_LANGUAGE_HEAD}.dense.bias"]),
        )
        found[MASKED_LANGUAGE_HEAD] = MaskedLanguageHead(
            hidden_size, vocab_size, layer_norm_epsilon
        )
    for name, head in found.items():
        head.load_state_dict(
            {
                key.removeprefix(f"{name}."): value
                for key, value in tensors.items()
                if key.startswith(f"{name}.")
            }
        )
    return found


def random_projection(hidden_size: int, teacher_size: int, generator: torch.Generator) -> nn.Linear:
    """A projection that keeps the scale of what it reads."""
    projection = nn.Linear(hidden_size, teacher_size)
    with torch.no_grad():
        projection.bias.zero_()
        projection.weight.normal_(0.0, hidden_size**-0.5, generator=generator)
    return projection
