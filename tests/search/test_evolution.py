from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.model import SlicePredictor
from search.evolution import Evolution, RandomSearch, Searcher
from search.feasible import FeasibleSet, feasible_set
from supernet.architecture import Architecture, IntMatrix, from_matrix, to_matrix
from supernet.space import Space, kd_space

SEARCHERS: dict[str, Callable[..., Searcher]] = {"random": RandomSearch, "evolved": Evolution}
KD = kd_space(hidden_step=16, ffn_step=32)

searchers = pytest.mark.parametrize("make", SEARCHERS.values(), ids=SEARCHERS)


def loss_of(architectures: IntMatrix) -> npt.NDArray[np.float64]:
    """A loss that falls with every size, by less and less, and prefers balanced shapes."""
    layers, d, f, _, q = architectures.astype(np.float64).T
    falling = 0.9 * layers**-0.7 + 1.1 * (d / 64) ** -0.55
    falling += 0.6 * (f / 64) ** -0.35 + 0.5 * (q / 64) ** -0.4
    unbalanced = 0.15 * np.abs(np.log(f / (2.2 * d))) + 0.1 * np.abs(np.log(q / (0.8 * d)))
    return np.asarray(falling + unbalanced)


def walk(searcher: Searcher, evaluations: int, batch: int = 8) -> list[Architecture]:
    """What a searcher proposes when it is told the losses."""
    proposed: list[Architecture] = []
    while len(proposed) < evaluations:
        asked = searcher.ask(min(batch, evaluations - len(proposed)))
        if not asked:
            break
        for architecture, loss in zip(asked, loss_of(to_matrix(asked)).tolist(), strict=True):
            searcher.tell(architecture, loss)
        proposed += asked
    return proposed


def set_of(space: Space, predictor: SlicePredictor, count: int) -> FeasibleSet:
    """The feasible set with the `count` fastest shapes of a space."""
    everything = feasible_set(space, predictor, 1e6, statistic="quiet")
    limit_ms = float(np.sort(everything.high_ms)[count - 1])
    return feasible_set(space, predictor, limit_ms, statistic="quiet")


@pytest.fixture(scope="module")
def kd(latency_predictor: SlicePredictor) -> FeasibleSet:
    return feasible_set(KD, latency_predictor, 10.0, statistic="p50")


@searchers
@pytest.mark.parametrize("batch", [1, 8, 100])
def test_what_is_proposed_is_feasible_and_new(
    kd: FeasibleSet, make: Callable[..., Searcher], batch: int
) -> None:
    proposed = walk(make(kd, seed=1), 300, batch)
    assert len(proposed) == 300
    assert len(set(proposed)) == 300
    assert all(architecture in kd for architecture in proposed)


SMALL = Space(
    name="small",
    num_layers=(1, 2, 3),
    hidden_sizes=(128, 144, 160),
    ffn_sizes=(128, 160, 192),
    num_heads=(12,),
    qkv_rule="free",
    qkv_sizes=(180, 192),
)
# The three rules, and an axis alone.
SPACES = (
    SMALL,
    Space("native", (1, 2), (128, 132, 144, 192), (128, 160), (4, 6, 8, 12), "hidden"),
    Space("per-head", (1, 2), (128, 144, 160), (128, 160), (6, 8, 10, 12), "per-head", (32,)),
    Space("layers", tuple(range(1, 9)), (128,), (128,), (12,), "free", (180,)),
    Space("qkv", (1,), (128,), (128,), (12,), "free", tuple(range(180, 768, 12))),
)


@pytest.fixture(scope="module")
def mixed_predictor(latency_predictor: SlicePredictor) -> SlicePredictor:
    """The predictor with a range that also holds other numbers of heads."""
    lowest = latency_predictor.lowest.copy()
    lowest[3], lowest[4] = 1, 1
    return dataclasses.replace(latency_predictor, lowest=lowest)


