"""How a model is fine-tuned, and the grid of settings that are tried."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autotinybert.errors import InputError
from supernet.tasks.examples import CSV_TASK

DEFAULT_EPOCHS = 3
DEFAULT_BATCH_SIZE = 32
DEFAULT_LEARNING_RATE = 5e-5

# What `--grid paper` stands for. The learning rates and epochs are those that AutoTinyBERT's
# published code sets for its tasks (superbert_run_en_classifier.py: 1e-5 for CoLA, 3e-5 for MNLI
# and STS-B, 2e-5 for the others, batches of 32); the smaller batch is BERT's (Devlin et al., 2019,
# appendix A.3).
PAPER_LEARNING_RATES = (1e-5, 2e-5, 3e-5)
PAPER_BATCH_SIZES = (16, 32)
PAPER_EPOCHS = {"sst2": 4, "mnli": 4, "qqp": 5}
PAPER_EPOCHS_OF_OTHERS = 10
# A user's own task counts as large from here on: as long as SST-2, which has 67,349 examples.
LARGE_TASK_EXAMPLES = 50_000


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """How a model is fine-tuned once.

    Attributes:
        epochs: how often every example is seen.
        batch_size: examples of a step.
        learning_rate: the highest; it rises linearly, then falls linearly to 0.
        seed: of the order of the examples, and of a new head.
        warmup_share: share of the steps in which the learning rate rises.
        weight_decay: of matrices; biases and LayerNorms have none.
        clip_norm: the gradient's norm is cut to this.

    Raises:
        InputError: if a value makes no sense.
    """

    epochs: int = DEFAULT_EPOCHS
    batch_size: int = DEFAULT_BATCH_SIZE
    learning_rate: float = DEFAULT_LEARNING_RATE
    seed: int = 0
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name.replace('_', ' ')} must be above 0, not {value!r}")

    @property
    def point(self) -> tuple[int, int, float]:
        """Its place in a grid: epochs, batch size and learning rate."""
        return self.epochs, self.batch_size, self.learning_rate

    def steps_per_epoch(self, examples: int) -> int:
        """Optimiser steps in which every example is seen once."""
        return math.ceil(examples / self.batch_size)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)


def settings_grid(
    *,
    epochs: Sequence[int],
    batch_sizes: Sequence[int],
    learning_rates: Sequence[float],
    seeds: int,
) -> tuple[FinetuneSettings, ...]:
    """Every combination with every seed from 0; the seeds of a combination follow each other.

    Raises:
        InputError: if a value makes no sense.
    """
    points = dict.fromkeys(itertools.product(epochs, batch_sizes, learning_rates))
    return tuple(
        FinetuneSettings(epochs=e, batch_size=size, learning_rate=rate, seed=seed)
        for e, size, rate in points
        for seed in range(seeds)
    )


def paper_grid(task: str, examples: int, *, seeds: int) -> tuple[FinetuneSettings, ...]:
    """The paper's grid.

    Args:
        task: one of `TASKS`.
        examples: of the training file; they decide how long a user's own task is trained.
        seeds: of every combination.
    """
    own = "sst2" if examples >= LARGE_TASK_EXAMPLES else ""
    return settings_grid(
        epochs=(PAPER_EPOCHS.get(own if task == CSV_TASK else task, PAPER_EPOCHS_OF_OTHERS),),
        batch_sizes=PAPER_BATCH_SIZES,
        learning_rates=PAPER_LEARNING_RATES,
        seeds=seeds,
    )
