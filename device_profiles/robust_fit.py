"""A robust fit of log latency on whatever numeric columns a file has.

No knowledge of what the columns mean: standardised logs, then their squares and products where
these predict better. Rows that are off, whole stretches of them, must not bend the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_profiles.quality import FloatVector

FloatMatrix = npt.NDArray[np.float64]

# Ridge penalties, relative to the number of rows.
_RIDGES = (1e-4, 1e-2)

# Rows for each term, at least, and the most terms: enough for 16 columns with all their products.
_ROWS_PER_TERM = 4
_MOST_TERMS = 160

_ITERATIONS = 8

# Tukey's biweight, 95 % efficient where the noise is normal.
_BIWEIGHT = 4.685


@dataclass(frozen=True)
class Fit:
    """A fit's misfit, row by row.

    Attributes:
        residuals: `[N]`, each from a fit without that row.
        explained: share of the variance of the target that the fit explains, rows left out in
            turn, by robust measures of spread; at most 1, below 0 if a constant does better.
    """

    residuals: FloatVector
    explained: float


def fit_robustly(columns: FloatMatrix, target: FloatVector) -> Fit:
    """Fits a target, the terms chosen by how well they predict rows that were left out.

    Args:
        columns: `[N, P]`, none of them constant.
        target: `[N]`.
    """
    best = Fit(target - np.median(target), 0.0)
    usual = _spread(best.residuals)
    for terms in _term_sets(_standardised(_logs(columns)), target):
        for ridge in _RIDGES:
            residuals = _leave_one_out(terms, target, ridge)
            explained = 1 - (_spread(residuals) / usual) ** 2 if usual > 0 else 0.0
            # More terms must earn their keep.
            if 1 - explained < 0.95 * (1 - best.explained):
                best = Fit(residuals, explained)
    return best


def _spread(values: FloatVector) -> float:
    """Standard deviation by the middle two thirds, whatever the tails."""
    low, high = np.quantile(values, [1 / 6, 5 / 6])
    return float(high - low) / 1.935


def _logs(columns: FloatMatrix) -> FloatMatrix:
    """Logs of columns that are positive throughout; the others as they are."""
    positive = (columns > 0).all(axis=0)
    return np.where(positive, np.log(np.where(positive, columns, 1.0)), columns)


def _standardised(columns: FloatMatrix) -> FloatMatrix:
    centred = columns - columns.mean(axis=0)
    scale = centred.std(axis=0)
    kept = scale > 1e-12
    standardised: FloatMatrix = centred[:, kept] / scale[kept]
    return standardised


def _term_sets(columns: FloatMatrix, target: FloatVector) -> list[FloatMatrix]:
    """Columns; with squares; with products of those that matter most: as many as rows allow."""
    count, width = columns.shape
    room = min(count // _ROWS_PER_TERM, _MOST_TERMS)
    if width == 0 or room == 0:
        return []
    # What matters is read off a first fit, for neighbours in a file may be correlated.
    centred = target - np.median(target)
    gram = columns.T @ columns + 0.01 * count * np.eye(width)
    order = np.argsort(-np.abs(np.linalg.solve(gram, columns.T @ centred)), kind="stable")
    linear = columns[:, order[:room]]
    sets = [linear]
    matter = 0
    while matter < width and (matter + 1) * (matter + 2) // 2 + linear.shape[1] <= room:
        matter += 1
    if matter:
        first, second = np.triu_indices(matter)
        chosen = columns[:, order[:matter]]
        squares = chosen**2
        products = chosen[:, first] * chosen[:, second]
        sets += [np.hstack([linear, _standardised(more)]) for more in (squares, products)]
    return sets


def _leave_one_out(terms: FloatMatrix, target: FloatVector, ridge: float) -> FloatVector:
    """Residuals of a weighted ridge fit, each as if its row had not been fitted."""
    design = np.hstack([np.ones((len(terms), 1)), terms])
    penalty = ridge * len(terms) * np.eye(design.shape[1])
    penalty[0, 0] = 0.0
    weights = np.ones(len(target))
    residuals = target
    for _ in range(_ITERATIONS):
        weighted = design * weights[:, None]
        inverse = np.linalg.inv(weighted.T @ design + penalty + 1e-9 * np.eye(design.shape[1]))
        plain = target - design @ (inverse @ (weighted.T @ target))
        leverage = weights * np.einsum("ij,ij->i", design @ inverse, design)
        residuals = plain / np.maximum(1 - leverage, 0.05)
        centred = residuals - np.median(residuals)
        reach = _BIWEIGHT * max(1.4826 * float(np.median(np.abs(centred))), 1e-6)
        weights = np.maximum(1 - (centred / reach) ** 2, 0.0) ** 2
        weights = np.where(np.abs(centred) < reach, weights, 0.0) + 1e-3
    return residuals
