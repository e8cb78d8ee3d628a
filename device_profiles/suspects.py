"""Suspect rows of a latency file that has one row for each configuration.

A configuration is seen once, so it is compared with what the file's other columns lead to expect.
Where the order of the rows follows those columns, misfit and drift look the same; then that is
said, and no row is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from device_profiles.drift import Drift, find_drift
from device_profiles.quality import FloatVector
from device_profiles.robust_fit import Fit, FloatMatrix, fit_robustly
from device_profiles.segments import lag_one_autocorrelation, segment_levels

FEWEST_ROWS = 30

# Where even 10 rows that are this much too slow would go unnoticed, nothing can be said.
_ROWS_OF_A_SHORT_STRETCH = 10
_NOTICED_AT_LEAST = 0.40

# Rank correlation of a column with the order of the rows.
_SORTED = 0.9
# Of a column's ranks in neighbouring rows, for a column with more values than a group has.
_STANDS_TOGETHER = 0.7
_FEWEST_VALUES = 5
# Share of the order of the rows that the columns explain together.
_ORDER_EXPLAINED = 0.5

# Share of other rows within the range of a column that a stretch covers; below, it is the column.
_SHARED_RANGE = 0.2

_REFITS = 2

_NOT_TOLD_APART = "misfit and drift cannot be told apart; measure in shuffled order"


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """What is wrong with the rows of a file, as far as it can tell.

    Attributes:
        drifts: what was found, in order; none where the file cannot be judged.
        not_judged: why the file cannot be judged; empty if it was.
        autocorrelation: of the misfit of neighbouring rows, or None without a fit. Around 0.1 to
            0.3 in files without long slow stretches, above 0.8 in files with them.
        explained: share of the variance of log latency that the columns explain, or None.
        noticed: the smallest relative slow-down that would be noticed in a stretch of 10 rows.
    """

    drifts: tuple[Drift, ...] = ()
    not_judged: str = ""
    autocorrelation: float | None = None
    explained: float | None = None
    noticed: float | None = None

    @property
    def rows(self) -> list[int]:
        """Every row that is suspect, from 0, in order."""
        return [row for drift in self.drifts for row in range(drift.first, drift.last + 1)]


def suspect_rows(latencies: FloatVector, columns: FloatMatrix, names: Sequence[str]) -> Suspects:
    """Rows that took longer than the other columns lead to expect, because of when they ran.

    Args:
        latencies: `[N]`, above 0, in any unit, in the order measured.
        columns: `[N, P]`, what is known of each row, finite; constant ones are left out.
        names: of the columns.

    Raises:
        ValueError: if the shapes disagree, or a value is not finite.
    """
    if columns.shape != (len(latencies), len(names)):
        raise ValueError(f"columns are {columns.shape}, not ({len(latencies)}, {len(names)})")
    if not (np.isfinite(latencies).all() and (latencies > 0).all() and np.isfinite(columns).all()):
        raise ValueError("latencies must be above 0, and columns finite")
    if len(latencies) < FEWEST_ROWS:
        return Suspects(
            not_judged=f"{len(latencies)} rows are too few to tell drift from noise: "
            f"{FEWEST_ROWS} are needed"
        )
    varying = np.ptp(columns, axis=0) > 0
    names = [name for name, kept in zip(names, varying, strict=True) if kept]
    columns = columns[:, varying]
    log_latencies = np.log(latencies)
    fit = fit_robustly(columns, log_latencies)
    if order := _explained_order(columns, names):
        return _judged(fit, not_judged=order)
    for _ in range(_REFITS):
        fit = _fit_about_levels(columns, log_latencies, fit)
    found = _judged(fit, noticed=segment_levels(fit.residuals).noticed(_ROWS_OF_A_SHORT_STRETCH))
    if found.noticed is not None and found.noticed > _NOTICED_AT_LEAST:
        reason = (
            f"the columns explain {max(fit.explained, 0):.0%} of log latency's variance, and "
            f"neighbouring rows differ so much that 10 rows {found.noticed:.0%} too slow would "
            "not stand out: add columns that say what was measured"
        )
        return replace(found, not_judged=reason)
    drifts = find_drift(fit.residuals)
    for drift in drifts:
        if column := _column_of_stretch(drift, columns, names):
            reason = (
                f"a stretch of {drift.last - drift.first + 1} rows is {drift.excess:.0%} too slow, "
                f"but they differ from the others in {column} too: {_NOT_TOLD_APART}"
            )
            return replace(found, not_judged=reason)
    return replace(found, drifts=tuple(drifts))


def _judged(fit: Fit, *, noticed: float | None = None, not_judged: str = "") -> Suspects:
    return Suspects(
        not_judged=not_judged,
        autocorrelation=lag_one_autocorrelation(fit.residuals),
        explained=fit.explained,
        noticed=noticed,
    )


def _fit_about_levels(columns: FloatMatrix, log_latencies: FloatVector, fit: Fit) -> Fit:
    """The fit again, with the level of the machine at each row taken off first.

    A long slow stretch bends the first fit; about the levels that it shows, it does so less.
    """
    levels = segment_levels(fit.residuals).of_rows
    again = fit_robustly(columns, log_latencies - levels)
    return Fit(again.residuals + levels, again.explained)


def _ranks(values: FloatVector) -> FloatVector:
    """Ranks from -1 to 1, ties at their mean, `[N]`."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    ranks: FloatVector = (2 * middle / max(len(values) - 1, 1) - 1)[inverse]
    return ranks


def _explained_order(columns: FloatMatrix, names: Sequence[str]) -> str:
    """Why the order of the rows tells what was measured; empty if it does not."""
    if not names:
        return ""
    ranks = np.stack([_ranks(column) for column in columns.T], axis=1)
    ranks -= ranks.mean(axis=0)
    ranks /= np.linalg.norm(ranks, axis=0)
    order = np.linspace(-1, 1, len(ranks))
    along = np.abs(order / np.linalg.norm(order) @ ranks)
    best = int(np.argmax(along))
    if along[best] > _SORTED:
        return f"the file is sorted by {names[best]}: {_NOT_TOLD_APART}"
    neighbours = (ranks[1:] * ranks[:-1]).sum(axis=0)
    neighbours[[len(np.unique(column)) < _FEWEST_VALUES for column in columns.T]] = 0.0
    if neighbours.max() > _STANDS_TOGETHER:
        return f"rows of like {names[int(np.argmax(neighbours))]} stand together: {_NOT_TOLD_APART}"
    explained = fit_robustly(columns, order).explained
    if explained > _ORDER_EXPLAINED:
        return (
            f"the order of the rows follows the columns, {names[best]} above all: {_NOT_TOLD_APART}"
        )
    return ""


def _column_of_stretch(drift: Drift, columns: FloatMatrix, names: Sequence[str]) -> str:
    """The column that sets the rows of a stretch apart from the others, if there is one."""
    if drift.kind == "spike":
        return ""
    inside = np.zeros(len(columns), dtype=np.bool_)
    inside[drift.first : drift.last + 1] = True
    low, high = np.quantile(columns[inside], [0.05, 0.95], axis=0)
    shared = ((columns[~inside] >= low) & (columns[~inside] <= high)).mean(axis=0)
    return names[int(np.argmin(shared))] if len(names) and shared.min() < _SHARED_RANGE else ""
