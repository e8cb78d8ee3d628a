"""Predictors of a new device from a handful of its rows and the predictors of known ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError, WorkError
from device_profiles.measurements import Measurements, Slice
from predictor.fitting import SliceFit
from predictor.intervals import BETWEEN_CAMPAIGNS, EVEN_SPREAD
from predictor.metrics import accuracy
from predictor.model import (
    STATISTIC_COLUMNS,
    TRANSFERRED,
    Calibration,
    LatencyPredictor,
    SlicePredictor,
)
from predictor.regressors import CostTermRegressor
from predictor.transfer import FEWEST_SHAPES, Transfer, fit_transfer, take_apart
from predictor.transfer_fit import fit_likeliest
from predictor.transfer_shapes import choose_transfer_shapes
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]

# A normal variable exceeds so many deviations in 5 % of cases.
_DEVIATIONS_OF_A_BOUND = 1.645


@dataclass(frozen=True)
class KnownDevice:
    """A predictor, and the shapes that it was fitted to.

    Attributes:
        name: what to call it.
        predictor: of a device that the new one may resemble.
        shapes: int64 `[M, 5]`, typical ones.
    """

    name: str
    predictor: LatencyPredictor
    shapes: IntMatrix


def known_latencies(
    known: Sequence[KnownDevice], values: Slice | None
) -> tuple[dict[str, FloatVector], IntMatrix]:
    """What known devices take for shapes that all of them answer for.

    Args:
        known: one or more.
        values: the workload and target of the new device; known targets under the same workload
            are taken where there are any. None takes all.

    Returns:
        Latencies `[M]` by device and target, and the shapes, int64 `[M, 5]`.

    Raises:
        InputError: if there is no shape that all answer for.
    """
    parts = [(device.name, part) for device in known for part in device.predictor.slices]
    if values is not None:
        alike = [each for each in parts if each[1].slice[:2] == values[:2]]
        parts = alike or parts
    shapes = np.unique(np.concatenate([device.shapes for device in known]), axis=0)
    inside = np.ones(len(shapes), dtype=np.bool_)
    for _, part in parts:
        inside[part.out_of_range(shapes)] = False
    if inside.sum() < FEWEST_SHAPES:
        raise InputError(
            "the known predictors answer for no shapes in common: name those of one space"
        )
    typical = shapes[inside]
    return {
        f"{name}, {part.label}": part.predict(typical).latency_ms for name, part in parts
    }, typical


def suggest_shapes(known: Sequence[KnownDevice], count: int) -> IntMatrix:
    """The shapes to measure on a new device, the most telling one first, int64 `[count, 5]`.

    Raises:
        InputError: if so many cannot be chosen.
    """
    return choose_transfer_shapes(*known_latencies(known, None), count)


def transfer_slices(
    measurements: Measurements, known: Sequence[KnownDevice]
) -> list[tuple[SliceFit, Transfer]]:
    """Fits one predictor for each workload and target of a new device.

    Raises:
        InputError: if one of them has fewer than 3 usable shapes.
        WorkError: if no known device resembles it; says so in words.
    """
    rows_of: dict[Slice, list[int]] = {}
    for row, values in enumerate(measurements.slices):
        if measurements.verdicts[row] != "rejected":
            rows_of.setdefault(values, []).append(row)
    return [_transferred(measurements, values, rows, known) for values, rows in rows_of.items()]


def _transferred(
    measurements: Measurements, values: Slice, rows: list[int], known: Sequence[KnownDevice]
) -> tuple[SliceFit, Transfer]:
    known_ms, typical = known_latencies(known, values)
    shapes = measurements.architectures[rows]
    statistics = {name: column[rows] for name, column in measurements.statistics.items()}
    latency_ms = statistics["latency_ms"]
    # A shape that the known devices know nothing of cannot be told by them.
    lowest, highest = typical.min(axis=0), typical.max(axis=0)
    inside = ((shapes >= lowest) & (shapes <= highest)).all(axis=1)
    shapes, latency_ms = shapes[inside], latency_ms[inside]
    statistics = {name: column[inside] for name, column in statistics.items()}
    found = fit_transfer(known_ms, typical, shapes, latency_ms)
    if not found.resembles:
        raise WorkError(found.verdict)
    held_out_ms = _held_out(known_ms, typical, shapes, latency_ms)
    bound = _DEVIATIONS_OF_A_BOUND * found.fit.spread
    calibrations = {}
    for name, column in STATISTIC_COLUMNS.items():
        measured = statistics.get(column)
        if measured is not None and not np.isnan(measured).any():
            center = 0.0 if name == "quiet" else float(np.median(np.log(measured / latency_ms)))
            calibrations[name] = Calibration(np.zeros(1), np.array([center]), -bound, bound, bound)
    predictor = SlicePredictor(
        slice=values,
        lowest=lowest,
        highest=highest,
        models={TRANSFERRED: CostTermRegressor(found.fit.prices_ms)},
        chosen=TRANSFERRED,
        accuracies={TRANSFERRED: accuracy(latency_ms, held_out_ms)},
        calibrations=calibrations,
        rows=len(latency_ms),
        spread=EVEN_SPREAD,
    )
    suspects = np.zeros(len(latency_ms), dtype=np.bool_)
    fit = SliceFit(
        predictor,
        shapes,
        statistics,
        {TRANSFERRED: held_out_ms},
        suspects,
        np.zeros(len(latency_ms), dtype=np.int64),
        BETWEEN_CAMPAIGNS,
    )
    return fit, found


def _held_out(
    known_ms: Mapping[str, FloatVector],
    typical: IntMatrix,
    shapes: IntMatrix,
    latency_ms: FloatVector,
) -> FloatVector:
    """Each row as a transfer from the other shapes predicts it, `[N]`."""
    known = take_apart(known_ms, typical)
    predicted = np.empty(len(latency_ms))
    _, group = np.unique(shapes, axis=0, return_inverse=True)
    group = group.reshape(-1)
    for each in np.unique(group):
        out = group == each
        fit = fit_likeliest(known, shapes[~out], latency_ms[~out])
        predicted[out] = fit.predict(shapes[out])
    return predicted


def expected_error(transfer: Transfer) -> float:
    """The MAPE that a transfer's own spread lets expect, as a share."""
    return transfer.fit.spread * math.sqrt(2 / math.pi)
