"""What changed between two device profiles: the machines, the ratios of their rows, the ranking.

Two machines whose latencies differ by one factor rank encoders alike: what was searched for one of
them holds for the other, at another budget. So the common factor is taken out, and what is left is
judged on its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device_profiles.machine import KEY_FIELDS, key_differences
from device_profiles.measurements import SLICE_DEFAULTS, Slice, describe_slice, slice_of_columns
from device_profiles.profile import DeviceProfile
from supernet.architecture import Architecture

# Two quiet campaigns on one machine differ by a common factor of up to 2 %, and nine of ten of
# their rows by up to 4 %: nothing below that can be told from noise.
SAME_FACTOR = 0.02
SAME_ROW = 0.04
_SHARE_WITHIN = 0.9

# How near two rows count as equal in the share that is reported.
NEAR = 0.03

FEWEST_ROWS = 3
_MOST_WORST = 5

# Said on their own: the key's fields, and what is another figure at every look.
_NOT_COMPARED = (*KEY_FIELDS, "load_average")

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]

# A row of a profile: its architecture, workload and target.
RowName = tuple[tuple[int, ...], Slice]


@dataclass(frozen=True)
class RowRatio:
    """One row that both profiles have."""

    architecture: Architecture
    slice: Slice
    first_ms: float
    second_ms: float

    @property
    def ratio(self) -> float:
        """B over A."""
        return self.second_ms / self.first_ms

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; the names are those of the columns of a profile."""
        return {
            "model_id": str(self.architecture),
            **dict(zip(SLICE_DEFAULTS, self.slice, strict=True)),
            "a_ms": self.first_ms,
            "b_ms": self.second_ms,
            "ratio": self.ratio,
        }


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """B over A, on one statistic, over rows that both profiles have.

    Attributes:
        rows: how many.
        lower_quartile: of the ratios.
        median: of the ratios.
        upper_quartile: of the ratios.
        share_near: the share of rows that differ by at most `NEAR`.
        factor: geometric mean of the ratios.
        spread: what nine of ten rows differ by at most, relatively, once the factor is taken out.
        swapped: the share of pairs of rows, of those that differ by more than noise in both
            profiles, that stand in another order.
        worst: the rows farthest from the factor, the farthest first.
    """

    rows: int
    lower_quartile: float
    median: float
    upper_quartile: float
    share_near: float
    factor: float
    spread: float
    swapped: float
    worst: tuple[RowRatio, ...]

    @classmethod
    def of(cls, rows: Sequence[RowRatio]) -> Ratios:
        """The ratios of some rows.

        Raises:
            ValueError: if there are none.
        """
        if not rows:
            raise ValueError("there are no rows to compare")
        logs = np.log([row.second_ms for row in rows]) - np.log([row.first_ms for row in rows])
        center = float(logs.mean())
        apart = np.abs(logs - center)
        lower, median, upper = np.exp(np.quantile(logs, (0.25, 0.5, 0.75))).tolist()
        farthest = np.argsort(-apart, kind="stable")[:_MOST_WORST].tolist()
        return cls(
            rows=len(rows),
            lower_quartile=lower,
            median=median,
            upper_quartile=upper,
            share_near=float((np.abs(np.expm1(logs)) <= NEAR).mean()),
            factor=math.exp(center),
            spread=math.expm1(float(np.quantile(apart, _SHARE_WITHIN))),
            swapped=_share_swapped(
                np.array([row.first_ms for row in rows]), np.array([row.second_ms for row in rows])
            ),
            worst=tuple(rows[index] for index in farthest),
        )

    @property
    def uniform(self) -> bool:
        """Whether the rows differ by one factor and noise."""
        return self.spread <= SAME_ROW

    @property
    def same(self) -> bool:
        """Whether the rows differ by no more than noise."""
        return self.uniform and abs(math.log(self.factor)) <= math.log1p(SAME_FACTOR)

    @property
    def verdict(self) -> str:
        """In words."""
        if self.rows < FEWEST_ROWS:
            return f"cannot tell: {self.rows} rows are too few to compare"
        if self.same:
            return "the same within noise"
        if self.uniform:
            return f"B is {slower(self.factor)} everywhere"
        if abs(math.log(self.factor)) > math.log1p(SAME_FACTOR):
            on_average = f"B is {slower(self.factor)} on average"
        else:
            on_average = "alike on average"
        return (
            f"not the same device: differences are not uniform ({on_average}, but nine of ten "
            f"rows are only within {self.spread:.1%} of that)"
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "rows": self.rows,
            "lower_quartile": self.lower_quartile,
            "median": self.median,
            "upper_quartile": self.upper_quartile,
            "share_within_3_percent": self.share_near,
            "factor": self.factor,
            "spread_after_factor": self.spread,
            "pairs_in_another_order": self.swapped,
            "verdict": self.verdict,
            "worst": [row.to_json() for row in self.worst],
        }


def slower(factor: float) -> str:
    """A factor in words: `12.0 % slower`; faster is said of the speed."""
    if factor >= 1:
        return f"{100 * (factor - 1):.1f} % slower"
    # Of a half, `50 % faster` would be read as two thirds of the time.
    return f"{100 * (1 / factor - 1):.1f} % faster"


def _share_swapped(first: FloatVector, second: FloatVector) -> float:
    """The share of pairs that change their order; pairs nearer than noise have none."""
    far = math.log1p(SAME_ROW)
    logs_first, logs_second = np.log(first), np.log(second)
    pairs = swapped = 0
    for index in range(len(first) - 1):
        by_first = logs_first[index + 1 :] - logs_first[index]
        by_second = logs_second[index + 1 :] - logs_second[index]
        apart: BoolVector = (np.abs(by_first) > far) & (np.abs(by_second) > far)
        pairs += int(apart.sum())
        swapped += int((apart & (by_first * by_second < 0)).sum())
    return swapped / pairs if pairs else 0.0


