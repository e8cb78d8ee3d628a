"""Cuts a series into segments of constant level.

The machine's state is constant for a while and then changes. So the series is cut where that
lowers the squared error by more than a penalty for each segment, solved exactly (Jackson et al.
2005, "An algorithm for optimal partitioning of data on an interval"), after outliers were drawn in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from device_profiles.quality import FloatVector, IntVector

# A stretch of fewer rows is a few spikes.
SHORTEST_STRETCH = 5

# Of a change of level, in units of the noise's variance, times log of the number of rows. Set by
# simulation (benchmarks/drift_detection.py): fewer than 1 % of series without drift are cut.
_PENALTY = 3.0

# A median of 7 rows sees every stretch of four and no spike of three.
_WINDOW = 7

# Rows further than this many standard deviations from their surroundings are drawn in to it.
_DRAWN_IN_TO = 3.0

# Differences below it are of no interest, so noise below it need not be resolved: 0.1 %.
_LEAST_NOISE = 1e-3

# Longer series are cut at every second, third, ... row only: the exact solution is quadratic.
_MOST_CUTS = 4000


@dataclass(frozen=True, kw_only=True)
class Levels:
    """A series as segments of constant level.

    Attributes:
        edges: `[S + 1]`, where each segment starts, and the number of rows.
        levels: `[S]`, the mean of each, outliers drawn in.
        noise: standard deviation of a row about its level, widened where neighbours go together.
        autocorrelation: of neighbouring rows, about the levels.
    """

    edges: IntVector
    levels: FloatVector
    noise: float
    autocorrelation: float

    @property
    def of_rows(self) -> FloatVector:
        """The level of every row, `[N]`."""
        return np.repeat(self.levels, np.diff(self.edges))

    def noticed(self, rows: int) -> float:
        """The smallest relative slow-down of a stretch of so many rows that is cut out."""
        count = int(self.edges[-1])
        share = max(1 - rows / count, 0.5)
        penalty = 2 * change_penalty(count)
        return math.expm1(self.noise * math.sqrt(penalty / (rows * share)))

    def quiet(self, share: float, tolerance: float) -> float:
        """The level below which at least this share of rows lies, levels near it averaged."""
        rows = np.diff(self.edges)
        order = np.argsort(self.levels, kind="stable")
        at = np.searchsorted(np.cumsum(rows[order]), share * rows.sum())
        near = np.abs(self.levels - self.levels[order[at]]) <= tolerance
        return float(np.average(self.levels[near], weights=rows[near]))


def change_penalty(rows: int) -> float:
    """What a segment costs in a series of so many rows, in units of the noise's variance."""
    return _PENALTY * math.log(rows)


def lag_one_autocorrelation(residuals: FloatVector) -> float:
    """Correlation of neighbouring residuals, spikes drawn in: 0 for a machine that holds still."""
    centre = np.median(residuals)
    reach = _DRAWN_IN_TO * max(1.4826 * float(np.median(np.abs(residuals - centre))), _LEAST_NOISE)
    return _neighbour_correlation(np.clip(residuals - centre, -reach, reach))


def _neighbour_correlation(values: FloatVector) -> float:
    centred = values - values.mean()
    total = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / total if total > 0 else 0.0


def segment_levels(log_residuals: FloatVector) -> Levels:
    """Cuts a series into segments of constant level; at least 7 rows."""
    values, noise = without_outliers(log_residuals)
    edges = _partition(values, noise)
    correlation = 0.0
    for _ in range(2):
        sums = np.add.reduceat(values, edges[:-1])
        levels = sums / np.diff(edges)
        rest = values - np.repeat(levels, np.diff(edges))
        correlation = _neighbour_correlation(rest)
        # Means of rows that go together vary more than those of independent rows.
        together = min(correlation, 0.8) if correlation > 2 / math.sqrt(len(values)) else 0.0
        widened = noise * math.sqrt((1 + together) / (1 - together))
        again = _partition(values, widened) if together else edges
        if len(again) == len(edges):
            break
        edges = again
    sums = np.add.reduceat(values, edges[:-1])
    return Levels(
        edges=edges, levels=sums / np.diff(edges), noise=widened, autocorrelation=correlation
    )


def without_outliers(log_residuals: FloatVector) -> tuple[FloatVector, float]:
    """The series with outliers drawn in to their surroundings, and its noise."""
    differences = np.abs(np.diff(log_residuals))
    scale = max(1.4826 * float(np.median(differences)) / math.sqrt(2), _LEAST_NOISE)
    half = _WINDOW // 2
    padded = np.pad(log_residuals, half, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, _WINDOW), axis=1)
    reach = _DRAWN_IN_TO * scale
    values = np.clip(log_residuals, around - reach, around + reach)
    # A heavy tail adds to the variance even when drawn in. Steps must not: they are few, and cut.
    differences = np.minimum(np.abs(np.diff(values)), 4 * math.sqrt(2) * scale)
    noise = math.sqrt(float(np.mean(differences**2)) / 2)
    return values, max(noise, _LEAST_NOISE)


def _partition(values: FloatVector, noise: float) -> IntVector:
    """Edges of the segments that minimise squared error plus a penalty for each segment."""
    count = len(values)
    step = -(-count // _MOST_CUTS)
    cuts = np.append(np.arange(0, count - count % step - step + 1, step), count)
    shortest = -(-SHORTEST_STRETCH // step)
    penalty = change_penalty(count)
    scaled = (values - np.median(values)) / noise
    sums = np.append(0.0, np.cumsum(scaled))[cuts]
    # A segment costs its sum of squares less sum**2 / rows; the former is the same in total.
    best = np.full(len(cuts), np.inf)
    best[0] = 0.0
    came_from = np.zeros(len(cuts), dtype=np.int64)
    for end in range(shortest, len(cuts)):
        starts = slice(0, end - shortest + 1)
        gain = (sums[end] - sums[starts]) ** 2 / (cuts[end] - cuts[starts])
        costs = best[starts] - gain
        came_from[end] = int(np.argmin(costs))
        best[end] = costs[came_from[end]] + penalty
    edges = [len(cuts) - 1]
    while edges[-1] > 0:
        edges.append(int(came_from[edges[-1]]))
    return cuts[edges[::-1]]
