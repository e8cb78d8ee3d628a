"""Drift: rows that were measured while the machine was in a slower state.

Works on residuals of log latency in the order in which they were measured: what is left of each
row once its configuration is accounted for. Nothing is drawn at random: the same series gives the
same answer.
"""

from __future__ import annotations

import functools
import math
import statistics
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from device_profiles.quality import FloatVector, IntVector, group_medians
from device_profiles.segments import (
    SHORTEST_STRETCH,
    Levels,
    change_penalty,
    segment_levels,
    without_outliers,
)

BoolVector = npt.NDArray[np.bool_]

# Squared normal scores that a stretch must have beyond 2 log N, the best of N stretches by chance.
_CHANCE = 9.0

# Rows above this quantile tell how heavy the tail is; a spike must be beyond what the tail of a
# series without spikes reaches in all but this share of series.
_TAIL_STARTS_AT = 0.8
_SPIKE_FALSE_ALARMS = 0.002

# Two quantiles of a few dozen rows make light tails look heavy about half of the time.
_TAIL_MARGIN = 0.1

_POLISHING_PASSES = 6

Kind = Literal["slow stretch", "ramp", "spike"]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Consecutive rows that are off.

    Attributes:
        kind: `slow stretch` (a step), `ramp` (rising or falling) or `spike` (a row on its own).
        first: the first row, from 0.
        last: the last row.
        excess: how much slower than quiet rows on average, relative; negative for a spike of a
            row that is too fast.
        begins: the excess at the first row, along a straight line through the rows.
        ends: the same at the last row.
    """

    kind: Kind
    first: int
    last: int
    excess: float
    begins: float
    ends: float


def slow_stretches(
    log_residuals: FloatVector, *, smallest_shift: float = 0.05, quiet_share: float = 0.25
) -> BoolVector:
    """Which rows were measured in a slower state than the others.

    Args:
        log_residuals: `[N]`, in the order measured: log latency less what is usual for the row's
            configuration. The noise may be of any scale, with a heavy upper tail.
        smallest_shift: relative slow-down below which a stretch is of no interest.
        quiet_share: share of rows that is in the quiet state at least; the others may be slow.

    Returns:
        `[N]`, true in stretches of at least `SHORTEST_STRETCH` rows, ramps and upward spikes.

    Raises:
        ValueError: if a residual is not finite.
    """
    found = find_drift(log_residuals, smallest_shift=smallest_shift, quiet_share=quiet_share)
    slow = np.zeros(len(log_residuals), dtype=np.bool_)
    for drift in found:
        if drift.excess > 0:
            slow[drift.first : drift.last + 1] = True
    return slow


def find_drift(
    log_residuals: FloatVector,
    *,
    smallest_shift: float = 0.05,
    quiet_share: float = 0.25,
    smallest_spike: float = 0.10,
) -> list[Drift]:
    """What `slow_stretches` marks, one by one, and rows that are too fast; in order.

    Args:
        log_residuals: `[N]`, as for `slow_stretches`.
        smallest_shift: as for `slow_stretches`.
        quiet_share: as for `slow_stretches`.
        smallest_spike: relative slow-down below which a row on its own is of no interest; one that
            is too fast must be twice as far off.

    Raises:
        ValueError: if a residual is not finite.
    """
    if not np.isfinite(log_residuals).all():
        raise ValueError("residuals must be finite: leave out rows without a latency")
    if len(log_residuals) < 2 * SHORTEST_STRETCH:
        return []
    segments = segment_levels(log_residuals)
    threshold = math.log1p(smallest_shift)
    excess = segments.levels - segments.quiet(quiet_share, threshold / 2)
    above_quiet = log_residuals - (segments.levels - excess)[0]
    ranges = [
        _trimmed(above_quiet, first, last, threshold / 2)
        for first, last in _slow_ranges(segments, excess, threshold)
    ]
    found = [
        _describe(above_quiet, first, last, segments.noise)
        for first, last in _beyond_chance(log_residuals, ranges)
    ]
    inside = np.zeros(len(log_residuals), dtype=np.bool_)
    for drift in found:
        inside[drift.first : drift.last + 1] = True
    found += [
        Drift(kind="spike", first=row, last=row, excess=size, begins=size, ends=size)
        for row, size in _spikes(log_residuals - segments.of_rows, math.log1p(smallest_spike))
        if not inside[row]
    ]
    return sorted(found, key=lambda drift: drift.first)


def slow_visits(
    configuration_of_visit: IntVector, visit_minima: FloatVector, *, smallest_shift: float = 0.05
) -> BoolVector:
    """Which visits of a campaign were made while the machine was in a slower state.

    Each configuration is compared with itself: its own latency is the median of its visits, less
    the level of the machine at each of them, in turn until both stand still.

    Args:
        configuration_of_visit: `[V]`, what each visit measured, visits in the order made.
        visit_minima: `[V]`, its fastest run, in any unit.
        smallest_shift: relative slow-down below which a stretch is of no interest.

    Returns:
        `[V]`. A configuration visited once is marked where the visits around it are.
    """
    slow = np.zeros(len(visit_minima), dtype=np.bool_)
    if len(visit_minima) == 0:
        return slow
    comparable = np.flatnonzero(np.bincount(configuration_of_visit)[configuration_of_visit] > 1)
    if len(comparable) < 2 * SHORTEST_STRETCH:
        return slow
    _, configuration = np.unique(configuration_of_visit[comparable], return_inverse=True)
    latency = np.log(visit_minima[comparable])
    level = np.zeros(len(latency))
    residual = level
    for _ in range(_POLISHING_PASSES):
        residual = latency - group_medians(latency - level, configuration)[configuration]
        before, level = level, segment_levels(residual).of_rows
        if np.allclose(before, level, atol=1e-4):
            break
    for drift in find_drift(residual, smallest_shift=smallest_shift):
        # One slow visit does not move a minimum over several.
        if drift.kind != "spike":
            slow[comparable[drift.first] : comparable[drift.last] + 1] = True
    return slow


def _slow_ranges(segments: Levels, excess: FloatVector, threshold: float) -> list[tuple[int, int]]:
    """First and last row of neighbouring segments that are slow together.

    A segment that is half as slow counts where it touches a slow one: so a ramp begins.
    """
    ranges = []
    half, start = excess >= threshold / 2, 0
    while start < len(excess):
        end = start
        while end < len(excess) and half[end]:
            end += 1
        if (excess[start:end] >= threshold).any():
            ranges.append((int(segments.edges[start]), int(segments.edges[end]) - 1))
        start = end + 1
    return ranges


def _trimmed(above_quiet: FloatVector, first: int, last: int, least: float) -> tuple[int, int]:
    """The range without quiet rows at its ends, too few to be a segment of their own."""
    for _ in range(SHORTEST_STRETCH - 1):
        if last - first >= SHORTEST_STRETCH:
            first += int(above_quiet[first] < least)
            last -= int(above_quiet[last] < least)
    return first, last


def _beyond_chance(
    log_residuals: FloatVector, ranges: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The ranges whose rows rank above the quiet ones further than the best of all by chance.

    Least squares takes a few rows from a skewed tail for a step; ranks know no tail (van der
    Waerden's normal scores).
    """
    quiet = np.ones(len(log_residuals), dtype=np.bool_)
    for first, last in ranges:
        quiet[first : last + 1] = False
    kept = []
    for first, last in ranges:
        rows = last - first + 1
        pool = np.concatenate([log_residuals[first : last + 1], log_residuals[quiet]])
        scores = _normal_scores(len(pool))
        ranks = np.argsort(np.argsort(pool, kind="stable"), kind="stable")[:rows]
        share = rows / len(pool)
        variance = rows * (1 - share) * float(scores @ scores) / (len(pool) - 1)
        total = float(scores[ranks].sum())
        if total > 0 and total**2 > variance * (2 * math.log(len(log_residuals)) + _CHANCE):
            kept.append((first, last))
    return kept


