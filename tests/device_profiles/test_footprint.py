from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotinybert.errors import DamagedFileError, InputError
from device_profiles.footprint import FOOTPRINT_COLUMNS, Footprint
from device_profiles.journal import read_journal
from device_profiles.measurements import concatenate, read_measurements, write_measurements
from device_profiles.profile import JOURNAL_FILE, LATENCIES_FILE, DeviceProfile
from device_profiles.rows import rows_of
from device_profiles.visits import CampaignRecord

VALUES: dict[str, Any] = {
    "file_bytes": 2_000_000,
    "baseline_rss_bytes": 60_000_000,
    "peak_rss_bytes": 90_000_000,
    "open_ms": 20.0,
    "first_run_ms": 5.0,
    "time_to_first_ms": 25.0,
    "process_to_first_ms": 125.0,
}


def footprint(**change: Any) -> Footprint:
    return Footprint(**{**VALUES, **change})


def test_repeats_give_the_median_of_each_time_and_the_most_memory() -> None:
    repeats = [
        footprint(time_to_first_ms=time, peak_rss_bytes=peak)
        for time, peak in ((30.0, 9), (20.0, 11), (90.0, 10))
    ]
    whole = Footprint.of_repeats(repeats)
    assert (whole.time_to_first_ms, whole.peak_rss_bytes) == (30.0, 11)
    assert Footprint.from_json(whole.to_json()) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_bytes": 0}, "file_bytes must be above 0"),
        ({"peak_rss_bytes": 1.5}, "peak_rss_bytes must be a number"),
        ({"open_ms": True}, "open_ms must be a number"),
        ({"open_ms": math.nan}, "open_ms must be above 0"),
        ({"open_ms": math.inf}, "open_ms must be above 0"),
        ({"file_bytes": 10**400}, "file_bytes must be above 0"),
    ],
)
def test_what_is_no_footprint_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        footprint(**change)
    with pytest.raises(InputError, match="a footprint lacks process_to_first_ms"):
        Footprint.from_json({name: VALUES[name] for name in list(VALUES)[:-1]})


def test_footprints_are_columns_of_the_rows_that_have_one(
    tmp_path: Path, make_profile: Callable[..., Path]
) -> None:
    profile = DeviceProfile.load(make_profile(configs=3))
    rows = rows_of(profile.campaign(), profile.protocol)
    path = tmp_path / "latencies.csv"
    write_measurements(path, rows, {rows[1].configuration: footprint()})
    found = read_measurements(path).footprints
    assert tuple(found) == FOOTPRINT_COLUMNS
    assert {name: column[1] for name, column in found.items()} == {
        "file_mb": 2.0,
        "peak_rss_mb": 90.0,
        "time_to_first_ms": 25.0,
    }
    assert np.isnan(found["file_mb"][[0, 2]]).all()
    both = concatenate([read_measurements(path), read_measurements(_without(path))])
    assert np.isnan(both.footprints["file_mb"]).tolist() == [n != 1 for n in range(2 * len(rows))]


def _without(path: Path) -> Path:
    """The same file as it was before there were such columns."""
    other = path.with_name("before.csv")
    lines = [line.split(",") for line in path.read_text().splitlines()]
    place = lines[0].index(FOOTPRINT_COLUMNS[0])
    other.write_text("\n".join(",".join(row[:place] + row[place + 3 :]) for row in lines) + "\n")
    assert read_measurements(other).footprints == {}
    return other


def test_a_footprint_that_is_none_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "num_layers,hidden_size,ffn_size,num_heads,qkv_size,latency_ms,file_mb\n1,8,8,1,8,1,-3\n"
    )
    with pytest.raises(InputError, match="line 2: file_mb is '-3'"):
        read_measurements(path)


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "footprint", "configuration": 99, **VALUES},
        {"kind": "footprint", "configuration": 0},
        {"kind": "footprint", "configuration": 0, **VALUES, "open_ms": "1"},
        {"kind": "sustained", "configuration": 0, "second": [0]},
        {"kind": "sustained", "second": [0], "median_ns": [1], "runs": [1]},
    ],
)
def test_a_journal_with_another_record_is_damaged(
    make_profile: Callable[..., Path], record: dict[str, Any]
) -> None:
    records = read_journal(make_profile(configs=2) / JOURNAL_FILE)
    with pytest.raises(DamagedFileError, match=f"journal line {len(records) + 1} is no record"):
        CampaignRecord.from_journal([*records, record])


def test_a_profile_without_footprints_has_the_columns_empty(
    make_profile: Callable[..., Path],
) -> None:
    folder = make_profile(configs=2)
    assert ",".join(FOOTPRINT_COLUMNS) in (folder / LATENCIES_FILE).read_text()
    profile = DeviceProfile.load(folder)
    assert np.isnan(profile.measurements.footprints["file_mb"]).all()
    assert not {"footprints", "sustained", "lengths"} & set(profile.document)
