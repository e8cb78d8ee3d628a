"""Latency as a sum of cost terms, each with a price that is not negative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.values import number
from device_profiles.measurements import HIGHEST_LATENCY_MS
from predictor.features import COST_TERMS, cost_terms
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]


def _price(value: object) -> float:
    price = number(value, lowest=0)
    if price > HIGHEST_LATENCY_MS:
        raise ValueError(f"{price:g} ms is no price")
    return price


@dataclass(frozen=True)
class CostTermRegressor:
    """A linear model on `COST_TERMS`, fitted to relative errors.

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
        # Solving needs scipy; a device or a search that only predicts does without it.
        from scipy.optimize import nnls

        relative = cost_terms(architectures) / latency_ms[:, None]
        # Terms differ by seven orders of magnitude; the solver wants them alike.
        scales = np.sqrt((relative**2).mean(axis=0))
        prices, _ = nnls(relative / scales, np.ones(len(latency_ms)))
        return cls(prices / scales)

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """Latencies in milliseconds, `[N]`, of architectures int64 `[N, 5]`."""
        latency_ms: FloatVector = cost_terms(architectures) @ self.prices_ms
        return latency_ms

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: the price of each term."""
        return dict(zip(COST_TERMS, self.prices_ms.tolist(), strict=True))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a regressor back.

        Raises:
            InputError: if it is not one.
        """
        if set(value) != set(COST_TERMS):
            raise InputError(f"a cost-term regressor has the terms {', '.join(COST_TERMS)}")
        try:
            return cls(np.array([_price(value[term]) for term in COST_TERMS]))
        except (TypeError, ValueError) as error:
            raise InputError(f"a price is not a number: {error}") from error
