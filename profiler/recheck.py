"""Measures a few shapes of a profile again and says whether the profile still holds.

After an ONNX Runtime upgrade, on another unit of the same device type, or a year later: a handful
of shapes, spread over the profile's latencies, with its protocol, in a campaign of a minute.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from autotinybert.errors import InputError
from device_profiles.comparison import row_indices, slower
from device_profiles.journal import Journal
from device_profiles.machine import key_differences, measurement_key
from device_profiles.measurements import MeasuredRow, describe_slice, slice_of
from device_profiles.profile import DeviceProfile
from device_profiles.rows import rows_of
from device_profiles.target import Configuration
from device_profiles.visits import CampaignRecord
from profiler.campaign import Progress, Worker, run_campaign
from profiler.plan import Plan

DEFAULT_RECHECK_CONFIGS = 5
MOST_RECHECK_CONFIGS = 100

# Two quiet campaigns on one machine differ by up to 1.5 % in the median, and nine of ten rows by up
# to 4 %. A row that is `ok` was seen twice within 3 %, so one label lies no farther than that above
# the quiet state but by a fluke; what is 5 % off is another latency.
MEDIAN_WITHIN = 0.02
ROW_WITHIN = 0.05

# With more rows in doubt than these the machine is too busy to say anything.
_SHARE_NEEDED = 0.8
_FEWEST_ROWS = 3

# On a quiet machine a visit reads some 4 % above the fastest. One that is this restless has made
# what is slower slow itself: only a profile that holds all the same is believed then.
_RESTLESS = 0.10

Verdict = Literal["holds", "shifted", "does not hold", "cannot tell"]


@dataclass(frozen=True)
class RecheckedRow:
    """A shape of the profile, measured again.

    Attributes:
        configuration: what was measured.
        old_ms: its quiet latency in the profile.
        new: the row as it is now.
    """

    configuration: Configuration
    old_ms: float
    new: MeasuredRow

    @property
    def ratio(self) -> float | None:
        """New over old; None where the new row is not `ok`."""
        if self.new.verdict != "ok" or self.new.latency_ms is None:
            return None
        return self.new.latency_ms / self.old_ms

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            **self.configuration.to_json(),
            "old_ms": self.old_ms,
            "new_ms": self.new.latency_ms,
            "ratio": self.ratio,
            "verdict": self.new.verdict,
            "reason": self.new.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Recheck:
    """Whether a profile still holds.

    Attributes:
        rows: what was measured again, by rising latency.
        key_differences: fields of the measurement key that differ, a phrase for each.
        unrest: how far, relatively, a row's middle visit lies above its fastest; the median row's.
        elapsed_s: how long the campaign took.
    """

    rows: tuple[RecheckedRow, ...]
    key_differences: tuple[str, ...]
    unrest: float
    elapsed_s: float

    @property
    def ratios(self) -> list[float]:
        """New over old, of the rows that are `ok`."""
        return [row.ratio for row in self.rows if row.ratio is not None]

    @property
    def median_ratio(self) -> float | None:
        """The median of the ratios; None if there are none."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def verdict(self) -> Verdict:
        """`shifted`: all rows by one factor."""
        ratios, median = self.ratios, self.median_ratio
        if median is None or len(ratios) < max(_FEWEST_ROWS, _SHARE_NEEDED * len(self.rows)):
            return "cannot tell"
        if _within(median, MEDIAN_WITHIN) and all(_within(r, ROW_WITHIN) for r in ratios):
            return "holds"
        if self.unrest > _RESTLESS:
            return "cannot tell"
        if all(_within(ratio / median, ROW_WITHIN) for ratio in ratios):
            return "shifted"
        return "does not hold"

    @property
    def sentence(self) -> str:
        """The verdict in words, with what to do."""
        if self.verdict == "holds":
            return "the profile holds"
        if self.verdict == "shifted":
            assert self.median_ratio is not None
            return (
                f"shifted uniformly: this machine is {slower(self.median_ratio)}; rankings and "
                "speed-ups of the profile hold, its milliseconds do not: give the search "
                "--speedup, or profile again"
            )
        if self.verdict == "does not hold":
            return "does not hold: profile again"
        return (
            f"cannot tell: {len(self.ratios)} of {len(self.rows)} rows are ok, and visits lie "
            f"{self.unrest:.0%} above the fastest: stop other work on the machine and check again"
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "median_ratio": self.median_ratio,
            "key_differences": list(self.key_differences),
            "unrest": self.unrest,
            "rows": [row.to_json() for row in self.rows],
            "elapsed_s": round(self.elapsed_s, 3),
        }


