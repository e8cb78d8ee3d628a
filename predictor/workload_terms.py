"""Latency as a sum of cost terms in which the workload is one of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.values import integer, items, mapping
from predictor.correction import Correction
from predictor.features import CACHE_STEPS, COST_TERMS, RELUCTANCE, FloatMatrix, cost_terms
from predictor.regressors import fit_prices, priced, read_prices
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]

# More tokens or sequences than anything measures.
_LARGEST_WORKLOAD = 1 << 20

_CACHES = len(CACHE_STEPS)
_OF_TOKENS = COST_TERMS[:-_CACHES]

# Paid once a run, however many tokens it has: weights are read, operators are started.
_OF_RUNS = ("L*d*q", "L*d*f", "L*q", "L*f", "L*d", "L", "1", *COST_TERMS[-_CACHES:])

# Paid for every pair of tokens: attention scores.
_OF_PAIRS = ("L*q", "L*h", "L*h*a16")

WORKLOAD_TERMS = (
    *(f"tokens*{name}" for name in _OF_TOKENS),
    *(f"run*{name}" for name in _OF_RUNS),
    *(f"pairs*{name}" for name in _OF_PAIRS),
)
_RELUCTANCE = np.array(
    [
        *RELUCTANCE[:-_CACHES],
        *(RELUCTANCE[COST_TERMS.index(name)] for name in _OF_RUNS),
        *(RELUCTANCE[COST_TERMS.index(name)] for name in _OF_PAIRS),
    ]
)


def with_workload(architectures: IntMatrix, sequence_length: int, batch_size: int) -> IntMatrix:
    """Architectures `[N, 5]` under one workload, as rows of `correction.FIELDS`, `[N, 7]`."""
    workload = np.tile(np.array([sequence_length, batch_size]), (len(architectures), 1))
    return np.hstack([architectures, workload])


def workload_terms(rows: IntMatrix) -> FloatMatrix:
    """The terms of `WORKLOAD_TERMS`, `[N, K]`, of rows of `correction.FIELDS`, int64 `[N, 7]`."""
    terms = cost_terms(rows[:, :5])
    length, batch = rows[:, 5].astype(np.float64), rows[:, 6].astype(np.float64)
    tokens, pairs = length * batch, length * length * batch
    places = {name: place for place, name in enumerate(COST_TERMS)}
    return np.stack(
        [
            *(terms[:, places[name]] * tokens for name in _OF_TOKENS),
            *(terms[:, places[name]] for name in _OF_RUNS),
            *(terms[:, places[name]] * pairs for name in _OF_PAIRS),
        ],
        axis=1,
    )


@dataclass(frozen=True)
class WorkloadRegressor:
    """Cost terms of architectures and workloads, times a smooth correction.

    Attributes:
        prices_ms: `[K]`, milliseconds for one unit of each of `WORKLOAD_TERMS`.
        correction: of the logarithm of the latency.
    """

    prices_ms: FloatVector
    correction: Correction

    @classmethod
    def fit(cls, rows: IntMatrix, latency_ms: FloatVector) -> Self:
        """Fits the prices, then the correction to what they miss.

        Args:
            rows: of `correction.FIELDS`, int64 `[N, 7]`.
            latency_ms: `[N]`, positive.
        """
        terms = workload_terms(rows)
        prices, kept = fit_prices(terms, latency_ms, _RELUCTANCE)
        missed = np.log(latency_ms[kept] / priced(terms[kept], prices))
        return cls(prices, Correction.fit(rows[kept], missed))

    def predict(self, rows: IntMatrix) -> FloatVector:
        """Latencies in milliseconds, `[N]`, of rows of `correction.FIELDS`, int64 `[N, 7]`."""
        factor = np.exp(self.correction.predict(rows))
        latency_ms: FloatVector = priced(workload_terms(rows), self.prices_ms) * factor
        return latency_ms

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "prices_ms": dict(zip(WORKLOAD_TERMS, self.prices_ms.tolist(), strict=True)),
            "correction": self.correction.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a regressor back.

        Raises:
            InputError: if it is not one.
        """
        if set(value) != {"prices_ms", "correction"}:
            raise InputError("a regressor of workloads has prices_ms and a correction")
        try:
            parts = mapping(value["prices_ms"]), mapping(value["correction"])
        except ValueError as error:
            raise InputError(f"no regressor of workloads: {error}") from error
        return cls(read_prices(parts[0], WORKLOAD_TERMS), Correction.from_json(parts[1]))


# What the model of all workloads is called beside the others of one of them.
ALL_WORKLOADS = "all-workloads"


@dataclass(frozen=True)
class AtWorkload:
    """The model of all workloads under one of them.

    Attributes:
        regressor: of all workloads.
        sequence_length: of this one.
        batch_size: of this one.
    """

    regressor: WorkloadRegressor
    sequence_length: int
    batch_size: int

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """Latencies in milliseconds, `[N]`, of architectures int64 `[N, 5]`."""
        rows = with_workload(architectures, self.sequence_length, self.batch_size)
        return self.regressor.predict(rows)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        workload = [self.sequence_length, self.batch_size]
        return {"workload": workload, **self.regressor.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads it back.

        Raises:
            InputError: if it is none.
        """
        rest = dict(value)
        try:
            length, batch = items(rest.pop("workload", None), _workload_size)
        except ValueError as error:
            raise InputError(f"no workload of a model of all of them: {error}") from error
        return cls(WorkloadRegressor.from_json(rest), length, batch)


def _workload_size(value: object) -> int:
    return integer(value, lowest=1, highest=_LARGEST_WORKLOAD)
