"""How good a measurement is: the label, percentiles, slow blocks, verdicts.

Functions of plain numbers and arrays, so that anyone's measurements can be judged.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["ok", "noisy", "rejected"]

PERCENTILES = (50, 90, 95, 99)

# Fewer visits in a block say nothing about the machine: their own scatter dominates.
_FEWEST_VISITS_TO_JUDGE_A_BLOCK = 5

# Blocks are compared with the quietest quarter, so that most of a campaign may be slow.
_QUIET_QUANTILE = 0.25

_POLISHING_PASSES = 10

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]


def quiet_latency(visit_minima: Sequence[float], visits: int) -> float:
    """The label: the expected minimum of `visits` of these visits.

    The minimum over k visits, averaged over all subsets of k. A plain minimum falls with the
    number of visits, so configurations measured more often would look faster; the average over
    subsets has the same expectation however many visits there are, and only grows steadier.

    Args:
        visit_minima: the fastest run of each visit, in any unit.
        visits: k.

    Returns:
        The label, in the same unit.

    Raises:
        ValueError: if there are fewer than k visits.
    """
    ordered = sorted(visit_minima)
    count = len(ordered)
    if count < visits:
        raise ValueError(f"{visits} visits are needed, not {count}")
    # The i-th smallest is the minimum of every subset that draws the others from those above it.
    subsets = [math.comb(count - rank, visits - 1) for rank in range(1, count - visits + 2)]
    total = math.comb(count, visits)
    return sum(m * n for m, n in zip(ordered, subsets, strict=False)) / total


@functools.cache
def samples_needed(percentile: int, confidence: float = 0.99) -> int:
    """The fewest independent runs from which a percentile may be reported.

    With that many, at most one run lies above the percentile with a probability of at most
    1 - confidence (MLPerf LoadGen's early stopping, with one run over allowed).

    Args:
        percentile: from 1 to 99.
        confidence: between 0 and 1.
    """
    share = percentile / 100
    count = 2
    # share**n + n (1 - share) share**(n - 1), the chance of at most one run above.
    while share**count + count * (1 - share) * share ** (count - 1) > 1 - confidence:
        count += 1
    return count


def percentiles(runs: Sequence[float]) -> dict[int, float | None]:
    """The percentiles of all accepted runs; None for those that need more runs than there are."""
    values = np.asarray(runs, dtype=np.float64)
    return {
        percentile: float(np.percentile(values, percentile))
        if len(values) >= samples_needed(percentile)
        else None
        for percentile in PERCENTILES
    }


def block_factors(
    configuration_of_visit: IntVector, block_of_visit: IntVector, visit_minima: FloatVector
) -> dict[int, float]:
    """How much slower than quiet blocks each block of visits was.

    One neighbouring reference measurement is too noisy to divide by; all configurations of a
    block together are not.

    Args:
        configuration_of_visit: `[V]`, which configuration a visit measured.
        block_of_visit: `[V]`, which block it belongs to.
        visit_minima: `[V]`, its fastest run.

    Returns:
        For each block, its effect relative to that of quiet blocks; 1.0 where too few of its
        visits can be compared with others.
    """
    # Tukey's median polish of log latency = configuration + block: neither a configuration that
    # fell into slow blocks twice nor one lucky visit bends the other effects.
    times_seen = np.bincount(configuration_of_visit)
    comparable = times_seen[configuration_of_visit] > 1
    _, configuration = np.unique(configuration_of_visit[comparable], return_inverse=True)
    blocks, block = np.unique(block_of_visit[comparable], return_inverse=True)
    residual = np.log(visit_minima[comparable])
    effects = np.zeros(len(blocks))
    for _ in range(_POLISHING_PASSES):
        residual -= group_medians(residual, configuration)[configuration]
        medians = group_medians(residual, block)
        residual -= medians[block]
        effects += medians
    judged = np.bincount(block, minlength=len(blocks)) >= _FEWEST_VISITS_TO_JUDGE_A_BLOCK
    factors = dict.fromkeys(np.unique(block_of_visit).tolist(), 1.0)
    if judged.any():
        quiet = np.quantile(effects[judged], _QUIET_QUANTILE)
        ratios = np.exp(effects[judged] - quiet)
        factors.update(zip(blocks[judged].tolist(), ratios.tolist(), strict=True))
    return factors


def group_medians(values: FloatVector, group: IntVector) -> FloatVector:
    """The median of each group's values; groups are numbered from 0 without gaps."""
    order = np.lexsort((values, group))
    counts = np.bincount(group)
    starts = np.cumsum(counts) - counts
    ordered = values[order]
    low, high = ordered[starts + (counts - 1) // 2], ordered[starts + counts // 2]
    medians: FloatVector = (low + high) / 2
    return medians


@dataclass(frozen=True)
class Judgement:
    """The verdict on a row, and its reasons with the remedy in words."""

    verdict: Verdict
    reason: str = ""


def judge(
    accepted_minima: Sequence[float], *, visits: int, agreement: float, rejected_visits: int = 0
) -> Judgement:
    """Judges one row by its accepted visits.

    The state that the label describes must have been seen twice: one fast visit among slow ones
    may be the only quiet one, or a fluke.

    Args:
        accepted_minima: the fastest run of each accepted visit.
        visits: how many the label needs.
        agreement: how far apart, relatively, the two fastest may lie.
        rejected_visits: how many more there were that fell into slow blocks.
    """
    if len(accepted_minima) < visits:
        why = f"{len(accepted_minima)} of {visits} visits accepted"
        if rejected_visits:
            why += f", {rejected_visits} fell into slow blocks: stop other work on the machine"
        else:
            why += ": give the campaign more time"
        return Judgement("rejected", why)
    fastest, second = sorted(accepted_minima)[:2] if visits > 1 else (accepted_minima[0],) * 2
    gap = second / fastest - 1
    if gap > agreement:
        return Judgement(
            "noisy",
            f"its two fastest visits differ by {gap:.1%}: measure on a quieter machine",
        )
    return Judgement("ok")
