"""One predictor for all workloads of a target, for those that were not measured, too.

A model with the workload among its inputs answers between measured lengths and batch sizes; how
well is known from workloads that were left out whole while others on both sides of them stayed. For
a workload that was measured it is one more model, which knows the rows of the others as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_profiles.measurements import Slice
from predictor.fitting import (
    SliceFit,
    assemble,
    assign_folds,
    calibrate,
    held_out_predictions,
)
from predictor.intervals import EVEN_SPREAD, FEWEST_ROWS
from predictor.metrics import Accuracy, accuracy
from predictor.model import STATISTIC_COLUMNS, Calibration, SlicePredictor
from predictor.robust import far_off
from predictor.workload_terms import (
    ALL_WORKLOADS,
    AtWorkload,
    WorkloadRegressor,
    with_workload,
)
from supernet.architecture import ARCHITECTURE_FIELDS, IntMatrix

FloatVector = npt.NDArray[np.float64]

# (sequence length, batch size), the first two columns of a slice.
WorkloadPair = tuple[int, int]

_ARCHITECTURE = len(ARCHITECTURE_FIELDS)

# With two values of an axis nobody knows what lies between them.
_FEWEST_VALUES = 3


@dataclass(frozen=True)
class WorkloadModel:
    """A predictor for all workloads of one target.

    Attributes:
        target: the slice's columns after the workload's.
        workloads: those that were measured.
        lowest: int64 `[5]`, the smallest size of each field that every workload was measured at.
        highest: int64 `[5]`, the largest.
        regressor: the model.
        held_out: its accuracy on workloads that were left out whole.
        calibrations: by statistic, from these workloads.
        rows: how many rows it was fitted to.
    """

    target: Slice
    workloads: tuple[WorkloadPair, ...]
    lowest: IntMatrix
    highest: IntMatrix
    regressor: WorkloadRegressor
    held_out: Accuracy
    calibrations: Mapping[str, Calibration]
    rows: int

    def answers(self, values: Slice) -> bool:
        """Whether it answers for a workload and target."""
        if values[2:] != self.target:
            return False
        workload = int(values[0]), int(values[1])
        return _is_between(workload, self.workloads, fewest=_FEWEST_VALUES)

    def at(self, values: Slice) -> SlicePredictor:
        """The predictor for a workload and target that it answers for."""
        return SlicePredictor(
            slice=values,
            lowest=self.lowest,
            highest=self.highest,
            models={ALL_WORKLOADS: AtWorkload(self.regressor, int(values[0]), int(values[1]))},
            chosen=ALL_WORKLOADS,
            accuracies={ALL_WORKLOADS: self.held_out},
            calibrations=self.calibrations,
            rows=self.rows,
            spread=EVEN_SPREAD,
        )


def _is_between(workload: WorkloadPair, others: Sequence[WorkloadPair], *, fewest: int) -> bool:
    """Whether others lie on both sides of a workload along every axis that it needs them on.

    Args:
        workload: which.
        others: those that are known.
        fewest: different values of such an axis that must be known.
    """
    for value, known in zip(workload, zip(*others, strict=True), strict=True):
        if value in known:
            continue
        if len(set(known)) < fewest or not min(known) < value < max(known):
            return False
    return True


def fit_workload_models(fits: Sequence[SliceFit], *, seed: int) -> list[WorkloadModel]:
    """A model for each target of which enough workloads were measured to leave some out."""
    by_target: dict[Slice, list[SliceFit]] = {}
    for fit in fits:
        by_target.setdefault(fit.predictor.slice[2:], []).append(fit)
    models = [_fit_target(target, parts, seed=seed) for target, parts in by_target.items()]
    return [model for model in models if model is not None]


def join_workloads(
    fits: Sequence[SliceFit], models: Sequence[WorkloadModel], *, seed: int
) -> list[SliceFit]:
    """The fits, with the model of all workloads as one more to choose from.

    Args:
        fits: of `fit_slices` with the same seed.
        models: of `fit_workload_models`.
        seed: of the folds.
    """
    joined = list(fits)
    for model in models:
        members = [
            place for place, fit in enumerate(fits) if fit.predictor.slice[2:] == model.target
        ]
        parts = [fits[place] for place in members]
        rows, latency_ms = _rows(parts)
        # An architecture is held out under all workloads at once.
        folds = assign_folds(rows[:, :_ARCHITECTURE], seed=seed)
        predicted = held_out_predictions(WorkloadRegressor.fit, rows, latency_ms, folds)
        ends = np.cumsum([len(fit.architectures) for fit in parts])[:-1]
        for place, fit, of_fit in zip(members, parts, np.split(predicted, ends), strict=True):
            part = fit.predictor
            joined[place] = assemble(
                part.slice,
                fit.architectures,
                fit.statistics,
                {**part.models, ALL_WORKLOADS: AtWorkload(model.regressor, *_workload(fit))},
                {**fit.held_out_ms, ALL_WORKLOADS: of_fit},
                fit.campaigns,
                part.label_noise,
                seed=seed,
            )
    return joined


def _workload(fit: SliceFit) -> WorkloadPair:
    return int(fit.predictor.slice[0]), int(fit.predictor.slice[1])


def _rows(fits: Sequence[SliceFit]) -> tuple[IntMatrix, FloatVector]:
    rows = [with_workload(fit.architectures, *_workload(fit)) for fit in fits]
    return np.concatenate(rows), np.concatenate([fit.statistics["latency_ms"] for fit in fits])


def _fit_target(target: Slice, fits: Sequence[SliceFit], *, seed: int) -> WorkloadModel | None:
    workloads = tuple(_workload(fit) for fit in fits)
    if max(len(set(axis)) for axis in zip(*workloads, strict=True)) < _FEWEST_VALUES:
        return None
    left_out: list[SliceFit] = []
    predicted: list[FloatVector] = []
    for fit in fits:
        others = [other for other in fits if other is not fit]
        # The one that is left out was the third.
        known = [_workload(other) for other in others]
        if not _is_between(_workload(fit), known, fewest=_FEWEST_VALUES - 1):
            continue
        regressor = WorkloadRegressor.fit(*_rows(others))
        left_out.append(fit)
        predicted.append(regressor.predict(with_workload(fit.architectures, *_workload(fit))))
    if sum(map(len, predicted)) < FEWEST_ROWS:
        return None
    architectures = np.concatenate([fit.architectures for fit in left_out])
    held_out_ms = np.concatenate(predicted)
    latency_ms = np.concatenate([fit.statistics["latency_ms"] for fit in left_out])
    counted = ~far_off(np.log(latency_ms / held_out_ms))
    calibrations = {}
    for statistic, column in STATISTIC_COLUMNS.items():
        if all(statistic in fit.predictor.calibrations for fit in left_out):
            measured = np.concatenate([fit.statistics[column] for fit in left_out])
            used = counted & ~np.isnan(measured)
            if used.sum() >= FEWEST_ROWS:
                calibrations[statistic] = calibrate(
                    statistic,
                    architectures[used],
                    measured[used],
                    held_out_ms[used],
                    np.ones(int(used.sum())),
                    between=max(fit.between for fit in fits),
                    seed=seed,
                )
    if "quiet" not in calibrations:
        return None
    rows, all_ms = _rows(fits)
    return WorkloadModel(
        target=target,
        workloads=workloads,
        lowest=np.max([fit.predictor.lowest for fit in fits], axis=0),
        highest=np.min([fit.predictor.highest for fit in fits], axis=0),
        regressor=WorkloadRegressor.fit(rows, all_ms),
        held_out=accuracy(latency_ms, held_out_ms),
        calibrations=calibrations,
        rows=len(rows),
    )
