"""A new device from a handful of shapes: the fit, how good it is, and whether to rely on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autotinybert.errors import InputError
from predictor.regressors import CostTermRegressor
from predictor.transfer_fit import TransferFit, fit_likeliest, fit_one
from predictor.transfer_prior import GROUPS, Composition, FloatVector, group_sums
from supernet.architecture import IntMatrix

# With fewer, the products, the rest and the noise cannot be told apart.
FEWEST_SHAPES = 3

# A fit whose predictions are expected to be further off than this is not to be relied on.
MOST_SPREAD = 0.1

# Shapes that are left out say little about a fit to the two or three others.
_FEWEST_TO_LEAVE_OUT = 5

# A group below this share of the latency, here or there, has no factor worth naming.
_LEAST_SHARE = 0.03


@dataclass(frozen=True)
class Transfer:
    """A new device, fitted with the help of a known one, and whether to rely on that.

    Attributes:
        fit: the fit; its `known` is the device that helped most.
        factors: what each group of terms costs, as a multiple of what it costs on the known device,
            for groups that matter on both.
        rows: how many rows were measured.
        mape: mean absolute percentage error of shapes that were left out, as a share; None with
            fewer than 5 shapes.
        plain_mape: the same of the same terms fitted to the other rows alone.
        odds: how much likelier the rows are by the known device than by nothing but what encoders
            spend their time on, as a logarithm.
        resembles: whether a known device was of use.
        verdict: that in words.
    """

    fit: TransferFit
    factors: Mapping[str, float]
    rows: int
    mape: float | None
    plain_mape: float | None
    odds: float
    resembles: bool
    verdict: str


def fit_transfer(
    known_ms: Mapping[str, FloatVector],
    typical: IntMatrix,
    architectures: IntMatrix,
    latency_ms: FloatVector,
) -> Transfer:
    """Fits a new device to a few of its rows, with the known device that explains them best.

    Args:
        known_ms: of each known device, by name, the latencies `[M]` of the typical shapes,
            predicted or measured.
        typical: int64 `[M, 5]`, the shapes that will be asked for, or a sample of them.
        architectures: int64 `[N, 5]`, 3 different shapes or more, best those that
            `choose_transfer_shapes` names.
        latency_ms: `[N]`, positive, on the new device.

    Raises:
        InputError: if no device is known, or fewer than 3 different shapes were measured.
    """
    known = take_apart(known_ms, typical)
    shapes, shape_of_row = np.unique(architectures, axis=0, return_inverse=True)
    if len(shapes) < FEWEST_SHAPES:
        raise InputError(
            f"a transfer needs {FEWEST_SHAPES} different shapes of the new device, not "
            f"{len(shapes)}: measure more"
        )
    fit = fit_likeliest(known, architectures, latency_ms)
    nothing = Composition.ordinary(typical, next(iter(known_ms.values())))
    odds = fit.log_evidence - fit_one(nothing, architectures, latency_ms).log_evidence
    mape = plain_mape = None
    if len(shapes) >= _FEWEST_TO_LEAVE_OUT:
        mape, plain_mape = _left_out_errors(
            known, architectures, latency_ms, shape_of_row.reshape(-1)
        )
    doubt = _doubt(odds, fit.spread, mape)
    factors = _group_factors(fit)
    return Transfer(
        fit=fit,
        factors=factors,
        rows=len(latency_ms),
        mape=mape,
        plain_mape=plain_mape,
        odds=odds,
        resembles=not doubt,
        verdict=_verdict(fit, len(known), factors, doubt, _errors_in_words(mape, plain_mape)),
    )


def take_apart(known_ms: Mapping[str, FloatVector], typical: IntMatrix) -> list[Composition]:
    """What each known device spends its time on.

    Raises:
        InputError: if there is none.
    """
    if not known_ms:
        raise InputError("no known device: name a predictor to transfer from")
    return [Composition.of(name, typical, found) for name, found in known_ms.items()]


def _left_out_errors(
    known: Sequence[Composition],
    architectures: IntMatrix,
    latency_ms: FloatVector,
    shape_of_row: IntMatrix,
) -> tuple[float, float]:
    """Errors of shapes left out one at a time: with the known devices, and without."""
    predicted = np.empty((2, len(latency_ms)))
    for shape in np.unique(shape_of_row):
        out = shape_of_row == shape
        rows, values = architectures[~out], latency_ms[~out]
        fits = fit_likeliest(known, rows, values), CostTermRegressor.fit(rows, values)
        predicted[:, out] = [fit.predict(architectures[out]) for fit in fits]
    mape, plain_mape = np.abs(predicted / latency_ms - 1).mean(axis=1).tolist()
    return mape, plain_mape


def _group_factors(fit: TransferFit) -> dict[str, float]:
    """What a group costs over what it costs on the known device, where it matters on both."""
    new, old = map(group_sums, fit.contributions)
    matters = (old >= _LEAST_SHARE * old.sum()) & (new >= _LEAST_SHARE * new.sum())
    return {GROUPS[index]: float(new[index] / old[index]) for index in np.flatnonzero(matters)}


def _doubt(odds: float, spread: float, mape: float | None) -> str:
    """Why the known device is of no use; empty if it is."""
    if odds <= 0:
        return "what was measured is no likelier by it than by nothing known"
    if spread > MOST_SPREAD:
        return f"predictions would be off by {spread:.0%}, where {MOST_SPREAD:.0%} is the most"
    if mape is not None and mape > MOST_SPREAD:
        return "it does not predict the shapes that are left out"
    return ""


def _errors_in_words(mape: float | None, plain_mape: float | None) -> str:
    if mape is None or plain_mape is None:
        return ""
    return (
        f"; shapes that were left out are predicted within {mape:.1%} in the mean, by a fit to "
        f"the others alone within {plain_mape:.1%}"
    )


def _verdict(
    fit: TransferFit, num_known: int, factors: Mapping[str, float], doubt: str, errors: str
) -> str:
    """The result in a sentence or two."""
    if not doubt:
        parts = ", ".join(f"{group} x {factor:.2f}" for group, factor in factors.items())
        return f"it resembles {fit.known}: {parts}; expected to be off by {fit.spread:.1%}{errors}"
    nobody = f"{fit.known} does not resemble this device"
    if num_known > 1:
        nobody = f"no known device resembles this one ({fit.known} comes nearest)"
    return f"{nobody}: {doubt}{errors}; measure 20 shapes or more and fit them alone"
