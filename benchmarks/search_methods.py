"""Evolution against random search and the paper's fast rule, on a trained SuperPLM.

    python -m benchmarks.search_methods SUPERNET PREDICTOR [BUDGET_MS]

The folders are those of the demo, for example. Printed is the lowest held-out loss found after 20,
40 and 60 evaluations, for three seeds of each method; architectures are scored once for all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from predictor.store import load_predictor
from search.evaluation import Evaluation, run_search
from search.feasible import feasible_set
from search.fitness import slice_fitness
from search.searching import METHODS, make_searcher, searched_space
from supernet.architecture import Architecture
from supernet.space import fast_rule
from supernet.supernet_folder import load_supernet

_EVALUATIONS = 60
_CHECKPOINTS = (20, 40, 60)
_SEEDS = (0, 1, 2)


def main() -> None:
    """Prints a row for each method and seed."""
    supernet = load_supernet(Path(sys.argv[1]))
    (part,) = load_predictor(Path(sys.argv[2])).slices
    limit_ms = float(sys.argv[3]) if len(sys.argv) > 3 else 8.0
    space = searched_space(supernet, None)
    fitness = slice_fitness(supernet, sequences=128)
    known: dict[Architecture, Evaluation] = {}
    print(f"p50 of at most {limit_ms:g} ms; lowest held-out loss after {_CHECKPOINTS} evaluations")
    for method in METHODS:
        fast = method == "fast"
        feasible = feasible_set(
            space,
            part,
            limit_ms,
            statistic="p50",
            rule=fast_rule if fast else None,
            rule_name=method if fast else "",
        )
        for seed in _SEEDS:
            proposed, _ = run_search(
                make_searcher(method, feasible, seed=seed),
                fitness,
                known,
                evaluations=_EVALUATIONS,
            )
            lowest = np.minimum.accumulate([found.score.loss for found in proposed])
            best = min(proposed, key=lambda found: found.score.loss).architecture
            figures = "  ".join(
                f"{lowest[min(count, len(lowest)) - 1]:.3f}" for count in _CHECKPOINTS
            )
            print(f"{method:<8} seed {seed}  {figures}  {best}")


if __name__ == "__main__":
    main()