@functools.lru_cache(maxsize=16)
def _normal_scores(count: int) -> FloatVector:
    """What a normal distribution has at `count` equally likely ranks."""
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf((rank + 0.5) / count) for rank in range(count)])


def _describe(excess: FloatVector, first: int, last: int, noise: float) -> Drift:
    """A slow stretch, as a step or as a ramp."""
    values, _ = without_outliers(excess)
    inside = values[first : last + 1]
    position = np.arange(len(inside)) - (len(inside) - 1) / 2
    slope = float(position @ inside / (position @ position))
    level = float(inside.mean())
    rise = slope * (len(inside) - 1)
    significant = slope**2 * float(position @ position) > 2 * change_penalty(len(excess)) * noise**2
    return Drift(
        kind="ramp" if significant and abs(rise) > max(level / 2, 0.03) else "slow stretch",
        first=first,
        last=last,
        excess=math.expm1(level),
        begins=math.expm1(level - rise / 2),
        ends=math.expm1(level + rise / 2),
    )


def _spikes(rest: FloatVector, smallest: float) -> list[tuple[int, float]]:
    """Rows on their own that lie beyond the tail of the others, and how far, relatively."""
    found = []
    # Work elsewhere makes a row slower; a row that is a little too fast is a misfit.
    for sign, least in ((1.0, smallest), (-1.0, 2 * smallest)):
        beyond = sign * rest
        tail = np.quantile(beyond, _TAIL_STARTS_AT)
        excess = beyond[beyond > tail] - tail
        if len(excess) == 0:
            continue
        middle, outer = np.quantile(excess, [0.5, 0.9], method="lower").tolist()
        farthest = len(rest) * (1 - _TAIL_STARTS_AT) / _SPIKE_FALSE_ALARMS
        limit = max(tail + _tail_reaches(middle, outer, farthest), least)
        found += [(row, math.expm1(rest[row])) for row in np.flatnonzero(beyond > limit).tolist()]
    return found


def _tail_reaches(middle: float, outer: float, farthest: float) -> float:
    """What one in `farthest` rows of a tail exceeds, from its median and its 90 % quantile.

    A generalised Pareto tail, scale * (farthest**shape - 1) / shape; exponential at shape 0.
    """

    def reaches(shape: float, one_in: float) -> float:
        return math.expm1(shape * math.log(one_in))

    shape, step = 0.0, 0.01
    # The ratio of the two quantiles grows with the shape: 3.3 where exponential, 7 at shape 0.8.
    while shape < 0.8 and outer * reaches(shape + step, 2) > middle * reaches(shape + step, 10):
        shape += step
    shape = max(shape - _TAIL_MARGIN, 1e-6)
    beyond = reaches(shape, farthest)
    return max(middle * beyond / reaches(shape, 2), outer * beyond / reaches(shape, 10))
