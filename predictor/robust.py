"""Which rows a fit should not believe, whatever the fit is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]

# A row that is so many deviations off, and this much, is no row of this machine in its quiet state.
# What the noise of labels and the misfit of models explain is far less.
_DEVIATIONS = 6.0
_LEAST_OFF = 0.06

# No label is better than this.
_LEAST_DEVIATION = 0.003

# Of fits that are drawn to the middle of the rows, and of fits without what is off.
_DRAWING_FITS = 8
_REJECTING_FITS = 8


def deviation(residuals: FloatVector) -> float:
    """The standard deviation of residuals by their median, so that a third may be wild."""
    return max(1.4826 * float(np.median(np.abs(residuals))), _LEAST_DEVIATION)


def far_off(residuals: FloatVector) -> BoolVector:
    """Which relative residuals are further off than noise and misfit explain, `[N]`."""
    limit = max(_DEVIATIONS * deviation(residuals), _LEAST_OFF)
    found: BoolVector = np.abs(residuals) > limit
    return found


def believed(residuals_of: Callable[[FloatVector], FloatVector], rows: int) -> BoolVector:
    """Which rows are believed: a fit to these finds no other one near.

    Rows are believed wholly or not at all, so a fit to good rows is what it would be without any
    of this.

    Args:
        residuals_of: fits with weights `[N]` and returns all residuals `[N]`, relative.
        rows: N.
    """
    residuals = residuals_of(np.ones(rows))
    if not far_off(residuals).any() and np.abs(residuals).max() < _LEAST_OFF:
        return np.ones(rows, dtype=np.bool_)
    # The first fit is bent by bad rows. Weights that fall with the residual (those of a fit of
    # least absolute deviations) straighten it before any row is given up.
    for _ in range(_DRAWING_FITS):
        residuals = residuals_of(_LEAST_DEVIATION / np.maximum(np.abs(residuals), _LEAST_DEVIATION))
    kept = ~far_off(residuals)
    for _ in range(_REJECTING_FITS):
        again = ~far_off(residuals_of(kept.astype(np.float64)))
        if (again == kept).all():
            break
        kept = again
    return kept
