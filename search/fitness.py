"""What a search minimises: the held-out loss of a slice of a SuperPLM."""

from __future__ import annotations

import math

from autotinybert.errors import WorkError
from search.evaluation import Fitness
from supernet.architecture import Architecture
from supernet.held_out import HeldOutLoss
from supernet.score import HeldOutScore
from supernet.supernet_folder import Supernet


def slice_fitness(supernet: Supernet, *, sequences: int) -> Fitness:
    """Scores slices of a SuperPLM on the split of its corpus that is kept for the search.

    Args:
        supernet: the SuperPLM.
        sequences: held-out sequences to score on.

    Raises:
        InputError: if its teacher or corpus is gone or has changed.

    What it returns raises WorkError if a slice's loss is no finite number.
    """
    corpus = supernet.origin.read_corpus()
    objective = supernet.origin.read_objective(corpus)
    held_out = HeldOutLoss(objective, corpus.splits["search"], sequences=sequences)

    def fitness(architecture: Architecture) -> HeldOutScore:
        score = held_out(supernet.learner, architecture)
        if not math.isfinite(score.loss):
            raise WorkError(
                f"the held-out loss of {architecture} is {score.loss}: the SuperPLM in "
                f"{supernet.folder} has diverged; train it anew with a lower --learning-rate"
            )
        return score

    return fitness
