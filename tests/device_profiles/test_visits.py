"""Rows that follow from the records of a journal."""

from __future__ import annotations

from typing import Any

import pytest

from autotinybert.errors import DamagedFileError
from device_profiles.protocol import Protocol
from device_profiles.rows import rows_of
from device_profiles.target import Configuration
from device_profiles.visits import CampaignRecord
from supernet.architecture import Architecture

CONFIGURATION = Configuration(Architecture(1, 8, 8, 1, 8))


def records(end_to_end: list[Any]) -> list[dict[str, Any]]:
    """A campaign over one configuration, with the end-to-end runs of each of its visits."""
    visits = [
        {
            "kind": "visit",
            "configuration": 0,
            "round": number,
            "block": number,
            "runs_ns": [1_000_000, 1_200_000, 1_100_000],
            "started_s": float(number),
            "elapsed_s": number + 0.5,
            "facts": {} if runs_ns is None else {"end_to_end_ns": runs_ns},
        }
        for number, runs_ns in enumerate(end_to_end, start=1)
    ]
    plan = {
        "kind": "campaign",
        "configurations": [CONFIGURATION.to_json()],
        "measurement_key": {},
    }
    rounds = [{"kind": "round", "round": n, "order": [0]} for n in range(1, len(visits) + 1)]
    return [plan, *rounds, *visits]


@pytest.mark.parametrize(
    ("end_to_end", "expected"),
    [
        ([[3_000_000, 2_000_000]] * 3 + [[1_500_000]], 1.5),
        ([None] * 4, None),
        ([[2_000_000]] * 3 + [None], None),  # one visit too few to be a label
    ],
)
def test_the_end_to_end_latency_is_the_quiet_one_over_visits(
    end_to_end: list[Any], expected: float | None
) -> None:
    (row,) = rows_of(CampaignRecord.from_journal(records(end_to_end)), Protocol())
    assert row.verdict == "ok"
    assert row.latency_ms == 1.0
    assert row.end_to_end_ms == expected


@pytest.mark.parametrize("damaged", [[], [0], [1.5], "123", [True], 7, {"a": 1}])
def test_end_to_end_runs_that_are_no_times_are_a_damaged_journal(damaged: Any) -> None:
    with pytest.raises(DamagedFileError, match="is no record of a campaign"):
        CampaignRecord.from_journal(records([damaged]))
