"""How good a measurement is: the label, percentiles, disturbed visits, slow blocks.

Functions of plain numbers and arrays, so that anyone's measurements can be judged.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

PERCENTILES = (50, 90, 95, 99)

# Runs of one visit share a process, a memory layout and a minute: they are one look at the machine,
# not many. Process minima differ by 4 %, as much as runs within one do, so a percentile also needs
# this many visits, from as many processes.
VISITS_FOR_PERCENTILES = 4

# `/proc/stat` counts steal in ticks of mostly 10 ms: one of them may have begun before the visit.
_STEAL_TICK_MS = 10.0

# Fewer visits in a block say nothing about the machine: their own scatter dominates.
_FEWEST_VISITS_TO_JUDGE_A_BLOCK = 5

# Blocks are compared with the quietest quarter, so that most of a campaign may be slow.
_QUIET_QUANTILE = 0.25

_POLISHING_PASSES = 10

# Without a trend, the ranks of six blocks seldom correlate so closely with time, of twelve hardly
# ever; a slow block must be there as well.
_FEWEST_BLOCKS_OF_A_TREND = 6
_THROTTLING_TREND = 0.85

_THROTTLING_RISE = 0.03

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


def label_deviation(visit_minima: Sequence[float], visits: int) -> float:
    """The standard deviation of a label relative to it, by leaving out each visit (jackknife).

    Args:
        visit_minima: the fastest run of each visit, in any unit.
        visits: k.

    Returns:
        A share; NaN with fewer than k + 1 visits.
    """
    count = len(visit_minima)
    if count <= visits:
        return math.nan
    label = quiet_latency(visit_minima, visits)
    without = np.array(
        [
            quiet_latency([*visit_minima[:index], *visit_minima[index + 1 :]], visits)
            for index in range(count)
        ]
    )
    variance = (count - 1) / count * float(((without - without.mean()) ** 2).sum())
    return math.sqrt(variance) / label


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


def percentiles(runs: Sequence[float], visits: int) -> dict[int, float | None]:
    """The percentiles of all accepted runs.

    Args:
        runs: of all accepted visits together.
        visits: how many visits, each of another process, they come from.

    Returns:
        By percentile; None for those that need more runs, or more visits, than there are.
    """
    values = np.asarray(runs, dtype=np.float64)
    return {
        percentile: float(np.percentile(values, percentile))
        if len(values) >= samples_needed(percentile) and visits >= VISITS_FOR_PERCENTILES
        else None
        for percentile in PERCENTILES
    }


def disturbance(
    *,
    timed_ns: int,
    waited_ns: int | None,
    steal_ms: float | None,
    most_waiting_share: float,
) -> Literal["", "load", "steal"]:
    """What took the core away during a visit, if it did for more than a share of the time.

    Args:
        timed_ns: how long the timed runs took.
        waited_ns: how long the thread that made them was ready but had no core; None if unknown.
        steal_ms: what the hypervisor took from a processor meanwhile; None if unknown.
        most_waiting_share: the share that is no disturbance yet; with 1 nothing is one.

    Returns:
        Empty for an undisturbed visit. Waiting that steal explains at least half of is steal.
    """
    if most_waiting_share >= 1:
        return ""
    most_ms = most_waiting_share * timed_ns / 1e6
    waited_ms = None if waited_ns is None else waited_ns / 1e6
    # Steal may have been another processor's: a thread that waited for nothing lost nothing.
    if waited_ms is not None and waited_ms <= most_ms:
        return ""
    stolen_ms = steal_ms or 0.0
    if stolen_ms > _STEAL_TICK_MS and stolen_ms > max(most_ms, (waited_ms or 0.0) / 2):
        return "steal"
    return "" if waited_ms is None else "load"


def is_throttling(factors: Sequence[float], rises: Sequence[float], slow_factor: float) -> bool:
    """Whether a machine of which nobody took the core grew slower as it worked.

    It is when blocks grow slower from first to last, or when runs do within the visits of the
    slow ones; slow blocks here and there are a neighbour or a clock that comes and goes.

    Args:
        factors: of each block, in time order, how much slower than quiet ones it was.
        rises: of each block, how much slower the second half of a visit's runs was than the
            first, relatively, in the median over its visits.
        slow_factor: above this factor a block is slow.
    """
    slow = [number for number, factor in enumerate(factors) if factor > slow_factor]
    if not slow:
        return False
    if float(np.median([rises[number] for number in slow])) > _THROTTLING_RISE:
        return True
    if len(factors) < _FEWEST_BLOCKS_OF_A_TREND:
        return False
    ranks = np.argsort(np.argsort(factors, kind="stable"), kind="stable")
    trend = float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])
    return trend > _THROTTLING_TREND


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
