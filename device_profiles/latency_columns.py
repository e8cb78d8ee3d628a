"""What a latency file's columns are: latencies, what was measured, or neither."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autotinybert.errors import InputError
from device_profiles.quality import FloatVector, IntVector
from device_profiles.robust_fit import FloatMatrix
from device_profiles.table import Table

DEFAULT_LATENCY_COLUMN = "latency_ms"

# A file in nanoseconds of latencies of a quarter of an hour.
_HIGHEST_LATENCY = 1e12

# Other measurements of the same rows: as features they would swallow what is looked for.
_MEASURED = re.compile(
    r"latency|_(ms|us|ns|s|sec|std|stddev|mb|bytes)$|^(p\d+|std|mean|median|visits|runs|memory)\b"
)
# Names of rows, notes on them, and clocks.
_NO_FEATURE = frozenset(
    {
        *("id", "index", "row", "model_id", "name", "unnamed: 0", ""),
        *("verdict", "reason", "note", "comment"),
        *("time", "timestamp", "date", "datetime", "started"),
    }
)

# A text column with more is a name, not a kind.
_MOST_LEVELS = 8


@dataclass(frozen=True)
class LatencyColumns:
    """A file as numbers.

    Attributes:
        rows: `[N]`, which rows of the file have a latency.
        latencies: `[N]`, summed over the latency columns.
        features: `[N, P]`, what is known of each row.
        names: of the features.
        passed_over: columns that are neither latency nor feature.
    """

    rows: IntVector
    latencies: FloatVector
    features: FloatMatrix
    names: list[str]
    passed_over: list[str]


def latency_columns(
    table: Table, latency: Sequence[str] = (), ignore: Sequence[str] = ()
) -> LatencyColumns:
    """Reads a table's latencies and what may explain them.

    Args:
        table: the file.
        latency: the columns whose sum is the latency; without any, `latency_ms`.
        ignore: columns that say nothing of what was measured.

    Raises:
        InputError: if a column is missing or named twice, or a latency is no number above 0.
    """
    if not latency and DEFAULT_LATENCY_COLUMN not in table:
        candidates = [name for name in table.header if _MEASURED.search(name.lower())]
        raise InputError(
            f"{table.path} has no column {DEFAULT_LATENCY_COLUMN}: name it with --latency-column; "
            f"it has {', '.join(candidates or table.header)[:200]}"
        )
    latency = list(latency) or [DEFAULT_LATENCY_COLUMN]
    if len(set(latency)) < len(latency):
        raise InputError("a --latency-column is named twice: it would count twice")
    if both := set(latency) & set(ignore):
        raise InputError(f"{min(both)} is both a --latency-column and to be ignored")
    table.require([*latency, *ignore])
    total = np.sum(
        [
            table.positive_floats(name, highest=_HIGHEST_LATENCY, allow_empty=True)
            for name in latency
        ],
        axis=0,
    )
    rows = np.flatnonzero(np.isfinite(total))
    if len(rows) == 0:
        raise InputError(f"{table.path} has no row with a latency in {', '.join(latency)}")
    names: list[str] = []
    columns: list[FloatVector] = []
    passed_over = list(ignore)
    for name in table.header:
        if name in latency or name in ignore:
            continue
        texts = table.texts(name)
        found = {} if _says_nothing(name) else _features(name, [texts[row] for row in rows])
        if not found:
            passed_over.append(name)
        names += found
        columns += found.values()
    features = np.stack(columns, axis=1) if columns else np.empty((len(rows), 0))
    return LatencyColumns(rows, total[rows], features, names, passed_over)


def _says_nothing(name: str) -> bool:
    lowered = name.lower()
    return lowered in _NO_FEATURE or _MEASURED.search(lowered) is not None


def _features(name: str, texts: Sequence[str]) -> dict[str, FloatVector]:
    """A column as features by name: itself, or one for each kind that a text column has."""
    numbers = np.array([_number(text) for text in texts])
    known = np.isfinite(numbers)
    if known.any() and not any(text for text, fine in zip(texts, known, strict=True) if not fine):
        if _is_counter(numbers):
            return {}
        found = {name: np.where(known, numbers, np.median(numbers[known]))}
        if not known.all():
            found[f"{name} is empty"] = np.where(known, 0.0, 1.0)
        return found
    levels = sorted(set(texts))
    if len(levels) > _MOST_LEVELS:
        return {}
    # The first kind is the one without any of the others.
    return {
        f"{name} is {level[:40]}": np.array([float(text == level) for text in texts])
        for level in levels[1:]
    }


def _number(text: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan
    return value if abs(value) < 1e100 else math.nan


def _is_counter(numbers: FloatVector) -> bool:
    """Whether a column counts the rows: it would explain drift away."""
    return len(numbers) > 2 and bool((np.diff(numbers) == 1).all())
