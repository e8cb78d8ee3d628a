"""Fits a predictor to measurements: every model, its held-out error, and the bounds of the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from device_profiles.measurements import Measurements, Slice, describe_slice
from device_profiles.verdicts import Verdict
from predictor.intervals import FEWEST_ROWS, conformal_bounds
from predictor.metrics import accuracy
from predictor.model import (
    MODELS,
    STATISTIC_COLUMNS,
    Calibration,
    LatencyModel,
    SlicePredictor,
    outside_range,
)
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]

# 19 are needed for the bounds; with fewer than 20 the error of a fit says little, too.
FEWEST_ARCHITECTURES = 20

_FOLDS = 10

# A percentile that only fast shapes have enough runs for says nothing about slow ones.
_SHARE_OF_ROWS_WITH_STATISTIC = 0.9

ModelFitter = Callable[[IntMatrix, FloatVector], LatencyModel]


@dataclass(frozen=True)
class SliceFit:
    """A fitted slice with what it was fitted to.

    Attributes:
        predictor: the result.
        architectures: int64 `[N, 5]`.
        statistics: `[N]` each; NaN where unknown.
        held_out_ms: `[N]` by model: predictions by models that had not seen the row.
    """

    predictor: SlicePredictor
    architectures: IntMatrix
    statistics: dict[str, FloatVector]
    held_out_ms: dict[str, FloatVector]


def fit_slices(measurements: Measurements, *, seed: int = 0) -> list[SliceFit]:
    """Fits one predictor for each workload and target in the measurements.

    Rows that are `ok` are fitted; where these are fewer than 20 architectures, noisy ones too.

    Raises:
        InputError: if a slice has fewer than 20 architectures.
    """
    rows_of: dict[Slice, dict[Verdict, list[int]]] = {}
    for row, values in enumerate(measurements.slices):
        of_slice = rows_of.setdefault(values, {"ok": [], "noisy": [], "rejected": []})
        of_slice[measurements.verdicts[row]].append(row)
    fits = []
    for values, by_verdict in rows_of.items():
        rows = by_verdict["ok"]
        if _count_different(measurements.architectures[rows]) < FEWEST_ARCHITECTURES:
            rows = sorted(rows + by_verdict["noisy"])
        architectures = measurements.architectures[rows]
        different = _count_different(architectures)
        if different < FEWEST_ARCHITECTURES:
            raise InputError(
                f"{measurements.source} has {different} usable architectures for "
                f"{describe_slice(values)} ({len(by_verdict['rejected'])} rows were rejected), a "
                f"fit needs {FEWEST_ARCHITECTURES}: measure more"
            )
        statistics = {name: column[rows] for name, column in measurements.statistics.items()}
        fits.append(_fit_slice(values, architectures, statistics, seed=seed))
    return fits


def _count_different(architectures: IntMatrix) -> int:
    return len(np.unique(architectures, axis=0))


def _fit_slice(
    values: Slice,
    architectures: IntMatrix,
    statistics: dict[str, FloatVector],
    *,
    seed: int,
) -> SliceFit:
    latency_ms = statistics["latency_ms"]
    folds = assign_folds(architectures, seed=seed)
    fitters: dict[str, ModelFitter] = {name: model.fit for name, model in MODELS.items()}
    held_out_ms = {
        name: held_out_predictions(fit, architectures, latency_ms, folds)
        for name, fit in fitters.items()
    }
    accuracies = {name: accuracy(latency_ms, predicted) for name, predicted in held_out_ms.items()}
    # Squares, so that a model that is far off for a few shapes does not win by the others.
    chosen = min(
        held_out_ms, key=lambda name: float(np.square(np.log(held_out_ms[name] / latency_ms)).sum())
    )
    # A predictor refuses what lies outside its range, so a row that only a fold's own model would
    # have had to refuse says nothing about the bounds of answers.
    inside = rows_inside_range(architectures, folds)
    if inside.sum() < FEWEST_ROWS:
        inside[:] = True
    calibrations = {}
    for statistic, column in STATISTIC_COLUMNS.items():
        known = ~np.isnan(statistics.get(column, np.full(len(latency_ms), np.nan)))
        scored = known & inside
        if known.mean() >= _SHARE_OF_ROWS_WITH_STATISTIC and scored.sum() >= FEWEST_ROWS:
            log_errors = np.log(statistics[column][scored] / held_out_ms[chosen][scored])
            center = 0.0 if statistic == "quiet" else float(np.median(log_errors))
            calibrations[statistic] = Calibration(center, *conformal_bounds(log_errors))
    return SliceFit(
        predictor=SlicePredictor(
            slice=values,
            lowest=architectures.min(axis=0),
            highest=architectures.max(axis=0),
            models={name: fit(architectures, latency_ms) for name, fit in fitters.items()},
            chosen=chosen,
            accuracies=accuracies,
            calibrations=calibrations,
            rows=len(latency_ms),
        ),
        architectures=architectures,
        statistics=statistics,
        held_out_ms=held_out_ms,
    )


def assign_folds(architectures: IntMatrix, *, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each row, `[N]`: repeated measurements of an architecture share one."""
    _, group = np.unique(architectures, axis=0, return_inverse=True)
    group = group.reshape(-1)
    groups = int(group.max()) + 1
    shuffled = np.random.default_rng(seed).permutation(groups)
    folds: npt.NDArray[np.int64] = (shuffled % min(_FOLDS, groups))[group]
    return folds


def rows_inside_range(
    architectures: IntMatrix, folds: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether each row lies within the range of the rows of the other folds, `[N]`."""
    inside = np.ones(len(architectures), dtype=bool)
    for fold in np.unique(folds):
        held_out = folds == fold
        rest = architectures[~held_out]
        inside[held_out] = ~outside_range(
            architectures[held_out], rest.min(axis=0), rest.max(axis=0)
        )
    return inside


def held_out_predictions(
    fit: ModelFitter,
    architectures: IntMatrix,
    latency_ms: FloatVector,
    folds: npt.NDArray[np.int64],
) -> FloatVector:
    """For each row, the prediction of a model fitted without the row's fold, `[N]`."""
    predicted = np.empty(len(latency_ms))
    for fold in np.unique(folds):
        held_out = folds == fold
        model = fit(architectures[~held_out], latency_ms[~held_out])
        predicted[held_out] = model.predict(architectures[held_out])
    return predicted
