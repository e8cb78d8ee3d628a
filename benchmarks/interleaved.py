"""Times callables in turn and reports ratios with their spread: the rule for every claim here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt


def interleaved_ms(
    callables: Sequence[Callable[[], object]], *, rounds: int, runs: int
) -> npt.NDArray[np.float64]:
    """The fastest of `runs` runs of each callable in each round, `[rounds, len(callables)]`."""
    fastest = np.empty((rounds, len(callables)))
    for round_number in range(rounds):
        for column, run in enumerate(callables):
            elapsed_ns = []
            for _ in range(runs):
                start_ns = time.perf_counter_ns()
                run()
                elapsed_ns.append(time.perf_counter_ns() - start_ns)
            fastest[round_number, column] = min(elapsed_ns) / 1e6
    return fastest


def ratio_summary(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> str:
    """The ratio first / second round by round: median and quartiles."""
    low, median, high = np.percentile(first / second, [25, 50, 75])
    return f"{median:.4f} (quartiles {low:.4f}..{high:.4f}, {len(first)} rounds)"
