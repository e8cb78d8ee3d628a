"""A latency predictor: for each workload and target that was measured, a model and its bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from device_profiles.measurements import Slice, describe_slice
from predictor.intervals import Spread
from predictor.lookup_table import LookupTable
from predictor.metrics import Accuracy
from predictor.regressors import CorrectedRegressor, CostTermRegressor
from supernet.architecture import ARCHITECTURE_FIELDS, IntMatrix

FloatVector = npt.NDArray[np.float64]

# The names of `--statistic`, and their columns.
STATISTIC_COLUMNS = {"quiet": "latency_ms", **{f"p{p}": f"p{p}_ms" for p in (50, 90, 95, 99)}}

# Rows predicted at a time: their cost terms stay in the cache.
_BLOCK = 1 << 12


def outside_range(
    architectures: IntMatrix, lowest: IntMatrix, highest: IntMatrix
) -> npt.NDArray[np.bool_]:
    """Whether a field of each architecture `[N, 5]` lies outside bounds `[5]`; bool `[N]`."""
    outside = (architectures < lowest) | (architectures > highest)
    return np.asarray(outside.any(axis=1), dtype=np.bool_)


class LatencyModel(Protocol):
    """What predicts the quiet latency of architectures."""

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """Latencies in milliseconds, `[N]`, of architectures int64 `[N, 5]`."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""


MODELS: dict[str, type[CorrectedRegressor] | type[CostTermRegressor] | type[LookupTable]] = {
    "corrected-cost-terms": CorrectedRegressor,
    "cost-terms": CostTermRegressor,
    "lookup-table": LookupTable,
}


# What a fit of a few rows with the help of a known device is called; it has no other beside it.
TRANSFERRED = "transferred-cost-terms"


@dataclass(frozen=True)
class Calibration:
    """From a predicted quiet latency to a statistic and its bounds, as log factors.

    Attributes:
        log_knots: `[M]`, logs of quiet latencies, increasing.
        centers: `[M]`, log(statistic / prediction) there, in the median of held-out rows; 0 for
            the label. Between the knots it changes evenly, beyond them not at all: how far a
            median lies above the quiet latency depends on how much of a model the caches hold.
        low: the lower bound's, in units of the row's spread; 5 % of rows lie below.
        high: the upper bound's; 5 % of rows lie above.
        safe: the upper bound's for a row that a search selected; at least `high`.
    """

    log_knots: FloatVector
    centers: FloatVector
    low: float
    high: float
    safe: float

    def center(self, log_quiet: FloatVector) -> FloatVector:
        """log(statistic / prediction) at logs of predicted quiet latencies, `[N]`."""
        found: FloatVector = np.interp(log_quiet, self.log_knots, self.centers)
        return found


@dataclass(frozen=True)
class Prediction:
    """Predicted latencies, all `[N]` in milliseconds.

    Attributes:
        latency_ms: the expected value.
        low_ms: 5 % of measurements lie below.
        high_ms: 5 % of measurements lie above.
        safe_ms: 5 % of measurements lie above, of rows that a search selected by this bound.
    """

    latency_ms: FloatVector
    low_ms: FloatVector
    high_ms: FloatVector
    safe_ms: FloatVector