@searchers
@settings(deadline=None, max_examples=40)
@given(space=st.sampled_from(SPACES), count=st.integers(1, 50), seed=st.integers(0, 1000))
def test_it_ends_when_everything_feasible_was_proposed(
    mixed_predictor: SlicePredictor,
    make: Callable[..., Searcher],
    space: Space,
    count: int,
    seed: int,
) -> None:
    feasible = set_of(space, mixed_predictor, min(count, space.size))
    searcher = make(feasible, seed=seed)
    proposed = walk(searcher, 1000)
    assert len(proposed) == len(set(proposed)) == len(feasible)
    assert set(proposed) == set(from_matrix(space.at(feasible.ranks)))
    assert searcher.ask(3) == []


@searchers
def test_more_is_asked_for_than_there_is(
    latency_predictor: SlicePredictor, make: Callable[..., Searcher]
) -> None:
    searcher = make(set_of(SMALL, latency_predictor, 7), seed=0)
    assert searcher.ask(0) == []
    assert len(searcher.ask(100)) == 7
    assert searcher.ask(100) == []


@searchers
def test_the_same_seed_and_answers_give_the_same_path(
    kd: FeasibleSet, make: Callable[..., Searcher]
) -> None:
    assert walk(make(kd, seed=3), 80) == walk(make(kd, seed=3), 80)
    assert walk(make(kd, seed=3), 80) != walk(make(kd, seed=4), 80)


def test_other_answers_give_another_path(kd: FeasibleSet) -> None:
    first, second = Evolution(kd, seed=3), Evolution(kd, seed=3)
    for rank, architecture in enumerate(first.ask(16)):
        first.tell(architecture, rank)
    for rank, architecture in enumerate(second.ask(16)):
        second.tell(architecture, -rank)
    assert first.ask(8) != second.ask(8)


@searchers
def test_answers_that_make_no_sense_are_refused(
    kd: FeasibleSet, make: Callable[..., Searcher]
) -> None:
    searcher = make(kd, seed=0)
    with pytest.raises(ValueError, match=r"1-128-128-12-180 was not asked for"):
        searcher.tell(Architecture(1, 128, 128, 12, 180), 1.0)
    (asked,) = searcher.ask(1)
    with pytest.raises(ValueError, match=rf"the loss of {asked} is NaN"):
        searcher.tell(asked, float("nan"))
    searcher.tell(asked, 1.0)


def test_the_first_generation_lies_near_the_limit_and_children_near_the_best(
    kd: FeasibleSet,
) -> None:
    searcher = Evolution(kd, seed=0)
    first = searcher.ask(16)
    assert all(kd.predicted_ms(shape)[1] >= 0.85 * kd.limit_ms for shape in first)
    best = Architecture(4, 288, 640, 12, 240)
    for shape in first:  # one that only depth matters to
        searcher.tell(shape, abs(shape.num_layers - best.num_layers))
    children = searcher.ask(40)
    distance = [abs(shape.num_layers - best.num_layers) for shape in children]
    assert np.mean(distance) < np.mean([abs(shape.num_layers - 4) for shape in first])


def test_an_infinite_loss_is_a_bad_one(kd: FeasibleSet) -> None:
    searcher = Evolution(kd, seed=0)
    for shape in searcher.ask(30):
        searcher.tell(shape, float("inf"))
    assert len(searcher.ask(30)) == 30


@pytest.mark.parametrize("share", [0.02, 0.15, 0.5])
def test_evolution_comes_much_closer_to_the_optimum_than_random_search(
    latency_predictor: SlicePredictor, share: float
) -> None:
    """By brute force over the feasible set; a regret of 1 is its median."""
    everything = feasible_set(KD, latency_predictor, 1e6, statistic="p50")
    limit_ms = float(np.quantile(everything.high_ms, share))
    feasible = feasible_set(KD, latency_predictor, limit_ms, statistic="p50")
    losses = loss_of(KD.at(feasible.ranks))
    optimum, middle = losses.min(), np.median(losses)

    def regret(make: Callable[..., Searcher], evaluations: int) -> float:
        found = [
            loss_of(to_matrix(walk(make(feasible, seed=seed), evaluations))).min()
            for seed in range(10)
        ]
        return float((np.median(found) - optimum) / (middle - optimum))

    evolved = regret(Evolution, 100)
    assert evolved < 0.02
    assert evolved < regret(RandomSearch, 100) / 5
    # A third of the evaluations are enough to be better.
    assert regret(Evolution, 33) < regret(RandomSearch, 100)
