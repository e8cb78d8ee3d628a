"""The search loop: architectures are proposed, scored once, and the scores told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autotinybert.values import mapping, number, text
from search.evolution import Searcher
from supernet.architecture import Architecture
from supernet.score import HeldOutScore


@dataclass(frozen=True)
class Evaluation:
    """What an architecture scored.

    Attributes:
        architecture: the slice.
        score: its held-out loss.
        seconds: what scoring it took.
    """

    architecture: Architecture
    score: HeldOutScore
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "architecture": str(self.architecture),
            "terms": dict(self.score.terms),
            "seconds": round(self.seconds, 4),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Evaluation:
        """Reads it back.

        Raises:
            LookupError, TypeError, ValueError: if it is no such object.
        """
        return cls(
            Architecture.parse(text(value["architecture"])),
            HeldOutScore(_terms(value)),
            number(value["seconds"]),
        )


def _terms(value: Mapping[str, Any]) -> dict[str, float]:
    if "scores_loss" in value:  # as version 0.1 wrote it
        return {name: number(value[f"{name}_loss"]) for name in ("scores", "hidden")}
    return {text(name): number(found) for name, found in mapping(value["terms"]).items()}


Fitness = Callable[[Architecture], HeldOutScore]


def run_search(
    searcher: Searcher,
    fitness: Fitness,
    known: dict[Architecture, Evaluation],
    *,
    evaluations: int,
    batch_size: int = 8,
    clock_s: Callable[[], float] = time.monotonic,
    on_evaluation: Callable[[Evaluation], None] = lambda _: None,
) -> tuple[list[Evaluation], str]:
    """Asks for architectures, scores those that are not known yet, and tells.

    What is known is not scored again; told in the same order it leads to the same path, so a
    search that was stopped goes on as if it had not been.

    Args:
        searcher: proposes.
        fitness: scores.
        known: scores from before; new ones are added.
        evaluations: architectures to propose.
        batch_size: asked for at a time.
        clock_s: reads seconds.
        on_evaluation: told of every new score.

    Returns:
        What was proposed, in order, and why it ended.
    """
    proposed: list[Evaluation] = []
    while len(proposed) < evaluations:
        asked = searcher.ask(min(batch_size, evaluations - len(proposed)))
        if not asked:
            return proposed, "every feasible architecture was evaluated"
        for architecture in asked:
            if architecture not in known:
                started_s = clock_s()
                score = fitness(architecture)
                known[architecture] = Evaluation(architecture, score, clock_s() - started_s)
                on_evaluation(known[architecture])
            proposed.append(known[architecture])
            searcher.tell(architecture, known[architecture].score.loss)
    return proposed, f"{evaluations} evaluations"