@dataclass(frozen=True)
class SlicePredictor:
    """The predictor for one workload and target.

    Attributes:
        slice: workload and target, the values of `SLICE_DEFAULTS`' columns.
        lowest: int64 `[5]`, the smallest measured value of each field of an architecture.
        highest: int64 `[5]`, the largest.
        models: every model that was fitted, by name.
        chosen: the name of the one with the lowest held-out error, in the mean of squares.
        accuracies: held-out accuracy of each model.
        calibrations: by statistic, for the chosen model.
        spread: how uncertain a prediction is by where it lies among the rows.
        label_noise: mean standard deviation of the labels by their visits, relative; None where
            the visits are not known.
        rows: how many rows it was fitted to.
    """

    slice: Slice
    lowest: IntMatrix
    highest: IntMatrix
    models: Mapping[str, LatencyModel]
    chosen: str
    accuracies: Mapping[str, Accuracy]
    calibrations: Mapping[str, Calibration]
    rows: int
    spread: Spread
    label_noise: float | None = None

    @property
    def label(self) -> str:
        """The slice in words."""
        return describe_slice(self.slice)

    def out_of_range(self, architectures: IntMatrix) -> npt.NDArray[np.int64]:
        """The rows of `[N, 5]` that lie outside what was measured."""
        return np.flatnonzero(outside_range(architectures, self.lowest, self.highest))

    def explain_out_of_range(self, architecture: npt.NDArray[np.int64]) -> str:
        """Which field of an architecture `[5]` lies outside the range, and what to do."""
        for name, value, low, high in zip(
            ARCHITECTURE_FIELDS, architecture, self.lowest, self.highest, strict=True
        ):
            if not low <= value <= high:
                return (
                    f"{name} {value} is outside {low}..{high}, the range that was measured: "
                    "profile shapes around it and fit again"
                )
        raise ValueError("the architecture is inside the range")

    def predict(self, architectures: IntMatrix, statistic: str = "quiet") -> Prediction:
        """Predicts a statistic of architectures int64 `[N, 5]`.

        Raises:
            InputError: if an architecture lies outside the fitted range, or the statistic was
                not measured.
        """
        outside = self.out_of_range(architectures)
        if len(outside):
            row = architectures[outside[0]]
            name = "-".join(map(str, row.tolist()))
            raise InputError(f"{name}: {self.explain_out_of_range(row)}")
        calibration = self.calibration(statistic)
        model = self.models[self.chosen]
        found = np.empty((4, len(architectures)))
        for start in range(0, len(architectures), _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = architectures[block]
            quiet_ms = model.predict(rows)
            spread = self.spread.predict(rows)
            expected = quiet_ms
            if len(calibration.centers) > 1 or calibration.centers[0]:
                expected = quiet_ms * np.exp(calibration.center(np.log(quiet_ms)))
            found[0, block] = expected
            for place, bound in enumerate((calibration.low, calibration.high), start=1):
                np.multiply(expected, np.exp(bound * spread), out=found[place, block])
            found[3, block] = (
                found[2, block]
                if calibration.safe == calibration.high
                else expected * np.exp(calibration.safe * spread)
            )
        return Prediction(*found)

    def calibration(self, statistic: str) -> Calibration:
        """The calibration of a statistic.

        Raises:
            InputError: if it is unknown or was not measured.
        """
        if statistic not in STATISTIC_COLUMNS:
            raise InputError(f"no statistic {statistic!r}: use {', '.join(STATISTIC_COLUMNS)}")
        if statistic not in self.calibrations:
            raise InputError(
                f"{statistic} was not measured for {self.label}: too few runs; this predictor has "
                f"{', '.join(self.calibrations)}"
            )
        return self.calibrations[statistic]


class BetweenWorkloads(Protocol):
    """What answers for workloads of a target that were not measured."""

    def answers(self, values: Slice) -> bool:
        """Whether it answers for a workload and target."""

    def at(self, values: Slice) -> SlicePredictor:
        """The predictor for a workload and target that it answers for."""


@dataclass(frozen=True)
class LatencyPredictor:
    """A predictor for one machine.

    Attributes:
        slices: a predictor for each workload and target.
        key: the measurement key of the machine; None if it was made from a bare CSV file.
        target: the name of the target, or None.
        references: the reference rows of the profile, for speed-ups.
        sources: what it was fitted to.
        workload_models: answer for workloads between the measured ones.
    """

    slices: Sequence[SlicePredictor]
    key: Mapping[str, Any] | None
    target: str | None
    references: Sequence[Mapping[str, Any]]
    sources: Sequence[str]
    workload_models: Sequence[BetweenWorkloads] = ()

    @property
    def emulated(self) -> bool:
        """Whether an emulator was measured, and not the device that it imitates."""
        return self.key is not None and bool(self.key.get("emulated"))

    def slice_for(self, values: Slice) -> SlicePredictor:
        """The predictor for a workload and target, measured or between measured workloads.

        Raises:
            InputError: if it is neither; names what was measured.
        """
        for candidate in self.slices:
            if candidate.slice == values:
                return candidate
        for model in self.workload_models:
            if model.answers(values):
                return model.at(values)
        known = "; ".join(candidate.label for candidate in self.slices)
        raise InputError(f"{describe_slice(values)} was not measured; this predictor has {known}")
