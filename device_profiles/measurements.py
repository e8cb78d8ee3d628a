"""Measurements as columns: one row per architecture, workload and target.

The form that predictors fit. It comes from a device profile or from anyone's CSV file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from autotinybert.files import whole_file
from device_profiles.footprint import FOOTPRINT_COLUMNS, Footprint
from device_profiles.provider_options import CPU_PROVIDER
from device_profiles.table import Table, read_table
from device_profiles.target import (
    MAX_BATCH_SIZE,
    MAX_THREADS,
    Configuration,
)
from device_profiles.verdicts import Verdict
from supernet.architecture import ARCHITECTURE_FIELDS, UPPER_BOUNDS, IntMatrix
from supernet.cost import MAX_POSITIONS

# The columns that one predictor must not mix, and what a file without them means.
SLICE_DEFAULTS: dict[str, int | str] = {
    "sequence_length": 128,
    "batch_size": 1,
    "threads": 1,
    "precision": "fp32",
    "graph_variant": "plain",
    "provider": CPU_PROVIDER,
    "provider_options": "",
}
_INTEGER_BOUNDS = {
    "sequence_length": MAX_POSITIONS,
    "batch_size": MAX_BATCH_SIZE,
    "threads": MAX_THREADS,
}

# Eleven days; the smallest latency that is believed is a picosecond.
HIGHEST_LATENCY_MS = 1e9

# The values of these columns in one row: everything but the architecture.
Slice = tuple[int | str, ...]

STATISTICS = ("latency_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms")

FloatVector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredRow:
    """What a campaign says about one configuration.

    Attributes:
        configuration: what was measured.
        latency_ms: the label, the quiet latency; None if rejected.
        percentiles_ms: percentiles of all accepted runs; None where they are too few.
        visits: accepted visits.
        runs: accepted timed runs.
        verdict: whether the label can be trusted.
        reason: why it cannot, and what to do.
        end_to_end_ms: the quiet latency from ordinary memory to ordinary memory, where the
            device has memory of its own; None elsewhere.
    """

    configuration: Configuration
    latency_ms: float | None
    percentiles_ms: dict[int, float | None]
    visits: int
    runs: int
    verdict: Verdict
    reason: str = ""
    end_to_end_ms: float | None = None


@dataclass(frozen=True)
class Measurements:
    """Measured rows as columns, all of length N.

    Attributes:
        source: the file or folder they come from, for messages.
        architectures: int64 `[N, 5]`.
        slices: of each row, the values of `SLICE_DEFAULTS`' columns.
        statistics: float64 `[N]` for `latency_ms` and, where known, percentiles; NaN is unknown.
        verdicts: of each row.
        sha256: of the bytes that they were read from.
        footprints: float64 `[N]` for each of `FOOTPRINT_COLUMNS` that there is; NaN is unknown.
        campaigns: int64 `[N]`, which of several parts each row is of; None if there is one.
    """

    source: str
    architectures: IntMatrix
    slices: list[Slice]
    statistics: dict[str, FloatVector]
    verdicts: list[Verdict]
    sha256: str = ""
    footprints: dict[str, FloatVector] = field(default_factory=dict)
    campaigns: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.slices)


def describe_slice(values: Slice) -> str:
    """A slice in words: `128 tokens, batch 1, 1 thread, fp32, plain`."""
    named = dict(zip(SLICE_DEFAULTS, values, strict=True))
    provider = "" if named["provider"] == CPU_PROVIDER else f", {named['provider']}"
    options = f" ({named['provider_options']})" if named["provider_options"] else ""
    return (
        f"{named['sequence_length']} tokens, batch {named['batch_size']}, "
        f"{named['threads']} thread{'s' * (named['threads'] != 1)}, {named['precision']}, "
        f"{named['graph_variant']}{provider}{options}"
    )


def slice_of(configuration: Configuration) -> Slice:
    """The workload and target of a configuration, as values of `SLICE_DEFAULTS`' columns."""
    described = configuration.to_json()
    return tuple(described[name] for name in SLICE_DEFAULTS)


def slice_of_columns(row: Mapping[str, Any]) -> Slice:
    """The workload and target that a row or a record names; what is older lacks the options.

    Raises:
        KeyError: if another column is missing.
    """
    named = {"provider_options": SLICE_DEFAULTS["provider_options"], **row}
    return tuple(named[name] for name in SLICE_DEFAULTS)


def rows_of_slice(rows: Iterable[Mapping[str, Any]], values: Slice) -> list[Mapping[str, Any]]:
    """The rows, with the columns of a profile, that belong to one workload and target."""
    return [row for row in rows if slice_of_columns(row) == values]


def concatenate(parts: Sequence[Measurements]) -> Measurements:
    """One set of measurements from several; a column that a part lacks is NaN there."""
    return Measurements(
        source=", ".join(part.source for part in parts),
        architectures=np.concatenate([part.architectures for part in parts]),
        slices=[row for part in parts for row in part.slices],
        statistics=_joined(STATISTICS, [(part.statistics, len(part)) for part in parts]),
        verdicts=[verdict for part in parts for verdict in part.verdicts],
        footprints=_joined(FOOTPRINT_COLUMNS, [(part.footprints, len(part)) for part in parts]),
        campaigns=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
    )


def _joined(
    names: Sequence[str], parts: Sequence[tuple[Mapping[str, FloatVector], int]]
) -> dict[str, FloatVector]:
    """Columns of several parts, each with its length, one after another."""
    return {
        name: np.concatenate(
            [columns.get(name, np.full(length, np.nan)) for columns, length in parts]
        )
        for name in names
        if any(name in columns for columns, _ in parts)
    }


