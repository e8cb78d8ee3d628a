"""Evolution by ask and tell: proposes feasible architectures and learns how good they are.

It never sees the objective, a model or a device. All randomness is its own generator's, so the
same seed and the same answers give the same path, and a search is resumed by telling it the answers
again.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from search.feasible import FeasibleSet
from search.operators import cross, fit_to_budget, mutate
from supernet.architecture import Architecture, from_matrix

# Tries to make a new child before a random feasible architecture takes its place.
_MOST_TRIES = 50


class Searcher(Protocol):
    """What proposes architectures."""

    def ask(self, count: int) -> list[Architecture]:
        """Up to `count` feasible architectures that were not proposed before; none at the end."""

    def tell(self, architecture: Architecture, loss: float) -> None:
        """Says how good one of them is; lower is better.

        Raises:
            ValueError: if it was not proposed, or the loss is NaN.
        """


def _check_answer(proposed: set[Architecture], architecture: Architecture, loss: float) -> None:
    if architecture not in proposed:
        raise ValueError(f"{architecture} was not asked for")
    if np.isnan(loss):
        raise ValueError(f"the loss of {architecture} is NaN")


class RandomSearch:
    """Draws feasible architectures uniformly.

    Args:
        feasible: what may be drawn.
        seed: of the draws.
    """

    def __init__(self, feasible: FeasibleSet, *, seed: int) -> None:
        self._feasible = feasible
        self._order = np.random.default_rng(seed).permutation(len(feasible))
        self._next = 0
        self._proposed: set[Architecture] = set()

    def ask(self, count: int) -> list[Architecture]:
        """Up to `count` feasible architectures that were not proposed before; none at the end."""
        places = self._order[self._next : self._next + count]
        self._next += len(places)
        asked = from_matrix(self._feasible.space.at(self._feasible.ranks[places]))
        self._proposed.update(asked)
        return asked

    def tell(self, architecture: Architecture, loss: float) -> None:
        """Checks the answer; what it is does not matter to random search.

        Raises:
            ValueError: if the architecture was not proposed, or the loss is NaN.
        """
        _check_answer(self._proposed, architecture, loss)


class Evolution:
    """Keeps the best, mutates and crosses them, and fits the children to the budget.

    Of the defaults that were tried these did best in 100 evaluations of an analytic loss, smooth
    and rugged, under budgets that 2 to 85 % of the `kd` space meet.

    Args:
        feasible: what may be proposed.
        seed: of everything random.
        initial: architectures of the first generation.
            Those but the first few are drawn near the limit, for uniform draws would mostly be
            far below it.
        cut_down: how many of the first are the largest architecture, made smaller along random
            axes until it meets the budget: where the budget is generous, they are the best.
        parents: how many of the best have children.
        share_near_limit: of the budget that the first generation uses at least.
        share_crossed: of children that have two parents.
        share_fitted: of children that are moved to the edge of the budget; the others must be
            feasible as they are.
        share_random: of children drawn anew, so that no region is ever out of reach.
    """

    def __init__(
        self,
        feasible: FeasibleSet,
        *,
        seed: int,
        initial: int = 16,
        cut_down: int = 1,
        parents: int = 5,
        share_near_limit: float = 0.85,
        share_crossed: float = 0.3,
        share_fitted: float = 0.9,
        share_random: float = 0.05,
    ) -> None:
        self._feasible = feasible
        self._rng = np.random.default_rng(seed)
        self._near_limit = feasible.near_limit(share_near_limit)
        self._initial = initial
        self._cut_down = cut_down
        self._parents = parents
        self._share_crossed = share_crossed
        self._share_fitted = share_fitted
        self._share_random = share_random
        self._proposed: set[Architecture] = set()
        self._told: dict[Architecture, float] = {}

    def ask(self, count: int) -> list[Architecture]:
        """Up to `count` feasible architectures that were not proposed before; none at the end."""
        asked: list[Architecture] = []
        while len(asked) < count:
            child = self._propose()
            if child is None:
                break
            self._proposed.add(child)
            asked.append(child)
        return asked

    def tell(self, architecture: Architecture, loss: float) -> None:
        """Says how good one of them is; lower is better.

        Raises:
            ValueError: if it was not proposed, or the loss is NaN.
        """
        _check_answer(self._proposed, architecture, loss)
        self._told[architecture] = loss

    def _propose(self) -> Architecture | None:
        """A new feasible architecture, or None if all were proposed."""
        if len(self._proposed) == len(self._feasible):
            return None
        for attempt in range(_MOST_TRIES):
            begins = len(self._proposed) < self._initial or not self._told
            if attempt == 0 and len(self._proposed) < self._cut_down:
                child: Architecture | None = self._from_largest()
            elif begins or self._rng.random() < self._share_random:
                child = self._near_limit.sample(self._rng, 1)[0]
            else:
                child = self._child()
            if child is not None and child not in self._proposed and child in self._feasible:
                return child
        return self._any_left()

    def _from_largest(self) -> Architecture | None:
        """The largest architecture, made smaller along random axes until it meets the budget."""
        space = self._feasible.space
        largest = space.corners()[-1]
        return fit_to_budget(space, largest, self._feasible.__contains__, self._rng)

    def _child(self) -> Architecture | None:
        space = self._feasible.space
        ranked = sorted(self._told, key=lambda found: (self._told[found], found))[: self._parents]
        # Linear ranking (Baker 1985): the best parent is drawn most often, the last one rarely.
        weights = np.arange(len(ranked), 0, -1, dtype=np.float64)
        first, second = self._rng.choice(len(ranked), size=2, p=weights / weights.sum())
        child = ranked[first]
        if self._rng.random() < self._share_crossed:
            child = cross(space, child, ranked[second], self._rng)
        child = mutate(space, child, self._rng)
        if self._rng.random() < self._share_fitted:
            return fit_to_budget(space, child, self._feasible.__contains__, self._rng)
        return child

    def _any_left(self) -> Architecture:
        """Some feasible architecture that was not proposed."""
        # One more than were proposed must hold a new one.
        drawn = self._feasible.sample(self._rng, len(self._proposed) + 1)
        return next(found for found in drawn if found not in self._proposed)