@dataclass(frozen=True, kw_only=True)
class ProfileComparison:
    """What changed from profile A to profile B.

    Attributes:
        key: fields of the measurement key that differ, a phrase for each.
        facts: other facts of the host that differ, A's and B's value of each.
        protocol: numbers of the protocol that differ, A's and B's value of each.
        shared: rows in both.
        compared: rows that are `ok` in both.
        only_first: how many rows only A has.
        only_second: how many rows only B has.
        quiet: ratios of the quiet latency; None where no row is `ok` in both.
        p50: ratios of the median; None where no row has one in both.
        slices: ratios of the quiet latency for each workload and target that both have.
        references: reference rows that both have: name and ratio.
    """

    key: tuple[str, ...]
    facts: Mapping[str, tuple[Any, Any]]
    protocol: Mapping[str, tuple[Any, Any]]
    shared: int
    compared: int
    only_first: int
    only_second: int
    quiet: Ratios | None
    p50: Ratios | None
    slices: Mapping[Slice, Ratios]
    references: tuple[tuple[str, RowRatio], ...]

    @property
    def verdict(self) -> str:
        """In words."""
        if self.quiet is None:
            return f"cannot tell: no row is ok in both ({self.shared} are in both)"
        return self.quiet.verdict

    @property
    def told(self) -> bool:
        """Whether enough rows are `ok` in both to tell anything."""
        return self.quiet is not None and self.quiet.rows >= FEWEST_ROWS

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "verdict": self.verdict,
            "same": self.told and self.quiet is not None and self.quiet.same,
            "uniform": self.told and self.quiet is not None and self.quiet.uniform,
            "key_differences": list(self.key),
            "host_differences": {name: list(values) for name, values in self.facts.items()},
            "protocol_differences": {name: list(values) for name, values in self.protocol.items()},
            "rows_in_both": self.shared,
            "rows_compared": self.compared,
            "rows_only_in_a": self.only_first,
            "rows_only_in_b": self.only_second,
            "quiet": None if self.quiet is None else self.quiet.to_json(),
            "p50": None if self.p50 is None else self.p50.to_json(),
            "slices": [
                {**dict(zip(SLICE_DEFAULTS, values, strict=True)), **found.to_json()}
                for values, found in self.slices.items()
            ],
            "reference_rows": [{"name": name, **row.to_json()} for name, row in self.references],
        }


def compare_profiles(first: DeviceProfile, second: DeviceProfile) -> ProfileComparison:
    """Compares two profiles, whatever machines they are of.

    Args:
        first: A.
        second: B.
    """
    rows_of_first, rows_of_second = row_indices(first), row_indices(second)
    shared = [name for name in rows_of_first if name in rows_of_second]
    quiet = _ratios(first, second, shared, "latency_ms")
    p50 = _ratios(first, second, shared, "p50_ms")
    slices: dict[Slice, list[RowRatio]] = {}
    for row in quiet:
        slices.setdefault(row.slice, []).append(row)
    named = {(row["model_id"], slice_of_columns(row)): row["name"] for row in first.references}
    return ProfileComparison(
        key=tuple(key_differences(first.key, second.key)),
        facts=_differences(first.host, second.host, without=_NOT_COMPARED),
        protocol=_differences(first.protocol.to_json(), second.protocol.to_json()),
        shared=len(shared),
        compared=len(quiet),
        only_first=len(rows_of_first) - len(shared),
        only_second=len(rows_of_second) - len(shared),
        quiet=Ratios.of(quiet) if quiet else None,
        p50=Ratios.of(p50) if p50 else None,
        slices={values: Ratios.of(rows) for values, rows in slices.items()},
        references=tuple(
            (named[str(row.architecture), row.slice], row)
            for row in quiet
            if (str(row.architecture), row.slice) in named
        ),
    )


def row_indices(profile: DeviceProfile) -> dict[RowName, int]:
    """Where each row of a profile stands among its measurements."""
    found = profile.measurements
    names = zip(map(tuple, found.architectures.tolist()), found.slices, strict=True)
    return {name: index for index, name in enumerate(names)}


def _ratios(
    first: DeviceProfile, second: DeviceProfile, shared: Sequence[RowName], statistic: str
) -> list[RowRatio]:
    """The rows that are `ok` and have a statistic in both profiles."""
    indices = row_indices(first), row_indices(second)
    rows: list[RowRatio] = []
    for name in shared:
        values: list[float] = []
        for profile, index_of in zip((first, second), indices, strict=True):
            index = index_of[name]
            column = profile.measurements.statistics.get(statistic)
            if column is not None and profile.measurements.verdicts[index] == "ok":
                values.append(float(column[index]))
        if len(values) == 2 and all(map(math.isfinite, values)):
            rows.append(RowRatio(Architecture(*name[0]), name[1], values[0], values[1]))
    return rows


def _differences(
    first: Mapping[str, Any], second: Mapping[str, Any], *, without: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """The names whose values differ, with both values; what is not there is None."""
    return {
        name: (first.get(name), second.get(name))
        for name in {**first, **second}
        if name not in without and first.get(name) != second.get(name)
    }


def describe_row(row: RowRatio) -> str:
    """A row in words, for a table."""
    return f"{row.architecture}, {describe_slice(row.slice)}"
