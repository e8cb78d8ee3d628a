"""The budget: what an encoder may cost on the device, on which statistic, and against what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotinybert.errors import InputError
from predictor.model import STATISTIC_COLUMNS
from supernet.architecture import Architecture
from supernet.published import BERT_BASE, PUBLISHED_SHAPES

# p99 and p90 exist in profiles, too; a verification makes too few runs for the first.
BUDGET_STATISTICS = ("quiet", "p50", "p95")

_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}

# Eleven days, as for measurements; the smallest latency that is believed is a picosecond.
_HIGHEST_LATENCY_MS = 1e9


def parse_latency(text: str, option: str = "--max-latency") -> float:
    """Reads a latency with its unit, `12ms`, `800us` or `0.5s`, as milliseconds.

    Args:
        text: as it was typed.
        option: what it was typed for, for messages.

    Raises:
        InputError: if it has no unit or an unknown one, or is no finite number above zero.
    """
    typed = text.strip()
    if _number(typed) is not None:
        raise InputError(f"{option} {typed} has no unit: write {typed}ms (or us, s)")
    for unit, in_ms in _UNITS_MS.items():
        value = _number(typed.removesuffix(unit)) if typed.endswith(unit) else None
        if value is None:
            continue
        latency_ms = value * in_ms
        if not 1 / _HIGHEST_LATENCY_MS <= latency_ms <= _HIGHEST_LATENCY_MS:
            raise InputError(f"{option} {typed} is no latency: write one above 0, such as 12ms")
        return latency_ms
    raise InputError(
        f"{option} {typed[:40]!r} is no latency: write a number and us, ms or s, such as 12ms"
    )


def _number(text: str) -> float | None:
    """The number that a text is, NaN and infinity among them; None if it is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def name_of(architecture: Architecture) -> str:
    """What people call a shape: `BERT-base`; the id of one without a name."""
    names = {shape.architecture: shape.name for shape in reversed(PUBLISHED_SHAPES)}
    return names.get(architecture, str(architecture))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What an encoder may cost: a latency, or a speed-up over a reference shape.

    Attributes:
        statistic: of the latency; one of `BUDGET_STATISTICS`.
        max_latency_ms: the most it may be; None for a speed-up.
        min_speedup: how many times as fast as the reference it must at least be; None for a
            latency.
        speedup_reference: what a speed-up is counted against.

    Raises:
        InputError: if the statistic is unknown, neither or both kinds of limit are given, or the
            limit is no finite number above zero.
    """

    statistic: str = "p50"
    max_latency_ms: float | None = None
    min_speedup: float | None = None
    speedup_reference: Architecture = BERT_BASE.architecture

    def __post_init__(self) -> None:
        if self.statistic not in BUDGET_STATISTICS:
            raise InputError(
                f"no budget statistic {self.statistic!r}: use {', '.join(BUDGET_STATISTICS)}"
            )
        if (self.max_latency_ms is None) == (self.min_speedup is None):
            raise InputError("give a budget: either --max-latency 12ms or --speedup 7")
        for name, value in (("latency", self.max_latency_ms), ("speed-up", self.min_speedup)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"a {name} of {value:g} is no budget: give a number above 0")

    @property
    def column(self) -> str:
        """The column of a profile that holds the statistic."""
        return STATISTIC_COLUMNS[self.statistic]

    def limit_ms(self, references: Sequence[Mapping[str, Any]]) -> float:
        """The most that the statistic may be, a speed-up turned into milliseconds.

        Args:
            references: the reference rows of a profile for one workload and target.

        Raises:
            InputError: if a speed-up's reference is not among them, or lacks the statistic.
        """
        if self.max_latency_ms is not None:
            return self.max_latency_ms
        assert self.min_speedup is not None
        row = reference_row(references, self.speedup_reference)
        value = row[self.column]
        if value is None:
            known = [name for name, column in STATISTIC_COLUMNS.items() if row[column] is not None]
            there = f"it has {', '.join(known)}" if known else "it has no statistic at all"
            raise InputError(
                f"the profile has no {self.statistic} of {name_of(self.speedup_reference)} "
                f"({there}): choose another --budget-statistic, or profile for longer"
            )
        return float(value) / self.min_speedup

    def describe(self) -> str:
        """In words: `p50 of at most 12 ms`."""
        if self.max_latency_ms is not None:
            return f"{self.statistic} of at most {self.max_latency_ms:g} ms"
        reference = name_of(self.speedup_reference)
        return f"{self.statistic} at least {self.min_speedup:g} times as fast as {reference}"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "statistic": self.statistic,
            "max_latency_ms": self.max_latency_ms,
            "min_speedup": self.min_speedup,
            "speedup_reference": str(self.speedup_reference),
        }


def reference_row(
    references: Sequence[Mapping[str, Any]], architecture: Architecture
) -> Mapping[str, Any]:
    """The row of one shape among the reference rows for one workload and target.

    Raises:
        InputError: if it is not among them.
    """
    for row in references:
        if row["model_id"] == str(architecture):
            return row
    measured = ", ".join(str(row["name"]) for row in references) or "none"
    raise InputError(
        f"{name_of(architecture)} is no reference of the profile, which has {measured}: "
        "count the speed-up against one of these"
    )