def architecture_columns(table: Table) -> IntMatrix:
    """The five columns of a table as architectures, int64 `[N, 5]`.

    Raises:
        InputError: if a column is missing or a row is no architecture; names the line.
    """
    table.require(ARCHITECTURE_FIELDS)
    matrix = table.integers({name: UPPER_BOUNDS[name] for name in ARCHITECTURE_FIELDS})
    impossible = np.flatnonzero(matrix[:, 4] % matrix[:, 3])
    if len(impossible):
        row = int(impossible[0])
        raise table.error(
            row, f"qkv_size {matrix[row, 4]} is not divisible by num_heads {matrix[row, 3]}"
        )
    return matrix


def slice_columns(
    table: Table, defaults: Mapping[str, int | str] = SLICE_DEFAULTS
) -> tuple[list[Slice], npt.NDArray[np.int64]]:
    """Workload and target of each row; a column or field that is missing has its default.

    Returns:
        The different slices, and for each row the index of its own, `[N]`.

    Raises:
        InputError: if a number is out of bounds; names the line.
    """
    bounds = {name: highest for name, highest in _INTEGER_BOUNDS.items() if name in table}
    integers = dict(zip(bounds, table.integers(bounds).T, strict=True)) if bounds else {}
    columns: list[tuple[list[int | str], npt.NDArray[np.int64]]] = []
    combined = np.zeros(len(table), dtype=np.int64)
    # Codes instead of tuples: a million rows have a handful of slices.
    for name, default in defaults.items():
        known: list[int | str] = [default]
        codes = np.zeros(len(table), dtype=np.int64)
        if name in integers:
            values, codes = np.unique(integers[name], return_inverse=True)
            known = values.tolist()
        elif name in table:
            index: dict[int | str, int] = {}
            texts = [text or default for text in table.texts(name)]
            codes = np.array([index.setdefault(text, len(index)) for text in texts])
            known = list(index)
        columns.append((known, codes))
        combined = combined * len(known) + codes
    _, first_rows, inverse = np.unique(combined, return_index=True, return_inverse=True)
    slices = [tuple(known[codes[row]] for known, codes in columns) for row in first_rows]
    return slices, inverse


def read_measurements(path: Path) -> Measurements:
    """Reads measurements from a CSV file, columns in any order.

    Needs `num_layers, hidden_size, ffn_size, num_heads, qkv_size, latency_ms`; takes workload
    and target columns, percentiles and verdicts where they are there, and passes over others.

    Raises:
        InputError: if the file or a field is not right; names the line.
    """
    table = read_table(path)
    table.require([*ARCHITECTURE_FIELDS, "latency_ms"])
    verdicts = _verdicts(table)
    statistics = {
        name: table.positive_floats(
            name,
            highest=HIGHEST_LATENCY_MS,
            allow_empty=name != "latency_ms" or "rejected" in verdicts,
        )
        for name in STATISTICS
        if name in table
    }
    for row in np.flatnonzero(np.isnan(statistics["latency_ms"])).tolist():
        if verdicts[row] != "rejected":
            raise table.error(row, "latency_ms is empty, but the row is not rejected")
    slices, slice_of_row = slice_columns(table)
    return Measurements(
        source=str(path),
        architectures=architecture_columns(table),
        slices=[slices[index] for index in slice_of_row.tolist()],
        statistics=statistics,
        verdicts=verdicts,
        sha256=table.sha256,
        footprints={
            name: table.positive_floats(name, highest=HIGHEST_LATENCY_MS, allow_empty=True)
            for name in FOOTPRINT_COLUMNS
            if name in table
        },
    )


def _verdicts(table: Table) -> list[Verdict]:
    if "verdict" not in table:
        return ["ok"] * len(table)
    known: dict[str, Verdict] = {verdict: verdict for verdict in get_args(Verdict)}
    texts = table.texts("verdict")
    for row, text in enumerate(texts):
        if text not in known:
            raise table.error(row, f"verdict is {text[:40]!r}, not one of {', '.join(known)}")
    return [known[text] for text in texts]


_COLUMNS = (
    "model_id",
    *ARCHITECTURE_FIELDS,
    *SLICE_DEFAULTS,
    *STATISTICS,
    "visits",
    "runs",
    *FOOTPRINT_COLUMNS,
    "verdict",
    "reason",
)


def write_measurements(
    path: Path,
    rows: Sequence[MeasuredRow],
    footprints: Mapping[Configuration, Footprint] | None = None,
) -> None:
    """Writes `latencies.csv`: readable in a spreadsheet, and by `read_measurements`.

    The column `end_to_end_ms` is there if a row has it.
    """
    optional = ["end_to_end_ms"] if any(row.end_to_end_ms is not None for row in rows) else []
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*_COLUMNS, *optional))
        for row in rows:
            described = row.configuration.to_json()
            statistics = (row.latency_ms, *row.percentiles_ms.values())
            footprint = (footprints or {}).get(row.configuration)
            sizes = footprint.columns() if footprint else dict.fromkeys(FOOTPRINT_COLUMNS)
            writer.writerow(
                (
                    described["model_id"],
                    *row.configuration.architecture.row,
                    *(described[name] for name in SLICE_DEFAULTS),
                    *map(_field, statistics),
                    row.visits,
                    row.runs,
                    *("" if value is None else f"{value:.3f}" for value in sizes.values()),
                    row.verdict,
                    row.reason,
                    *(_field(row.end_to_end_ms) for _ in optional),
                )
            )


def _field(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
