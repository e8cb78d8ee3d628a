"""A smooth correction of log latency: polynomials of the log sizes, shrunk by evidence.

A Gaussian process whose kernel is a sum over polynomials (Legendre, of the log sizes, total degree
up to three), of which higher degrees are believed less. Its strength, its smoothness and the noise
are those of highest marginal likelihood (Rasmussen and Williams, 5.4), so with few rows it is
nothing. Unlike a kernel over rows it predicts in the time that a polynomial takes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.values import items, number
from supernet.architecture import ARCHITECTURE_FIELDS, IntMatrix

FloatVector = npt.NDArray[np.float64]
FloatMatrix = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]

# What a row may consist of: an architecture, or an architecture and its workload.
FIELDS = (*ARCHITECTURE_FIELDS, "sequence_length", "batch_size")

MAX_DEGREE = 3

# Of the constant's standard deviation, of what a degree more leaves of it, and of the noise: what
# is chosen from.
_STRENGTHS = (0.0015, 0.003, 0.006, 0.012, 0.024)
_DECAYS = (0.3, 0.5, 0.7)
_NOISES = (0.002, 0.004, 0.006, 0.009, 0.014, 0.02)

# A correction of more than this would say that the cost terms are wrong.
_MOST = 0.3

# Half the distance of the logs of neighbouring integers is more, however large they are.
_LEAST_HALF = 1e-6

# Columns whose logs go together as closely as this tell nothing apart.
_TIED = 0.999


@dataclass(frozen=True)
class LogSizes:
    """The log sizes that vary, each scaled to -1..1 over the rows that were fitted.

    Attributes:
        columns: `[P]`, which of `FIELDS`.
        middles: `[P]`, of the logarithm.
        halves: `[P]`, half the range of the logarithm, above 0.
    """

    columns: IntVector
    middles: FloatVector
    halves: FloatVector

    @classmethod
    def of(cls, architectures: IntMatrix) -> Self:
        """Those of rows `[N, 5]` or `[N, 7]` that vary, without those that another one tells."""
        logs = np.log(architectures)
        low, high = logs.min(axis=0), logs.max(axis=0)
        kept: list[int] = []
        for column in np.flatnonzero(high > low).tolist():
            tied = [abs(np.corrcoef(logs[:, column], logs[:, other])[0, 1]) for other in kept]
            if max(tied, default=0.0) < _TIED:
                kept.append(column)
        columns = np.array(kept, dtype=np.int64)
        return cls(columns, ((low + high) / 2)[columns], ((high - low) / 2)[columns])

    def powers(self, degree: int) -> list[tuple[int, ...]]:
        """The degrees in each size of every polynomial up to a total degree."""
        every = itertools.product(range(degree + 1), repeat=len(self.columns))
        return sorted((each for each in every if sum(each) <= degree), key=lambda e: (sum(e), e))

    def polynomials(self, architectures: IntMatrix, degree: int) -> FloatMatrix:
        """Products of Legendre polynomials, `[T, N]`, in the order of `powers`."""
        count = len(architectures)
        single = np.empty((len(self.columns), degree + 1, count))
        for place, column in enumerate(self.columns.tolist()):
            x = np.log(architectures[:, column].astype(np.float64))
            x -= self.middles[place]
            x /= self.halves[place]
            single[place, 0] = 1.0
            if degree >= 1:
                single[place, 1] = x
            for n in range(1, degree):  # Bonnet's recursion
                above = (2 * n + 1) * x * single[place, n] - n * single[place, n - 1]
                single[place, n + 1] = above / (n + 1)
        powers = self.powers(degree)
        found = np.empty((len(powers), count))
        for row, degrees in enumerate(powers):
            factors = [single[place, n] for place, n in enumerate(degrees) if n]
            found[row] = factors[0] if factors else 1.0
            for factor in factors[1:]:
                found[row] *= factor
        return found

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: middle and half range by the name of the field."""
        names = [FIELDS[column] for column in self.columns.tolist()]
        ranges = zip(self.middles.tolist(), self.halves.tolist(), strict=True)
        return {name: list(values) for name, values in zip(names, ranges, strict=True)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads them back.

        Raises:
            ValueError, TypeError: if they are none.
        """
        places = [FIELDS.index(name) for name in value]
        if places != sorted(places):
            raise ValueError("the sizes are not in order")
        ranges = [items(pair, lambda each: number(each)) for pair in value.values()]
        if any(
            len(pair) != 2 or not _LEAST_HALF <= pair[1] <= 20 or abs(pair[0]) > 20
            for pair in ranges
        ):
            raise ValueError("a size has no range")
        found = np.array(ranges, dtype=np.float64).reshape(len(ranges), 2)
        return cls(np.array(places, dtype=np.int64), found[:, 0], found[:, 1])


@dataclass(frozen=True)
class Correction:
    """What to add to the log of a latency.

    Attributes:
        sizes: the log sizes.
        coefficients: `[T]`, of the polynomials up to `MAX_DEGREE`.
    """

    sizes: LogSizes
    coefficients: FloatVector

    @classmethod
    def fit(cls, architectures: IntMatrix, missed: FloatVector) -> Self:
        """Fits it to what a model missed.

        Args:
            architectures: int64 `[N, 5]`; `[N, 7]` with the workload.
            missed: `[N]`, log(measured / modelled).
        """
        sizes = LogSizes.of(architectures)
        polynomials = sizes.polynomials(architectures, MAX_DEGREE)
        degrees = np.array([sum(each) for each in sizes.powers(MAX_DEGREE)])
        best, chosen = -np.inf, np.zeros(len(degrees))
        for strength, decay in itertools.product(_STRENGTHS, _DECAYS):
            deviations = strength * decay**degrees
            # One decomposition serves every noise.
            left, singular, right = np.linalg.svd(
                polynomials * deviations[:, None], full_matrices=False
            )
            turned = right @ missed
            beside = max(float(missed @ missed - turned @ turned), 0.0)
            for noise in _NOISES:
                variances = singular**2 + noise**2
                misfit = float((turned**2 / variances).sum()) + beside / noise**2
                volume = float(np.log(variances).sum())
                volume += (len(missed) - len(singular)) * math.log(noise**2)
                if -(misfit + volume) > best:
                    best = -(misfit + volume)
                    chosen = deviations * (left @ (singular * turned / variances))
        return cls(sizes, chosen)

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """The correction of each row, `[N]`; of int64 `[N, 5]`, or `[N, 7]`."""
        polynomials = self.sizes.polynomials(architectures, MAX_DEGREE)
        found = np.zeros(len(architectures))
        for coefficient, values in zip(self.coefficients.tolist(), polynomials, strict=True):
            found += coefficient * values  # no matrix product: see `CostTermRegressor.predict`
        return np.clip(found, -_MOST, _MOST, out=found)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"sizes": self.sizes.to_json(), "coefficients": self.coefficients.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a correction back.

        Raises:
            InputError: if it is none.
        """
        try:
            sizes = LogSizes.from_json(value["sizes"])
            coefficients = np.array(items(value["coefficients"], number), dtype=np.float64)
            if len(coefficients) != len(sizes.powers(MAX_DEGREE)):
                raise ValueError(f"{len(coefficients)} coefficients")
            if not (np.abs(coefficients) <= _MOST).all():
                raise ValueError("a coefficient is no correction")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"no correction of a regressor: {error}") from error
        return cls(sizes, coefficients)
