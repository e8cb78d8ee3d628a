"""What a mixture of lengths costs: the mean, and a percentile over runs of all lengths together.

Texts differ in length, so their latencies do. A percentile of the mixture is none of the
percentiles of its parts: it is where the runs of all parts that are faster make up the share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

FloatVector = npt.NDArray[np.float64]
FloatMatrix = npt.NDArray[np.float64]

# Where in the order of a workload's runs each statistic lies; nothing is faster than the quiet
# latency, more or less.
SHARES = {"quiet": 0.0, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

# Halvings of the range in which a percentile lies: to a millionth of it.
_HALVINGS = 20


def mixture_mean(weights: FloatVector, medians_ms: FloatMatrix) -> FloatVector:
    """The mean of the medians, `[N]`, of parts `[P, N]` that have weights `[P]`."""
    mean: FloatVector = (weights / weights.sum()) @ medians_ms
    return mean


def mixture_percentile(
    weights: FloatVector,
    statistics_ms: Sequence[Mapping[str, FloatVector]],
    share: float,
) -> FloatVector:
    """A percentile over the runs of all parts together.

    Between the statistics of a part its runs are spread evenly; beyond the highest they are as
    slow as that.

    Args:
        weights: `[P]`, how many runs each part has.
        statistics_ms: of each part, `[N]` milliseconds by the name of the statistic.
        share: of the runs that are at most as slow, between 0 and 1.

    Returns:
        Milliseconds, `[N]`.
    """
    weights = weights / weights.sum()
    parts = []
    for found in statistics_ms:
        names = sorted(found, key=SHARES.__getitem__)
        shares = np.array([SHARES[name] for name in names])
        # A model may predict a p90 below a p50 by a hair; runs in order never are.
        parts.append((shares, np.maximum.accumulate(np.stack([found[name] for name in names]))))
    low = np.min([values[0] for _, values in parts], axis=0)
    high = np.max([values[-1] for _, values in parts], axis=0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = np.zeros(len(middle))
        for weight, (shares, values) in zip(weights.tolist(), parts, strict=True):
            below += weight * _share_within(shares, values, middle)
        enough = below >= share
        high = np.where(enough, middle, high)
        low = np.where(enough, low, middle)
    return np.asarray(high, dtype=np.float64)


def _share_within(shares: FloatVector, values: FloatMatrix, limit: FloatVector) -> FloatVector:
    """The share of a part's runs that take at most `limit` `[N]`; `values` are `[S, N]`."""
    within = np.where(limit >= values[-1], 1.0, 0.0)
    for place in range(len(shares) - 1):
        lower, upper = values[place], values[place + 1]
        inside = (limit >= lower) & (limit < upper)
        along = (limit - lower) / np.maximum(upper - lower, 1e-300)
        step = shares[place + 1] - shares[place]
        within = np.where(inside, shares[place] + np.clip(along, 0.0, 1.0) * step, within)
    return within
