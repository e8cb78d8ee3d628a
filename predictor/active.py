"""What to measure next, and how far off a predictor is for shapes that nobody measured.

Both rest on the linear model of `predictor.features`: each row is divided by the latency that is
predicted for it, so that variances are of relative errors, and each column is scaled alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from predictor.correction import LogSizes
from predictor.features import FloatMatrix, cost_terms
from predictor.fitting import ModelFitter, assign_folds, held_out_predictions
from predictor.model import outside_range
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]
BoolVector = npt.NDArray[np.bool_]

# With fewer rows there is no telling how good a fit is.
FEWEST_ROWS = 10

# The variance of labels and misfit, over what a column's share of the latency may vary by before
# anything is measured. With it, a dozen rows say something about two dozen columns.
_RIDGE = 1e-3

# The correction's polynomials vary far less than the prices do, and less the higher their degree.
_CORRECTION_DEGREE = 3
_CORRECTION_STRENGTH = 1.5
_CORRECTION_DECAY = 0.6

# Folds are drawn anew so often: a row's error depends on which others were left out with it.
_REPEATS = 3

# Standard errors by which a promise lies above the mean of held-out errors. A campaign stops at the
# first promise that is low enough, which is more often a lucky one than not.
_CAUTION = 1.0

# Errors are not all alike, and a few rows may happen to be without the large ones: where they look
# better than this, so many more rows of this error are thought to be there.
_SOBER_ERROR = 0.01
_SOBER_ROWS = 30

# What no price and no smooth correction tells, over the variance of what more rows would: it is the
# same for the rows and for the space.
_MISFIT = 1.0

# A row of leverage one decides its own prediction; its held-out error is of an extrapolation.
_LEAST_REST = 0.2


def choose_shapes(
    measured: IntMatrix,
    latency_ms: FloatVector,
    candidates: IntMatrix,
    count: int,
    fit: ModelFitter,
    *,
    free: BoolVector | None = None,
) -> IntVector:
    """The candidates to measure next: those that tell most about all of them.

    One after the other, each the one that most reduces the mean predictive variance over the
    candidates, given those chosen before it (an I-optimal design, made greedily).

    Args:
        measured: int64 `[N, 5]`, N at least 1.
        latency_ms: `[N]`, positive.
        candidates: int64 `[M, 5]`, spread over the space as the shapes that will be asked for.
        count: how many to choose.
        fit: fits a model.
        free: `[M]`, which candidates may be chosen; those not measured, if it is left out.

    Returns:
        `[count]` row numbers of `candidates`, the most telling first; fewer if there are no more.
    """
    known, asked = _design(measured, latency_ms, candidates, fit)
    free = ~_among(candidates, measured) if free is None else free.copy()
    covariance = _covariance(known)
    chosen: list[int] = []
    for _ in range(min(count, int(free.sum()))):
        turned = asked @ covariance
        variances = 1 + np.einsum("mk,mk->m", turned, asked)
        moments = asked.T @ asked / len(asked)
        gains = np.einsum("mk,kl,ml->m", turned, moments, turned, optimize=True) / variances
        best = int(np.argmax(np.where(free, gains, -np.inf)))
        chosen.append(best)
        free[best] = False
        covariance = covariance - np.outer(turned[best], turned[best]) / variances[best]
    return np.array(chosen, dtype=np.int64)


def promised_error(
    architectures: IntMatrix,
    latency_ms: FloatVector,
    candidates: IntMatrix,
    fit: ModelFitter,
) -> float:
    """The mean absolute relative error to expect for fresh shapes of the space.

    Rows that were held out say how far off the recipe is. Where a plan measures what is known
    least about, those rows lie further out than the space does: each error counts as a model
    without that row would be off for the space, by the ratio of predictive deviations.

    Args:
        architectures: int64 `[N, 5]`; those outside the range of the candidates are fitted, but
            their errors do not count.
        latency_ms: `[N]`, positive.
        candidates: int64 `[M, 5]`, spread over the space as the shapes that will be asked for.
        fit: fits a model.

    Returns:
        A share; infinite with fewer than `FEWEST_ROWS` rows in the space.
    """
    inside = ~outside_range(architectures, candidates.min(axis=0), candidates.max(axis=0))
    if inside.sum() < FEWEST_ROWS:
        return float("inf")
    errors = np.zeros(len(latency_ms))
    for seed in range(_REPEATS):
        folds = assign_folds(architectures, seed=seed)
        held_out_ms = held_out_predictions(fit, architectures, latency_ms, folds)
        errors += np.abs(held_out_ms / latency_ms - 1) / _REPEATS
    known, asked = _design(architectures, latency_ms, candidates, fit)
    covariance = _covariance(known)
    leverages = np.einsum("nk,kl,nl->n", known, covariance, known, optimize=True)
    variances = np.einsum("mk,kl,ml->m", asked, covariance, asked, optimize=True)
    reach = np.sqrt(_MISFIT + 1 + variances).mean()
    held_out = np.sqrt(_MISFIT + 1 / np.clip(1 - leverages, _LEAST_REST, 1))
    counted = (errors / held_out)[inside] * reach
    rows = len(counted)
    sobered = (counted.sum() + _SOBER_ROWS * _SOBER_ERROR) / (rows + _SOBER_ROWS)
    mean = max(counted.mean(), sobered)
    return float(mean + _CAUTION * counted.std(ddof=1) / np.sqrt(rows))


def _design(
    measured: IntMatrix, latency_ms: FloatVector, candidates: IntMatrix, fit: ModelFitter
) -> tuple[FloatMatrix, FloatMatrix]:
    """Rows of the linear model, `[N, K]` and `[M, K]`, in units of the noise."""
    predicted_ms = fit(measured, latency_ms).predict(candidates)
    known = cost_terms(measured) / latency_ms[:, None]
    # A first fit may be far off at the rim of the space; a latency of nothing it must not be.
    asked = cost_terms(candidates) / np.maximum(predicted_ms, latency_ms.min() / 10)[:, None]
    scales = np.sqrt((asked**2).mean(axis=0))
    present = scales > 0
    scales = scales[present] * np.sqrt(_RIDGE)
    sizes = LogSizes.of(candidates)
    degrees = np.array([sum(each) for each in sizes.powers(_CORRECTION_DEGREE)])
    deviations = _CORRECTION_STRENGTH * _CORRECTION_DECAY**degrees

    def rows(shapes: IntMatrix, terms: FloatMatrix) -> FloatMatrix:
        correction = sizes.polynomials(shapes, _CORRECTION_DEGREE).T
        return np.hstack([terms[:, present] / scales, correction * deviations])

    return rows(measured, known), rows(candidates, asked)


def _covariance(known: FloatMatrix) -> FloatMatrix:
    """Of the coefficients, given rows `[N, K]`: `[K, K]`, the identity without any."""
    precision = known.T @ known + np.eye(known.shape[1])
    return np.asarray(np.linalg.inv(precision), dtype=np.float64)


def _among(shapes: IntMatrix, others: IntMatrix) -> BoolVector:
    """Which shapes are among others, `[M]`."""
    known = set(map(tuple, others.tolist()))
    return np.array([tuple(shape) in known for shape in shapes.tolist()], dtype=np.bool_)
