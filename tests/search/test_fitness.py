from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from autotinybert.errors import InputError, WorkError
from search.fitness import slice_fitness
from supernet.architecture import Architecture
from supernet.held_out import HeldOutLoss
from supernet.learner import Learner
from supernet.supernet_folder import Supernet, load_supernet

SHAPE = Architecture(2, 128, 256, 12, 180)


@pytest.fixture(scope="module")
def supernet(supernet_folder: Path) -> Supernet:
    return load_supernet(supernet_folder)


def test_a_slice_scores_its_loss_on_the_split_kept_for_the_search(supernet: Supernet) -> None:
    corpus = supernet.origin.read_corpus()
    objective = supernet.origin.read_objective(corpus)
    held_out = HeldOutLoss(objective, corpus.splits["search"], sequences=5)
    score = slice_fitness(supernet, sequences=5)(SHAPE)
    assert score == held_out(supernet.learner, SHAPE)
    assert math.isfinite(score.loss)
    assert score.loss > 0


def test_the_same_slice_scores_the_same_again_and_another_differs(supernet: Supernet) -> None:
    fitness = slice_fitness(supernet, sequences=128)
    assert fitness(SHAPE) == fitness(SHAPE)
    assert fitness(dataclasses.replace(SHAPE, num_layers=1)) != fitness(SHAPE)


def test_the_superplm_itself_scores_better_than_its_slices(supernet: Supernet) -> None:
    fitness = slice_fitness(supernet, sequences=128)
    assert fitness(supernet.model.config.largest).loss < fitness(SHAPE).loss


def test_a_superplm_that_diverged_is_work_that_failed(supernet: Supernet) -> None:
    projection = torch.nn.Linear(192, 192)
    torch.nn.init.constant_(projection.weight, math.nan)
    broken = dataclasses.replace(supernet, learner=Learner(supernet.model, projection=projection))
    with pytest.raises(WorkError, match=rf"loss of {SHAPE} is nan: the SuperPLM in .* diverged"):
        slice_fitness(broken, sequences=4)(SHAPE)


def test_a_teacher_that_changed_is_refused(supernet: Supernet) -> None:
    origin = dataclasses.replace(supernet.origin, teacher_sha256="0" * 64)
    with pytest.raises(InputError, match="is not the one that was distilled from"):
        slice_fitness(dataclasses.replace(supernet, origin=origin), sequences=4)


def test_a_corpus_that_is_gone_is_refused(supernet: Supernet, tmp_path: Path) -> None:
    origin = dataclasses.replace(supernet.origin, corpus=tmp_path / "gone")
    with pytest.raises(InputError, match="gone"):
        slice_fitness(dataclasses.replace(supernet, origin=origin), sequences=4)
