"""Settings of fine-tuning."""

from __future__ import annotations

import pytest

from autotinybert.errors import InputError
from supernet.tasks.finetune_grid import FinetuneSettings, paper_grid, settings_grid


def test_a_grid_is_every_combination_with_every_seed_once() -> None:
    grid = settings_grid(epochs=[1, 2], batch_sizes=[8, 8], learning_rates=[0.1, 0.2], seeds=2)
    assert [(*settings.point, settings.seed) for settings in grid] == [
        (epochs, 8, rate, seed) for epochs in (1, 2) for rate in (0.1, 0.2) for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("task", "examples", "epochs"),
    [("sst2", 67349, 4), ("mnli", 10, 4), ("qqp", 10, 5), ("cola", 8551, 10), ("csv", 49_999, 10),
     ("csv", 50_000, 4)],
)  # fmt: skip
def test_the_papers_grid_trains_small_tasks_longer(task: str, examples: int, epochs: int) -> None:
    grid = paper_grid(task, examples, seeds=3)
    assert {settings.epochs for settings in grid} == {epochs}
    assert {settings.batch_size for settings in grid} == {16, 32}
    assert {settings.learning_rate for settings in grid} == {1e-5, 2e-5, 3e-5}
    assert len(grid) == 2 * 3 * 3


@pytest.mark.parametrize("name", ["epochs", "batch_size", "learning_rate", "clip_norm"])
def test_values_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name.replace('_', ' ')} must be above 0"):
        FinetuneSettings(**{name: 0})


def test_the_last_batch_of_an_epoch_may_be_smaller() -> None:
    settings = FinetuneSettings(batch_size=16)
    assert [settings.steps_per_epoch(count) for count in (1, 16, 17)] == [1, 1, 2]
