"""A predictor on disk: a folder of JSON and CSV.

- `predictor.json`: the models, bounds, fitted range, accuracy, measurement key, and a checksum
- `training_rows.csv`: what it was fitted to, with held-out predictions
- `lookup_table.csv`: the block latencies, for a spreadsheet or another program

Nothing in it is code. The same measurements and seed give the same bytes.

History of the schema:

1. The first.
2. A model may be corrected; a statistic's factor over the quiet latency depends on that; bounds
   are in units of a spread, with one more for rows that a search selects; noise of the labels.
   A model of all workloads for each target that has enough of them. Read from version 1: one
   factor, a spread of 1, the same bound for selected rows, and no model of all workloads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import read_signed_json, write_signed_json
from autotinybert.values import integer, items, mapping, number, optional, text
from device_profiles.machine import key_hash
from device_profiles.measurements import SLICE_DEFAULTS, Slice, slice_of_columns
from device_profiles.profile_document import read_reference_rows
from device_profiles.target import MAX_BATCH_SIZE
from predictor.fitting import SliceFit
from predictor.intervals import EVEN_SPREAD, Spread
from predictor.metrics import Accuracy
from predictor.model import (
    MODELS,
    TRANSFERRED,
    BetweenWorkloads,
    Calibration,
    LatencyPredictor,
    SlicePredictor,
)
from predictor.regressors import CostTermRegressor
from predictor.tables import write_lookup_tables, write_training_rows
from predictor.workload_model import WorkloadModel
from predictor.workload_terms import ALL_WORKLOADS, AtWorkload, WorkloadRegressor
from supernet.architecture import ARCHITECTURE_FIELDS, IntMatrix
from supernet.cost import MAX_POSITIONS

SCHEMA_VERSION = 2

PREDICTOR_FILE = "predictor.json"
TRAINING_FILE = "training_rows.csv"
LOOKUP_FILE = "lookup_table.csv"
PREDICTOR_FILES = (PREDICTOR_FILE, TRAINING_FILE, LOOKUP_FILE)

# A statistic is never a billion times another.
_MOST_LOG_FACTOR = 20.0

_READERS = {**MODELS, ALL_WORKLOADS: AtWorkload, TRANSFERRED: CostTermRegressor}

_TARGET_COLUMNS = tuple(SLICE_DEFAULTS)[2:]

_REMEDY = "fit it again with fit-predictor"


def save_predictor(
    folder: Path, predictor: LatencyPredictor, fits: Sequence[SliceFit], *, seed: int
) -> None:
    """Writes a predictor's files into a folder that is already there."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "latency-predictor",
        "target": predictor.target,
        "measurement_key": predictor.key,
        "measurement_key_hash": None if predictor.key is None else key_hash(predictor.key),
        "sources": list(predictor.sources),
        "seed": seed,
        "reference_rows": [dict(row) for row in predictor.references],
        "slices": [_slice_to_json(part) for part in predictor.slices],
        "workload_models": [_workload_model_to_json(each) for each in predictor.workload_models],
    }
    write_training_rows(folder / TRAINING_FILE, fits)
    write_lookup_tables(folder / LOOKUP_FILE, predictor.slices)
    write_signed_json(folder / PREDICTOR_FILE, document)


def load_predictor(folder: Path) -> LatencyPredictor:
    """Reads a predictor back and checks it.

    Raises:
        InputError: if the folder holds none, or one of a later version.
        DamagedFileError: if it was torn, truncated or edited.
    """
    path = folder / PREDICTOR_FILE
    if not path.exists():
        raise InputError(f"no predictor in {folder}: make one with fit-predictor --out {folder}")
    document = read_signed_json(
        path, kind="latency-predictor", schema_version=SCHEMA_VERSION, remedy=_REMEDY
    )
    try:
        return LatencyPredictor(
            slices=[
                _slice_from_json(part, document["schema_version"])
                for part in items(document["slices"], mapping)
            ],
            workload_models=[]
            if document["schema_version"] == 1
            else items(document["workload_models"], _workload_model_from_json),
            key=optional(document["measurement_key"], mapping),
            target=optional(document["target"], text),
            references=read_reference_rows(document["reference_rows"]),
            sources=items(document["sources"], text),
        )
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DamagedFileError(f"{path} is no latency predictor ({error}): {_REMEDY}") from error


def _slice_to_json(part: SlicePredictor) -> dict[str, Any]:
    return {
        "slice": dict(zip(SLICE_DEFAULTS, part.slice, strict=True)),
        "range": _range_to_json(part.lowest, part.highest),
        "rows": part.rows,
        "chosen": part.chosen,
        "models": {name: model.to_json() for name, model in part.models.items()},
        "held_out_accuracy": {name: value.to_json() for name, value in part.accuracies.items()},
        "statistics": _calibrations_to_json(part.calibrations),
        "spread": part.spread.to_json(),
        "label_noise": part.label_noise,
    }


def _range_to_json(lowest: IntMatrix, highest: IntMatrix) -> dict[str, list[int]]:
    return {
        name: [int(low), int(high)]
        for name, low, high in zip(ARCHITECTURE_FIELDS, lowest, highest, strict=True)
    }


