"""The measuring protocol: every number that decides how a latency is taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from autotinybert.errors import InputError
from device_profiles.quality import PERCENTILES, samples_needed

# Version of the JSON lines between a campaign and what measures for it.
#
# 1. The first.
# 2. `ready` says which exported file, if any, the process was started with; a visit may ask for it.
# 3. The protocol has `planned_visits`, `most_waiting_share` and `max_hold_s`; a visit tells how
#    long it was held back and its timed runs waited for the core, and may end early for it.
# 4. Requests for footprints, for lasting loads and for the doctor's facts; the process may be
#    started with `--cpus`, `--provider` and `--end-with-input`.
# 5. A configuration may be a part of an encoder.
WIRE_VERSION = 5


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a configuration is measured.

    The noise that matters lies between visits, minutes and processes apart, not within one. So a
    configuration gets several short visits, in shuffled rounds, from different processes.

    Attributes:
        visits: visits in the label, k: the label is the expected minimum of k visits.
        planned_visits: visits that every configuration is to get; those above k make the label
            steadier, and replace visits that were lost to a busy machine.
        max_visits: rounds after which a configuration that is not `ok` is given up.
        min_time_s: shortest time of the timed runs of a visit.
        min_runs: fewest timed runs of a visit.
        max_runs: most timed runs of a visit.
        max_warmup_runs: most runs before timing starts; warm-up ends earlier once a run no
            longer beats the best before it by `warmup_gain`.
        warmup_gain: relative gain below which a run counts as warm.
        block_size: visits that one measuring process makes before a fresh one takes over.
        most_waiting_share: a visit is disturbed, and not accepted, when its timed runs waited
            for the core for more than this share of their time; 1 turns the rule off.
        max_hold_s: longest time that a visit is held back while other work takes the core.
        slow_factor: a block is slow, and its visits are not accepted, when its visits took more
            than this times what they take in quiet blocks.
        agreement: a row is `ok` when its two fastest accepted visits agree within this.

    Raises:
        InputError: if a value makes no sense.
    """

    visits: int = 4
    planned_visits: int = 6
    max_visits: int = 8
    min_time_s: float = 0.08
    min_runs: int = 3
    max_runs: int = 100
    max_warmup_runs: int = 10
    warmup_gain: float = 0.02
    block_size: int = 32
    most_waiting_share: float = 0.02
    max_hold_s: float = 20.0
    slow_factor: float = 1.04
    agreement: float = 0.03

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kind = int if field.type == "int" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind):
                raise InputError(f"protocol: {field.name} must be a number, not {value!r}")
            if not 0 < value <= 10_000:  # nor is NaN
                raise InputError(f"protocol: {field.name} must be above 0, not {value!r}")
        if not self.visits <= self.max_visits:
            raise InputError("protocol: max_visits must be at least visits")
        if not self.visits <= self.planned_visits <= self.max_visits:
            raise InputError("protocol: planned_visits must be from visits to max_visits")
        if not self.most_waiting_share <= 1:
            raise InputError("protocol: most_waiting_share must be at most 1")
        if not self.min_runs <= self.max_runs:
            raise InputError("protocol: max_runs must be at least min_runs")

    @classmethod
    def for_percentile(cls, percentile: int) -> Self:
        """The default protocol, with enough runs to report a percentile.

        Even a row with no visit more than the label needs has them then.

        Raises:
            InputError: if the percentile is none that is reported.
        """
        if percentile not in PERCENTILES:
            known = ", ".join(map(str, PERCENTILES))
            raise InputError(f"no percentile {percentile} is reported: choose one of {known}")
        default = cls()
        runs = max(default.min_runs, -(-samples_needed(percentile) // default.visits))
        return cls(min_runs=runs, max_runs=max(runs, default.max_runs))

    def with_visits(self, planned: int) -> Self:
        """The same protocol with another number of planned visits: more make labels steadier.

        As many further visits as in this protocol may make up for doubtful ones.

        Raises:
            InputError: if they are fewer than the label needs.
        """
        if planned < self.visits:
            raise InputError(f"{planned} visits make no label: plan at least {self.visits}")
        further = self.max_visits - self.planned_visits
        return dataclasses.replace(self, planned_visits=planned, max_visits=planned + further)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads a protocol back.

        Raises:
            InputError: if it is no object, a key is missing or unknown, or a value is wrong.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(value, Mapping) or set(value) != names:
            raise InputError(f"protocol: its keys are {', '.join(sorted(names))}")
        return cls(**value)
