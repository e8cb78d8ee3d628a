"""What a search minimises: the held-out distillation loss of a slice of a SuperPLM."""

from __future__ import annotations

from search.evaluation import Fitness
from supernet.held_out import HeldOutLoss
from supernet.supernet_folder import Supernet


def slice_fitness(supernet: Supernet, *, sequences: int) -> Fitness:
    """Scores slices of a SuperPLM on the split of its corpus that is kept for the search.

    Args:
        supernet: the SuperPLM.
        sequences: held-out sequences to score on.

    Raises:
        InputError: if its teacher or corpus is gone or has changed.
    """
    teacher = supernet.origin.read_teacher().model()
    split = supernet.origin.read_corpus().splits["search"]
    held_out = HeldOutLoss(teacher, supernet.origin.variance, split, sequences=sequences)
    return lambda architecture: held_out(supernet.model, supernet.projection, architecture)
