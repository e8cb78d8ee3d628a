"""A new device from a handful of shapes: the fit, how good it is, and whether to rely on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from predictor.features import cost_terms
from predictor.regressors import CostTermRegressor
from predictor.transfer_fit import KnownDevice, TransferFit, fit_likeliest
from predictor.transfer_prior import GROUPS, FloatVector, group_sums
from supernet.architecture import IntMatrix

# With fewer, the products, the rest and the noise cannot be told apart.
FEWEST_SHAPES = 3

# A known device resembles the new one if rows that were left out are predicted this well.
RESEMBLES_WITHIN = 0.06

# The plain fit is no rival below: rows are left out one by one, and a fit of few says nothing.
_FEWEST_FOR_PLAIN = 5

# A group below this share of the latency, here or there, has no factor worth naming.
_LEAST_SHARE = 0.02


@dataclass(frozen=True)
class Transfer:
    """A new device, fitted with the help of a known one, and whether to rely on that.

    Attributes:
        fit: the fit; its `known` is the device that helped most.
        factors: what each group of terms costs, as a multiple of what it costs on the known device,
            for groups that matter on both.
        rows: how many rows were measured.
        mape: mean absolute percentage error of shapes that were left out, as a share.
        plain_mape: the same of a fit to the rows alone; None with too few shapes for one.
        resembles: whether a known device was of use.
        verdict: that in words.
    """

    fit: TransferFit
    factors: Mapping[str, float]
    rows: int
    mape: float
    plain_mape: float | None
    resembles: bool
    verdict: str


def fit_transfer(
    known: Sequence[KnownDevice],
    architectures: IntMatrix,
    latency_ms: FloatVector,
    *,
    typical: IntMatrix | None = None,
) -> Transfer:
    """Fits a new device to a few of its rows, with the known device that explains them best.

    Args:
        known: one device or more.
        architectures: int64 `[N, 5]`, 3 different shapes or more, best those that
            `choose_transfer_shapes` names.
        latency_ms: `[N]`, positive.
        typical: int64 `[M, 5]`, shapes that will be asked for, which the spread is a mean over;
            those that were measured if None, which makes it a little small.

    Raises:
        InputError: if no device is known, or fewer than 3 different shapes were measured.
    """
    if not known:
        raise InputError("no known device: name a predictor to transfer from")
    _, shape_of_row = np.unique(architectures, axis=0, return_inverse=True)
    shape_of_row = shape_of_row.reshape(-1)
    shapes = len(np.unique(shape_of_row))
    if shapes < FEWEST_SHAPES:
        raise InputError(
            f"a transfer needs {FEWEST_SHAPES} different shapes of the new device, not {shapes}: "
            "measure more"
        )
    asked_for = architectures if typical is None else typical
    fit = fit_likeliest(known, architectures, latency_ms, typical=asked_for)
    mape, plain_mape = _left_out_errors(known, architectures, latency_ms, shape_of_row)
    rival = plain_mape if shapes >= _FEWEST_FOR_PLAIN else None
    factors = _group_factors(fit, architectures)
    resembles = mape <= RESEMBLES_WITHIN and (rival is None or mape <= rival)
    error = f"shapes that were left out are predicted within {mape:.1%} in the mean of {shapes}"
    if rival is not None:
        error += f", by a fit to the others alone within {rival:.1%}"
    return Transfer(
        fit=fit,
        factors=factors,
        rows=len(latency_ms),
        mape=mape,
        plain_mape=rival,
        resembles=resembles,
        verdict=_verdict(fit.known.name, len(known), error, factors, resembles=resembles),
    )


def _left_out_errors(
    known: Sequence[KnownDevice],
    architectures: IntMatrix,
    latency_ms: FloatVector,
    shape_of_row: npt.NDArray[np.int64],
) -> tuple[float, float]:
    """Errors of shapes left out one at a time: with the known devices, and without."""
    predicted = np.empty((2, len(latency_ms)))
    for shape in np.unique(shape_of_row):
        out = shape_of_row == shape
        rows, values, asked_for = architectures[~out], latency_ms[~out], architectures[out]
        fits = (
            fit_likeliest(known, rows, values, typical=asked_for),
            CostTermRegressor.fit(rows, values),
        )
        predicted[:, out] = [fit.predict(asked_for) for fit in fits]
    mape, plain_mape = np.abs(predicted / latency_ms - 1).mean(axis=1).tolist()
    return mape, plain_mape


def _group_factors(fit: TransferFit, architectures: IntMatrix) -> dict[str, float]:
    """What a group costs over what it costs on the known device, where it matters on both."""
    terms = cost_terms(architectures)
    # Each shape counts alike: the slowest is no better an example than the others.
    known_ms = terms @ fit.known.prices_ms
    old, new = (
        group_sums((terms * prices_ms / known_ms[:, None]).mean(axis=0))
        for prices_ms in (fit.known.prices_ms, fit.prices_ms)
    )
    matters = (old >= _LEAST_SHARE * old.sum()) & (new >= _LEAST_SHARE * new.sum())
    return {GROUPS[index]: float(new[index] / old[index]) for index in np.flatnonzero(matters)}


def _verdict(
    name: str, num_known: int, error: str, factors: Mapping[str, float], *, resembles: bool
) -> str:
    """The result in a sentence or two."""
    if resembles:
        parts = ", ".join(f"{group} x {factor:.2f}" for group, factor in factors.items())
        return f"it resembles {name}: {error}; what it takes of the time there: {parts}"
    nobody = f"{name} does not resemble this device"
    if num_known > 1:
        nobody = f"no known device resembles this one ({name} comes nearest)"
    return f"{nobody}: {error}; measure 20 shapes or more and fit them alone"
