"""Statistics of a verification, and one-sided confidence bounds for them.

Visits are the independent units: runs of one visit share a process, a memory layout and a minute,
and would pretend to far more evidence than there is. Everything is done on logarithms, because
noise multiplies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from scipy.special import ndtri, stdtrit

from device_profiles.quality import quiet_latency, samples_needed

# The chance that a bound holds.
CONFIDENCE = 0.95

# The timed runs of one visit, in any unit.
Runs = Sequence[float]

_Unit = TypeVar("_Unit")


def percentile_of(statistic: str) -> int | None:
    """The percentile that a statistic is: 50 of `p50`; None of `quiet`."""
    return None if statistic == "quiet" else int(statistic.removeprefix("p"))


def runs_needed(statistic: str) -> int:
    """The fewest runs from which a statistic may be reported."""
    percentile = percentile_of(statistic)
    return 1 if percentile is None else samples_needed(percentile)


def value_of(statistic: str, visits: Sequence[Runs], *, label_visits: int) -> float | None:
    """A statistic of some visits; None if they or their runs are too few.

    Args:
        statistic: `quiet`, or a percentile over all runs, `p50` for example.
        visits: the runs of each visit.
        label_visits: visits in the quiet latency, k.
    """
    if len(visits) < label_visits or sum(map(len, visits)) < runs_needed(statistic):
        return None
    return math.exp(_log_value(statistic, visits, label_visits))


def upper_bound(statistic: str, visits: Sequence[Runs], *, label_visits: int) -> float:
    """What a statistic is at most, with a confidence of `CONFIDENCE`.

    Args:
        statistic: `quiet` or a percentile.
        visits: the runs of each visit, at least k + 1 of them.
        label_visits: visits in the quiet latency, k.
    """

    def log_value(chosen: Sequence[Runs]) -> float:
        return _log_value(statistic, chosen, label_visits)

    margin = _margin(statistic, visits, log_value, label_visits)
    return math.exp(log_value(visits) + margin)


def speedup_lower_bound(
    statistic: str, reference: Sequence[Runs], visits: Sequence[Runs], *, label_visits: int
) -> float:
    """How many times as fast as a reference something is at least.

    Args:
        statistic: `quiet` or a percentile.
        reference: the runs of each visit of the reference.
        visits: the runs of each visit of what is compared with it; the i-th of both were made
            in the same round, so that what slowed both cancels.
        label_visits: visits in the quiet latency, k.
    """
    pairs = list(zip(reference, visits, strict=True))

    def log_ratio(chosen: Sequence[tuple[Runs, Runs]]) -> float:
        above, below = ([pair[side] for pair in chosen] for side in (0, 1))
        return _log_value(statistic, above, label_visits) - _log_value(
            statistic, below, label_visits
        )

    margin = _margin(statistic, pairs, log_ratio, label_visits)
    return math.exp(log_ratio(pairs) - margin)


def _log_value(statistic: str, visits: Sequence[Runs], label_visits: int) -> float:
    percentile = percentile_of(statistic)
    if percentile is None:
        return math.log(quiet_latency([min(runs) for runs in visits], label_visits))
    return math.log(np.percentile(np.concatenate(visits), percentile))


def _margin(
    statistic: str,
    units: Sequence[_Unit],
    log_value: Callable[[Sequence[_Unit]], float],
    label_visits: int,
) -> float:
    """How far a bound lies from the estimate, as a logarithm.

    The standard error is the delete-one jackknife's, with Student's t. For the quiet latency, a
    smooth function of the visits, that is right; since it rests on the fastest few of them, t has
    k - 1 degrees of freedom, not n - 1, which keeps the coverage where the noise is skewed.

    A percentile is no smooth function of the visits, and its jackknife alone covers as little as
    85 % where visits differ more than runs do. There each visit's own percentile is a sample of
    size n, and its standard deviation times the factor of a normal sample's percentile is the
    standard error; the larger of the two counts. The tests show the coverage by simulation.
    """
    count = len(units)
    percentile = percentile_of(statistic)
    left_out = [log_value([*units[:index], *units[index + 1 :]]) for index in range(count)]
    error = math.sqrt((count - 1) * float(np.var(left_out)))
    if percentile is None:
        return error * float(stdtrit(max(label_visits - 1, 1), CONFIDENCE))
    share = percentile / 100
    quantile = float(ndtri(share))
    density = math.exp(-(quantile**2) / 2) / math.sqrt(2 * math.pi)
    own = [log_value([unit]) for unit in units]
    own_error = float(np.std(own, ddof=1)) / math.sqrt(count)
    own_error *= math.sqrt(share * (1 - share)) / density
    return max(error, own_error) * float(stdtrit(count - 1, CONFIDENCE))
