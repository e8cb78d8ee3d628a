"""Latency as a sum of cost terms, each with a price that is not negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.values import mapping, number
from device_profiles.measurements import HIGHEST_LATENCY_MS
from predictor.correction import Correction
from predictor.features import COST_TERMS, RELUCTANCE, FloatMatrix, cost_terms
from predictor.robust import believed
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]


_FEWEST_ROWS_OF_A_TERM = 3

# Terms were added behind these.
_TERMS_OF_VERSION_1 = 15

# A row of leverage one decides its own prediction; what a fit without it would say, nobody knows.
_LEAST_REST = 0.2


def _price(value: object) -> float:
    price = number(value, lowest=0)
    if price > HIGHEST_LATENCY_MS:
        raise ValueError(f"{price:g} ms is no price")
    return price


@dataclass(frozen=True)
class CostTermRegressor:
    """A linear model on `COST_TERMS`, fitted to relative errors, robustly.

    Prices that are not negative make latency grow with every size, keep it positive, and leave
    most terms out where rows are few: no strength of regularisation has to be chosen.

    Attributes:
        prices_ms: `[K]`, milliseconds for one unit of each term.
    """

    prices_ms: FloatVector

    @classmethod
    def fit(cls, architectures: IntMatrix, latency_ms: FloatVector) -> Self:
        """Fits the prices.

        Args:
            architectures: int64 `[N, 5]`.
            latency_ms: `[N]`, positive.
        """
        return cls.fit_believed(architectures, latency_ms)[0]

    @classmethod
    def fit_believed(
        cls, architectures: IntMatrix, latency_ms: FloatVector
    ) -> tuple[Self, npt.NDArray[np.bool_]]:
        """Fits the prices, and says which rows were believed, bool `[N]`."""
        prices, kept = fit_prices(cost_terms(architectures), latency_ms, RELUCTANCE)
        return cls(prices), kept

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """Latencies in milliseconds, `[N]`, of architectures int64 `[N, 5]`."""
        return priced(cost_terms(architectures), self.prices_ms)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: the price of each term."""
        return dict(zip(COST_TERMS, self.prices_ms.tolist(), strict=True))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a regressor back, of version 1 of the schema, too.

        Raises:
            InputError: if it is not one.
        """
        if set(value) == set(COST_TERMS[:_TERMS_OF_VERSION_1]):
            value = {**dict.fromkeys(COST_TERMS, 0.0), **value}
        return cls(read_prices(value, COST_TERMS))


def fit_prices(
    terms: FloatMatrix, latency_ms: FloatVector, reluctance: FloatVector
) -> tuple[FloatVector, npt.NDArray[np.bool_]]:
    """Prices that are not negative, fitted to relative errors of the rows that are believed.

    Args:
        terms: `[N, K]`, none negative.
        latency_ms: `[N]`, positive.
        reluctance: `[K]`, see `features.RELUCTANCE`.

    Returns:
        The prices in milliseconds, `[K]`, and which rows were believed, bool `[N]`.
    """
    relative = terms / latency_ms[:, None]
    # Terms differ by seven orders of magnitude; the solver wants them alike.
    scales = np.sqrt((relative**2).mean(axis=0))
    # A term that a row or two have explains them whatever they say.
    present = (relative > 0).sum(axis=0) >= _FEWEST_ROWS_OF_A_TERM
    relative = relative[:, present] / scales[present]
    reluctance = reluctance[present]
    kept = believed(lambda weights: _left_out(relative, weights, reluctance), len(latency_ms))
    prices = np.zeros(len(present))
    prices[present] = _non_negative(relative, kept.astype(float), reluctance) / scales[present]
    return prices, kept


def priced(terms: FloatMatrix, prices_ms: FloatVector) -> FloatVector:
    """The sum of terms `[N, K]` times prices `[K]`, `[N]`.

    Term by term, so that a prediction is the same bit for bit whatever is predicted with it; a
    matrix product is not. Most prices are 0.
    """
    total = np.zeros(len(terms))
    for place in np.flatnonzero(prices_ms).tolist():
        total += prices_ms[place] * terms[:, place]
    return total


def read_prices(value: Mapping[str, Any], names: Sequence[str]) -> FloatVector:
    """Prices by the names of their terms, `[K]`.

    Raises:
        InputError: if there are others, or one is no price.
    """
    if set(value) != set(names):
        raise InputError(f"a sum of prices has the terms {', '.join(names)}")
    try:
        return np.array([_price(value[name]) for name in names])
    except (TypeError, ValueError) as error:
        raise InputError(f"a price is not a number: {error}") from error


def _non_negative(
    relative: FloatMatrix, weights: FloatVector, reluctance: FloatVector
) -> FloatVector:
    """Coefficients `[K]`, none negative, that make the rows of `relative @ c` nearly one."""
    # Solving needs scipy; a device or a search that only predicts does without it.
    from scipy.optimize import nnls

    roots = np.sqrt(weights)
    ridge = np.diag(np.sqrt(reluctance * weights.sum()))
    solution: FloatVector = nnls(
        np.vstack([relative * roots[:, None], ridge]), np.concatenate([roots, np.zeros(len(ridge))])
    )[0]
    return solution


def _left_out(relative: FloatMatrix, weights: FloatVector, reluctance: FloatVector) -> FloatVector:
    """How far each row is off a fit without it, `[N]`, to first order.

    A row that a fit follows because no other is near it looks right to that fit, however wrong.
    """
    prices = _non_negative(relative, weights, reluctance)
    active = relative[:, prices > 0]
    weighted = active * weights[:, None]
    solved = np.linalg.lstsq(weighted.T @ active, weighted.T, rcond=1e-12)[0]
    leverage = np.einsum("nk,kn->n", active, solved)
    residuals: FloatVector = (1 - relative @ prices) / np.maximum(1 - leverage, _LEAST_REST)
    return residuals


@dataclass(frozen=True)
class CorrectedRegressor:
    """Cost terms, times a smooth correction that is as large as the rows bear out.

    What a sum of prices misses (caches that fill up by degrees, kernels that like some sizes) is
    smooth in the logarithms of the sizes, and a per cent or two.

    Attributes:
        base: the cost terms.
        correction: of the logarithm of the latency.
    """

    base: CostTermRegressor
    correction: Correction

    @classmethod
    def fit(cls, architectures: IntMatrix, latency_ms: FloatVector) -> Self:
        """Fits the prices, then the correction to what they miss.

        Args:
            architectures: int64 `[N, 5]`.
            latency_ms: `[N]`, positive.
        """
        base, kept = CostTermRegressor.fit_believed(architectures, latency_ms)
        shapes = architectures[kept]
        missed = np.log(latency_ms[kept] / base.predict(shapes))
        return cls(base, Correction.fit(shapes, missed))

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """Latencies in milliseconds, `[N]`, of architectures int64 `[N, 5]`."""
        factor = np.exp(self.correction.predict(architectures))
        latency_ms: FloatVector = self.base.predict(architectures) * factor
        return latency_ms

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"prices_ms": self.base.to_json(), "correction": self.correction.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a regressor back.

        Raises:
            InputError: if it is not one.
        """
        if set(value) != {"prices_ms", "correction"}:
            raise InputError("a corrected regressor has prices_ms and a correction")
        try:
            parts = mapping(value["prices_ms"]), mapping(value["correction"])
        except ValueError as error:
            raise InputError(f"no corrected regressor: {error}") from error
        return cls(CostTermRegressor.from_json(parts[0]), Correction.from_json(parts[1]))
