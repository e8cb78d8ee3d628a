from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from predictor.model import SlicePredictor
from search.evaluation import Evaluation, run_search
from search.evolution import Evolution
from search.feasible import FeasibleSet, feasible_set
from supernet.architecture import Architecture
from supernet.score import HeldOutScore
from supernet.space import Space, kd_space

SHAPES = [Architecture(layers, 128, 256, 12, 180) for layers in range(1, 9)]


class Fitness:
    """Scores by arithmetic and remembers what it was asked for; may be stopped."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.scored: list[Architecture] = []
        self.stop_after = stop_after

    def __call__(self, architecture: Architecture) -> HeldOutScore:
        if len(self.scored) == self.stop_after:
            raise KeyboardInterrupt
        self.scored.append(architecture)
        layers, hidden, ffn, _, qkv = architecture.row
        scores = 1 / layers + 64 / hidden
        return HeldOutScore(
            {"scores": scores, "hidden": abs(math.log(ffn / 2 / hidden)) + 64 / qkv}
        )


class Listed:
    """Proposes a list and remembers what it is told."""

    def __init__(self, shapes: list[Architecture]) -> None:
        self.left = list(shapes)
        self.asked: list[int] = []
        self.told: list[tuple[Architecture, float]] = []

    def ask(self, count: int) -> list[Architecture]:
        self.asked.append(count)
        asked, self.left = self.left[:count], self.left[count:]
        return asked

    def tell(self, architecture: Architecture, loss: float) -> None:
        self.told.append((architecture, loss))


def test_each_architecture_is_scored_once_and_told_in_order() -> None:
    searcher, fitness = Listed(SHAPES), Fitness()
    ticks = itertools.count(10.0, 0.5)
    known: dict[Architecture, Evaluation] = {}
    reported: list[Evaluation] = []
    proposed, stopped = run_search(
        searcher,
        fitness,
        known,
        evaluations=6,
        batch_size=4,
        clock_s=lambda: next(ticks),
        on_evaluation=reported.append,
    )
    assert stopped == "6 evaluations"
    assert [found.architecture for found in proposed] == SHAPES[:6] == fitness.scored
    assert searcher.asked == [4, 2]
    assert searcher.told == [(found.architecture, found.score.loss) for found in proposed]
    assert proposed == reported == list(known.values())
    assert all(found.seconds == 0.5 for found in proposed)


def test_what_is_known_is_told_but_not_scored_again() -> None:
    searcher, fitness = Listed(SHAPES[:3]), Fitness()
    before = Evaluation(SHAPES[1], HeldOutScore({"scores": 0.25, "hidden": 0.5}), 9.0)
    reported: list[Evaluation] = []
    proposed, _ = run_search(
        searcher, fitness, {SHAPES[1]: before}, evaluations=3, on_evaluation=reported.append
    )
    assert fitness.scored == [SHAPES[0], SHAPES[2]]
    assert proposed[1] is before
    assert before not in reported
    assert searcher.told[1] == (SHAPES[1], 0.75)


def test_it_ends_when_nothing_more_is_proposed() -> None:
    proposed, stopped = run_search(Listed(SHAPES), Fitness(), {}, evaluations=100)
    assert len(proposed) == len(SHAPES)
    assert stopped == "every feasible architecture was evaluated"


@pytest.fixture(scope="module")
def feasible(latency_predictor: SlicePredictor) -> FeasibleSet:
    space: Space = kd_space(hidden_step=16, ffn_step=32)
    return feasible_set(space, latency_predictor, 4.0, statistic="p50")


@pytest.mark.parametrize("stop_after", [0, 1, 7, 8, 23, 39])
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(
    feasible: FeasibleSet, stop_after: int
) -> None:
    unbroken, stopped = run_search(Evolution(feasible, seed=5), Fitness(), {}, evaluations=40)
    known: dict[Architecture, Evaluation] = {}
    with pytest.raises(KeyboardInterrupt):
        run_search(
            Evolution(feasible, seed=5), Fitness(stop_after=stop_after), known, evaluations=40
        )
    assert len(known) == stop_after
    rest = Fitness()
    resumed, again = run_search(Evolution(feasible, seed=5), rest, known, evaluations=40)
    scores = [(found.architecture, found.score) for found in unbroken]
    assert [(found.architecture, found.score) for found in resumed] == scores
    assert again == stopped
    assert rest.scored == [architecture for architecture, _ in scores[stop_after:]]


def test_an_evaluation_is_read_back_as_it_was_written() -> None:
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        score = HeldOutScore(
            dict(zip(("scores", "hidden"), rng.exponential(size=2).tolist(), strict=True))
        )
        evaluation = Evaluation(shape, score, 0.1234)
        assert Evaluation.from_json(evaluation.to_json()) == evaluation


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"architecture": "4-312", "scores_loss": 1.0, "hidden_loss": 1.0, "seconds": 1.0},
        {"architecture": "4-312-1200-12-312", "scores_loss": "low", "hidden_loss": 1, "seconds": 1},
        {"architecture": "4-312-1200-12-312", "scores_loss": 1.0, "hidden_loss": 1.0},
    ],
)
def test_what_is_no_evaluation_is_refused(value: dict[str, object]) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        Evaluation.from_json(value)
