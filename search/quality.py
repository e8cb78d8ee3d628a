"""The fastest model within a quality, instead of the best within a budget.

How much a shape loses once it is trained further is known only afterwards. So speed-ups over the
teacher are tried on a ladder, by bisection: at each rung the best shape is searched, verified to be
so fast, trained and scored on the user's labels; the next rung is faster if it lost no more than was
allowed, and slower otherwise. Text, profile, predictor and SuperPLM are shared by all rungs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autotinybert.errors import InputError
from search.candidates import Try
from search.constraints import Budget
from search.pipeline import WholePath
from search.task_scores import load_scores

# Times as fast as the teacher. Half a rung of speed is worth less than an hour of training.
LADDER = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)


@dataclass(frozen=True)
class Rung:
    """What became of one speed-up.

    Attributes:
        speedup: times as fast as the teacher, at least.
        path: what was searched and verified there.
        tries: what was verified, in order.
        score_drop: points that the shipped file scores below the teacher; None if nothing passed
            its verification.
        holds: whether that is within what is allowed.
    """

    speedup: float
    path: WholePath
    tries: Sequence[Try]
    score_drop: float | None
    holds: bool

    @property
    def is_undecided(self) -> bool:
        """Whether the machine did not let it be told."""
        return bool(self.tries) and self.tries[-1].outcome == "undecided"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        last = self.tries[-1] if self.tries else None
        return {
            "speedup": self.speedup,
            "architecture": str(last.candidate.architecture) if last else None,
            "outcome": last.outcome if last else "failed",
            "score_drop": self.score_drop,
            "holds": self.holds,
        }


@dataclass(frozen=True)
class Climb:
    """All rungs that were tried, in order.

    Attributes:
        rungs: at least one.
    """

    rungs: Sequence[Rung]

    @property
    def best(self) -> Rung:
        """The fastest that holds; where none does, the last that was tried."""
        holding = [rung for rung in self.rungs if rung.holds]
        return max(holding, key=lambda rung: rung.speedup) if holding else self.rungs[-1]

    @property
    def tries(self) -> Sequence[Try]:
        """What was verified at the best rung; nothing, if none holds."""
        return self.best.tries if self.best.holds or self.best.is_undecided else ()


def climb(path: WholePath, *, ladder: Sequence[float] = LADDER) -> Climb:
    """Finds the fastest rung at which the model loses no more than its request allows.

    Args:
        path: the whole; its request has `max_score_drop`.
        ladder: speed-ups over the teacher, rising.

    Raises:
        InputError: if no rung is reachable.
        WorkError: if a stage failed.
    """
    path.measure()
    reachable = _reachable(path, ladder)
    path.train()
    rungs = bisect(reachable, lambda part: _try(path, part))
    return Climb(rungs)


def bisect(parts: Sequence[WholePath], attempt: Callable[[WholePath], Rung]) -> list[Rung]:
    """Tries parts, slow to fast, until the fastest that holds is known or one is undecided."""
    rungs: list[Rung] = []
    slow, fast = -1, len(parts)  # the one holds, the other does not
    while fast - slow > 1:
        middle = (slow + fast) // 2
        rungs.append(attempt(parts[middle]))
        if rungs[-1].is_undecided:
            break
        if rungs[-1].holds:
            slow = middle
        else:
            fast = middle
    return rungs


def _reachable(path: WholePath, ladder: Sequence[float]) -> list[WholePath]:
    """A part of the path for every rung that some shape reaches by its prediction."""
    parts: list[WholePath] = []
    for speedup in ladder:
        part = path.part(f"speedup-{speedup:g}", _budget(path, speedup))
        try:
            part.check_reachable()
        except InputError:
            if not parts:
                raise
            break
        parts.append(part)
    return parts


def _budget(path: WholePath, speedup: float) -> Budget:
    return dataclasses.replace(path.request.budget, max_latency_ms=None, min_speedup=speedup)


def _try(path: WholePath, part: WholePath) -> Rung:
    limit = path.request.max_score_drop
    assert limit is not None
    tries = part.find()
    drop = None
    if tries and tries[-1].outcome == "passed":
        drop = float(load_scores(tries[-1].folder)["score_drop"])
    speedup = part.request.budget.min_speedup
    assert speedup is not None
    return Rung(speedup, part, tries, drop, holds=drop is not None and drop <= limit)
