"""Fits a predictor to measurements: every model, its held-out error, and the bounds of the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from device_profiles.blocks import BlockTime
from device_profiles.measurements import Measurements, Slice, describe_slice
from device_profiles.verdicts import Verdict
from predictor.intervals import (
    FEWEST_ROWS,
    Spread,
    campaign_levels,
    choose_ignorance,
    conformal_bounds,
    held_out_spreads,
    selection_bound,
)
from predictor.lookup_table import LookupTable
from predictor.metrics import accuracy
from predictor.model import (
    MODELS,
    STATISTIC_COLUMNS,
    Calibration,
    LatencyModel,
    SlicePredictor,
    outside_range,
)
from predictor.robust import deviation, far_off
from supernet.architecture import Architecture, IntMatrix, from_matrix

FloatVector = npt.NDArray[np.float64]

# 19 are needed for the bounds; with fewer than 20 the error of a fit says little, too.
FEWEST_ARCHITECTURES = 20

_FOLDS = 10

# A percentile that only fast shapes have enough runs for says nothing about slow ones.
_SHARE_OF_ROWS_WITH_STATISTIC = 0.9

# An error that is so many deviations off counts no more than that.
_MOST_DEVIATIONS = 6.0

_ROWS_OF_A_MEDIAN = 20

ModelFitter = Callable[[IntMatrix, FloatVector], LatencyModel]


@dataclass(frozen=True)
class SliceFit:
    """A fitted slice with what it was fitted to.

    Attributes:
        predictor: the result.
        architectures: int64 `[N, 5]`.
        statistics: `[N]` each; NaN where unknown.
        held_out_ms: `[N]` by model: predictions by models that had not seen the row.
        suspects: `[N]`, rows that are further off than noise and misfit explain.
        campaigns: `[N]`, which campaign each row is of.
        between: standard deviation of what moves all of a campaign's rows together, relative.
    """

    predictor: SlicePredictor
    architectures: IntMatrix
    statistics: dict[str, FloatVector]
    held_out_ms: dict[str, FloatVector]
    suspects: npt.NDArray[np.bool_]
    campaigns: npt.NDArray[np.int64]
    between: float

    def typical_bounds(self, statistic: str = "quiet") -> tuple[float, float]:
        """Lower and upper bound of measured / predicted, for the middle one of the rows."""
        found = self.predictor.calibrations[statistic]
        spread = float(np.median(self.predictor.spread.predict(self.architectures)))
        return math.exp(found.low * spread), math.exp(found.high * spread)

    def suspect_rows(self) -> list[tuple[Architecture, float, float]]:
        """Each suspect row: its shape, what was measured, and what the others lead to expect."""
        held_out = self.held_out_ms[self.predictor.chosen]
        latency_ms = self.statistics["latency_ms"]
        return [
            (shape, float(latency_ms[row]), float(held_out[row]))
            for row, shape in zip(
                np.flatnonzero(self.suspects).tolist(),
                from_matrix(self.architectures[self.suspects]),
                strict=True,
            )
        ]


def fit_slices(
    measurements: Measurements,
    *,
    seed: int = 0,
    label_noise: FloatVector | None = None,
    block_times: Mapping[Slice, Sequence[BlockTime]] | None = None,
) -> list[SliceFit]:
    """Fits one predictor for each workload and target in the measurements.

    Rows that are `ok` are fitted; where these are fewer than 20 architectures, noisy ones too.

    Args:
        measurements: rows of any workloads and targets.
        seed: of the folds.
        label_noise: `[N]`, the relative standard deviation of each label; NaN where unknown.
        block_times: measured blocks of slices: their lookup table consists of these.

    Raises:
        InputError: if a slice has fewer than 20 architectures, or most blocks of one could not be
            measured.
    """
    if label_noise is None:
        label_noise = np.full(len(measurements), np.nan)
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
                f"fit needs {FEWEST_ARCHITECTURES}: measure more, or name a predictor of a device "
                "like it with --transfer-from"
            )
        statistics = {name: column[rows] for name, column in measurements.statistics.items()}
        noise = label_noise[rows]
        noise = noise[~np.isnan(noise)]
        known_noise = float(noise.mean()) if len(noise) else None
        blocks = (block_times or {}).get(values)
        campaigns = np.zeros(len(rows), dtype=np.int64)
        if measurements.campaigns is not None:
            campaigns = measurements.campaigns[rows]
        fits.append(
            _fit_slice(values, architectures, statistics, campaigns, known_noise, blocks, seed=seed)
        )
    return fits


def _count_different(architectures: IntMatrix) -> int:
    return len(np.unique(architectures, axis=0))


def _fit_slice(
    values: Slice,
    architectures: IntMatrix,
    statistics: dict[str, FloatVector],
    campaigns: npt.NDArray[np.int64],
    label_noise: float | None,
    blocks: Sequence[BlockTime] | None,
    *,
    seed: int,
) -> SliceFit:
    latency_ms = statistics["latency_ms"]
    folds = assign_folds(architectures, seed=seed)
    fitters: dict[str, ModelFitter] = {name: model.fit for name, model in MODELS.items()}
    if blocks:
        fitters["lookup-table"] = partial(LookupTable.from_blocks, blocks)
    return assemble(
        values,
        architectures,
        statistics,
        {name: fit(architectures, latency_ms) for name, fit in fitters.items()},
        {
            name: held_out_predictions(fit, architectures, latency_ms, folds)
            for name, fit in fitters.items()
        },
        campaigns,
        label_noise,
        seed=seed,
    )


def assemble(
    values: Slice,
    architectures: IntMatrix,
    statistics: dict[str, FloatVector],
    models: Mapping[str, LatencyModel],
    held_out_ms: dict[str, FloatVector],
    campaigns: npt.NDArray[np.int64],
    label_noise: float | None,
    *,
    seed: int,
) -> SliceFit:
    """Chooses among models by how they predict rows that they had not seen, and finds the bounds.

    Args:
        values: workload and target.
        architectures: int64 `[N, 5]`.
        statistics: `[N]` each; NaN where unknown.
        models: fitted to all rows.
        held_out_ms: `[N]` by model, predicted without the row's fold of `assign_folds`.
        campaigns: `[N]`, which campaign each row is of.
        label_noise: of the rows, if it is known.
        seed: of the folds, and of the searches that are simulated.
    """
    latency_ms = statistics["latency_ms"]
    folds = assign_folds(architectures, seed=seed)
    accuracies = {name: accuracy(latency_ms, predicted) for name, predicted in held_out_ms.items()}
    chosen = min(held_out_ms, key=lambda name: _badness(np.log(held_out_ms[name] / latency_ms)))
    suspects = far_off(np.log(latency_ms / held_out_ms[chosen]))
    # A predictor refuses what lies outside its range, so a row that only a fold's own model would
    # have had to refuse says nothing about the bounds of answers.
    scored = rows_inside_range(architectures, folds) & ~suspects
    if scored.sum() < FEWEST_ROWS:
        scored = ~suspects if (~suspects).sum() >= FEWEST_ROWS else np.ones(len(suspects), bool)
    errors = np.where(scored, np.log(latency_ms / held_out_ms[chosen]), np.nan)
    # What moved a whole campaign is told apart from what a row is off by.
    levels, between = campaign_levels(errors, campaigns)
    errors = errors - levels
    expected_ms = held_out_ms[chosen] * np.exp(levels)
    ignorance = choose_ignorance(architectures, folds, errors)
    spreads = held_out_spreads(architectures, folds, ignorance)
    calibrations = {}
    for statistic, column in STATISTIC_COLUMNS.items():
        measured = statistics.get(column, np.full(len(latency_ms), np.nan))
        known = ~np.isnan(measured)
        counted = known & scored
        if known.mean() >= _SHARE_OF_ROWS_WITH_STATISTIC and counted.sum() >= FEWEST_ROWS:
            calibrations[statistic] = calibrate(
                statistic,
                architectures[counted],
                measured[counted],
                expected_ms[counted],
                spreads[counted],
                between=between,
                seed=seed,
            )
    return SliceFit(
        predictor=SlicePredictor(
            slice=values,
            lowest=architectures.min(axis=0),
            highest=architectures.max(axis=0),
            models=models,
            chosen=chosen,
            accuracies=accuracies,
            calibrations=calibrations,
            rows=len(latency_ms),
            spread=Spread.fit(architectures[~suspects], ignorance),
            label_noise=label_noise,
        ),
        architectures=architectures,
        statistics=statistics,
        held_out_ms=held_out_ms,
        suspects=suspects,
        campaigns=campaigns,
        between=between,
    )


def _badness(log_errors: FloatVector) -> float:
    """How bad held-out errors are: their mean square, wild rows counted as merely bad ones.

    Squares, so that a model that is far off for a few shapes does not win by the others; but rows
    that no model predicts decide nothing.
    """
    reach = _MOST_DEVIATIONS * deviation(log_errors)
    return float(np.square(np.clip(log_errors, -reach, reach)).mean())


def calibrate(
    statistic: str,
    architectures: IntMatrix,
    measured_ms: FloatVector,
    held_out_ms: FloatVector,
    spreads: FloatVector,
    *,
    between: float,
    seed: int,
) -> Calibration:
    """The calibration of a statistic, from rows that were held out, all `[N]`.

    Args:
        statistic: which.
        architectures: int64 `[N, 5]`.
        measured_ms: the statistic.
        held_out_ms: the quiet latency as it was predicted, at the level of the row's campaign.
        spreads: of the predictions.
        between: standard deviation of what moves all of the next campaign's rows together.
        seed: of the searches that are simulated.
    """
    log_quiet = np.log(held_out_ms)
    log_ratio = np.log(measured_ms) - log_quiet
    knots, centers = np.zeros(1), np.zeros(1)
    if statistic != "quiet":
        knots, centers = _running_medians(log_quiet, log_ratio)
    center = np.interp(log_quiet, knots, centers)
    errors = log_ratio - center
    low, high = conformal_bounds(errors, spreads, between=between)
    rng = np.random.default_rng(seed)
    log_expected = log_quiet + center
    safe = selection_bound(architectures, log_expected, errors, spreads, high, rng, between=between)
    return Calibration(knots, centers, low, high, safe)


def _running_medians(
    log_quiet: FloatVector, log_ratio: FloatVector
) -> tuple[FloatVector, FloatVector]:
    """Knots and medians of a ratio along the latency, one for every 20 rows."""
    order = np.argsort(log_quiet, kind="stable")
    groups = np.array_split(order, max(len(order) // _ROWS_OF_A_MEDIAN, 1))
    knots = np.array([float(np.median(log_quiet[group])) for group in groups])
    centers = np.array([float(np.median(log_ratio[group])) for group in groups])
    distinct = np.concatenate([[True], np.diff(knots) > 1e-9])
    return knots[distinct], centers[distinct]


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