def _within(ratio: float, share: float) -> bool:
    return abs(math.log(ratio)) <= math.log1p(share)


def choose_rows(profile: DeviceProfile, count: int) -> list[tuple[Configuration, float]]:
    """Rows of a profile that are spread over its latencies: fastest, slowest, quantiles between.

    Args:
        profile: what is to be checked.
        count: how many rows; all that are `ok` if there are fewer.

    Returns:
        Each row's configuration and quiet latency in ms, by rising latency.

    Raises:
        InputError: if the profile has too few rows that are `ok`.
    """
    found = profile.measurements
    latency_ms = found.statistics["latency_ms"]
    ok = [index for index, verdict in enumerate(found.verdicts) if verdict == "ok"]
    if len(ok) < _FEWEST_ROWS:
        raise InputError(
            f"{profile.folder} has {len(ok)} rows that are ok, at least {_FEWEST_ROWS} are "
            "needed to check it: profile the machine again"
        )
    ordered = sorted(ok, key=lambda index: (latency_ms[index], index))
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    configuration_of = {
        (configuration.architecture.row, slice_of(configuration)): configuration
        for configuration in profile.campaign().configurations
    }
    row_names = list(row_indices(profile))
    chosen: list[tuple[Configuration, float]] = []
    for place in places.tolist():
        index = ordered[place]
        configuration = configuration_of.get(row_names[index])
        if configuration is None:
            raise InputError(
                f"row {index + 1} of {profile.folder} is not in its journal: measure again"
            )
        chosen.append((configuration, float(latency_ms[index])))
    return chosen


def recheck_plan(chosen: Sequence[tuple[Configuration, float]], seed: int) -> Plan:
    """The plan of a campaign that measures the chosen rows, and nothing else."""
    configurations = tuple(configuration for configuration, _ in chosen)
    return Plan(configurations, len(configurations), 1, seed)


def recheck(
    profile: DeviceProfile,
    chosen: Sequence[tuple[Configuration, float]],
    journal: Journal,
    open_worker: Callable[[], Worker],
    *,
    host: Mapping[str, Any],
    clock_s: Callable[[], float],
    seed: int = 0,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Recheck:
    """Measures rows of a profile again, with its protocol.

    Args:
        profile: what is checked.
        chosen: its rows, as `choose_rows` gives them.
        journal: where visits are journalled; what is there already is not made again.
        open_worker: starts a fresh worker.
        host: facts of the machine that the workers measure.
        clock_s: reads seconds.
        seed: decides the order of the visits.
        on_progress: told after every visit.

    Raises:
        InputError: if the journal belongs to something else.
    """
    campaign = run_campaign(
        recheck_plan(chosen, seed),
        profile.protocol,
        journal,
        open_worker,
        host=host,
        clock_s=clock_s,
        on_progress=on_progress,
    )
    rows = rows_of(campaign, profile.protocol)
    return Recheck(
        rows=tuple(
            RecheckedRow(configuration, old_ms, new)
            for (configuration, old_ms), new in zip(chosen, rows, strict=True)
        ),
        key_differences=tuple(key_differences(profile.key, measurement_key(host))),
        unrest=_unrest(campaign),
        elapsed_s=campaign.elapsed_s,
    )


def _unrest(campaign: CampaignRecord) -> float:
    """How far above its fastest visit a row's middle one lies, slow blocks included.

    Disturbed visits are not: why they are slow is known, and they are no part of any row.
    """
    minima: dict[int, list[int]] = {}
    for visit in campaign.visits:
        if not visit.disturbed:
            minima.setdefault(visit.configuration, []).append(visit.minimum_ns)
    gaps = [statistics.median(found) / min(found) - 1 for found in minima.values()]
    return statistics.median(gaps) if gaps else 0.0


def describe(configuration: Configuration) -> str:
    """A configuration in words."""
    return f"{configuration.architecture}, {describe_slice(slice_of(configuration))}"