def _calibrations_to_json(calibrations: Mapping[str, Calibration]) -> dict[str, Any]:
    return {
        name: {
            "log_knots": value.log_knots.tolist(),
            "centers": value.centers.tolist(),
            "low": value.low,
            "high": value.high,
            "safe": value.safe,
        }
        for name, value in calibrations.items()
    }


def _workload_model_to_json(model: BetweenWorkloads) -> dict[str, Any]:
    assert isinstance(model, WorkloadModel)
    return {
        "target": dict(zip(_TARGET_COLUMNS, model.target, strict=True)),
        "workloads": [list(pair) for pair in model.workloads],
        "range": _range_to_json(model.lowest, model.highest),
        "rows": model.rows,
        "model": model.regressor.to_json(),
        "held_out_accuracy": model.held_out.to_json(),
        "statistics": _calibrations_to_json(model.calibrations),
    }


def _workload_model_from_json(value: object) -> WorkloadModel:
    found = mapping(value)
    statistics = mapping(found["statistics"])
    if "quiet" not in statistics:
        raise InputError("the bounds of a model of all workloads are not there")
    pairs = items(found["workloads"], lambda pair: items(pair, _workload_size))
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError("a workload is a sequence length and a batch size")
    ranges = _ranges(found["range"])
    return WorkloadModel(
        target=_checked_slice({**SLICE_DEFAULTS, **mapping(found["target"])})[2:],
        workloads=tuple((length, batch) for length, batch in pairs),
        lowest=ranges[:, 0],
        highest=ranges[:, 1],
        regressor=WorkloadRegressor.from_json(mapping(found["model"])),
        held_out=_accuracy(mapping(found["held_out_accuracy"])),
        calibrations={
            name: _calibration(mapping(each), SCHEMA_VERSION) for name, each in statistics.items()
        },
        rows=integer(found["rows"], lowest=1),
    )


def _workload_size(value: object) -> int:
    return integer(value, lowest=1, highest=max(MAX_POSITIONS, MAX_BATCH_SIZE))


def _checked_slice(value: Mapping[str, Any]) -> Slice:
    named = dict(zip(SLICE_DEFAULTS, slice_of_columns(value), strict=True))
    for name, default in SLICE_DEFAULTS.items():
        if type(named[name]) is not type(default):
            raise InputError(f"{name} {named[name]!r} is of another type")
    return tuple(named[name] for name in SLICE_DEFAULTS)


def _ranges(value: object) -> IntMatrix:
    """The lowest and the highest value of each field, int64 `[5, 2]`."""
    return np.array([_bounds(mapping(value)[name]) for name in ARCHITECTURE_FIELDS])


def _slice_from_json(value: Mapping[str, Any], version: int) -> SlicePredictor:
    ranges = _ranges(value["range"])
    models = {
        name: _READERS[name].from_json(mapping(model))
        for name, model in mapping(value["models"]).items()
    }
    chosen = value["chosen"]
    statistics = mapping(value["statistics"])
    if set(models) != set(mapping(value["held_out_accuracy"])):
        raise InputError("not every model has its held-out accuracy")
    if chosen not in models or "quiet" not in statistics:
        raise InputError("the chosen model or its bounds are not there")
    return SlicePredictor(
        slice=_checked_slice(mapping(value["slice"])),
        lowest=ranges[:, 0],
        highest=ranges[:, 1],
        models=models,
        chosen=chosen,
        accuracies={
            name: _accuracy(mapping(found))
            for name, found in mapping(value["held_out_accuracy"]).items()
        },
        calibrations={
            name: _calibration(mapping(found), version) for name, found in statistics.items()
        },
        rows=integer(value["rows"], lowest=1),
        spread=EVEN_SPREAD if version == 1 else Spread.from_json(mapping(value["spread"])),
        label_noise=None
        if version == 1
        else optional(value["label_noise"], lambda noise: number(noise, lowest=0)),
    )


def _bounds(value: object) -> list[int]:
    """The lowest and the highest value of a field."""
    low, high = items(value, integer)
    if not 1 <= low <= high:
        raise ValueError(f"no range {low}..{high}")
    return [low, high]


def _accuracy(value: Mapping[str, Any]) -> Accuracy:
    shares = {name: number(share) for name, share in value.items() if name != "rows"}
    return Accuracy(rows=integer(value["rows"], lowest=1), **shares)


def _calibration(value: Mapping[str, Any], version: int) -> Calibration:
    low, high = number(value["low"]), number(value["high"])
    if version == 1:
        # Bounds were told from the quiet latency on, not from the statistic.
        center = number(value["center"])
        low, high = low - center, high - center
        knots, centers, safe = np.zeros(1), np.array([center]), high
    else:
        knots, centers = (
            np.array(items(value[name], number), dtype=np.float64)
            for name in ("log_knots", "centers")
        )
        safe = number(value["safe"])
    if not (len(knots) == len(centers) >= 1 and (np.diff(knots) > 0).all()):
        raise ValueError("knots and centers do not match")
    if not -_MOST_LOG_FACTOR <= low <= high <= safe <= _MOST_LOG_FACTOR:
        raise ValueError(f"no bounds from {low:g} to {high:g}")
    if (np.abs(centers) > _MOST_LOG_FACTOR).any():
        raise ValueError("a center is no factor")
    return Calibration(knots, centers, low, high, safe)
