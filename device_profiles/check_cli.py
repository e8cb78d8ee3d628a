"""`check-latencies`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from autotinybert.command import Answer, JsonOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from device_profiles.drift import Drift
from device_profiles.latency_columns import latency_columns
from device_profiles.profile import LATENCIES_FILE, DeviceProfile
from device_profiles.quality import IntVector
from device_profiles.rows import why_not_accepted
from device_profiles.suspects import Suspects, suspect_rows
from device_profiles.table import Table, read_table
from device_profiles.verdicts import Cause
from device_profiles.visits import CampaignRecord

_COMMAND = "check-latencies"

# The quiet state must have been seen twice, or one visit may be a fluke.
# Causes by which a visit was slow, and not only disturbed.
_SLOW: tuple[Cause, ...] = ("slow block", "slow stretch", "throttling")

_FEWEST_QUIET_VISITS = 2

_MOST_LISTED = 20


def check_latencies(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="CSV file, or a device profile.")],
    *,
    latency_column: Annotated[
        list[str] | None,
        typer.Option(help="Column of the latency, latency_ms if none is named; several are added."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column that does not say what was measured."),
    ] = None,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Lists rows that were measured while the machine was in a slower state.

    Rows stand in the order measured, one for each configuration; numeric columns and kinds say
    what was measured. Exit code 0 whether or not rows are suspect.
    """
    del json, version  # the frame around every command reads them
    if path.is_dir():
        if latency_column or ignore:
            raise InputError(
                f"{path} is a device profile, whose visits are checked: --latency-column and "
                f"--ignore are for files, such as {path / LATENCIES_FILE}"
            )
        return _profile_answer(DeviceProfile.load(path))
    table = read_table(path)
    found = latency_columns(table, latency_column or (), ignore or ())
    suspects = suspect_rows(found.latencies, found.features, found.names)
    return _file_answer(table, found.rows, suspects, found.names, found.passed_over)


def _file_answer(
    table: Table,
    rows: IntVector,
    suspects: Suspects,
    features: Sequence[str],
    passed_over: Sequence[str],
) -> Answer:
    listed = [
        {
            "kind": drift.kind,
            "first_row": int(rows[drift.first]),
            "last_row": int(rows[drift.last]),
            "first_line": table.line_numbers[int(rows[drift.first])],
            "last_line": table.line_numbers[int(rows[drift.last])],
            "excess": round(drift.excess, 4),
            "begins": round(drift.begins, 4),
            "ends": round(drift.ends, 4),
        }
        for drift in suspects.drifts
    ]
    suspect = rows[suspects.rows].tolist()
    data: dict[str, Any] = {
        "file": str(table.path),
        "rows": len(table),
        "rows_checked": len(rows),
        "suspect_rows": suspect,
        "findings": listed,
        "not_judged": suspects.not_judged or None,
        "autocorrelation": _rounded(suspects.autocorrelation),
        "explained": _rounded(suspects.explained),
        "noticed_in_ten_rows": _rounded(suspects.noticed),
        "features": list(features),
        "columns_passed_over": list(passed_over),
    }
    text = [f"{table.path}: {len(rows)} of {len(table)} rows checked"]
    if suspects.not_judged:
        text.append(f"not judged: {suspects.not_judged}")
    elif not listed:
        text.append("no suspect rows")
    else:
        text.append(f"{len(suspect)} suspect rows: measure these again, interleaved with others")
        text += [
            f"  {_in_words(drift)}: {_span('row', entry)} ({_span('line', entry)})"
            for drift, entry in zip(suspects.drifts, listed, strict=True)
        ][:_MOST_LISTED]
        if len(listed) > _MOST_LISTED:
            text.append(f"  ... and {len(listed) - _MOST_LISTED} more; --json lists them all")
    return Answer(data, "\n".join(text + _facts(suspects, features)))


def _in_words(drift: Drift) -> str:
    if drift.kind == "ramp":
        return f"ramp from {drift.begins:+.0%} to {drift.ends:+.0%}"
    return f"{drift.kind}, {drift.excess:+.0%}"


def _span(what: str, entry: dict[str, Any]) -> str:
    first, last = entry[f"first_{what}"], entry[f"last_{what}"]
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"


def _facts(suspects: Suspects, features: Sequence[str]) -> list[str]:
    """What the judgement stands on."""
    if suspects.autocorrelation is None or suspects.explained is None:
        return []
    facts = (
        f"{len(features)} columns explain {max(suspects.explained, 0):.1%} of log latency's "
        f"variance; misfit of neighbouring rows correlates by {suspects.autocorrelation:.2f}"
    )
    if suspects.noticed is not None:
        facts += f"; 10 rows in a row are noticed from {suspects.noticed:+.0%}"
    return [facts]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _profile_answer(profile: DeviceProfile) -> Answer:
    """A profile's rows come from visits in several rounds; it is the visits that may be slow."""
    campaign = profile.campaign()
    why = why_not_accepted(campaign, profile.protocol)
    slow = np.array([cause in _SLOW for cause in why], dtype=np.bool_)
    suspect = _rows_without_quiet_visits(profile, campaign, why)
    data = {
        "profile": str(profile.folder),
        "rows": len(profile.measurements),
        "visits": len(campaign.visits),
        "slow_visits": np.flatnonzero(slow).tolist(),
        "suspect_rows": suspect,
    }
    text = [
        f"{profile.folder}: {int(slow.sum())} of {len(slow)} visits were made while the machine "
        "was slow"
    ]
    if suspect:
        shown = ", ".join(map(str, suspect[:_MOST_LISTED]))
        more = ", ..." if len(suspect) > _MOST_LISTED else ""
        text.append(
            f"{len(suspect)} rows have fewer than {_FEWEST_QUIET_VISITS} accepted visits outside "
            f"of that: measure these again (rows {shown}{more} of {LATENCIES_FILE})"
        )
    else:
        text.append("no suspect rows: every row with a latency has quiet visits enough")
    return Answer(data, "\n".join(text))


def _rows_without_quiet_visits(
    profile: DeviceProfile, campaign: CampaignRecord, why: Sequence[Cause | None]
) -> list[int]:
    """Rows that are not rejected and yet saw the quiet state less than twice."""
    quiet = [0] * len(campaign.configurations)
    for visit, cause in zip(campaign.visits, why, strict=True):
        quiet[visit.configuration] += cause is None
    needed = min(_FEWEST_QUIET_VISITS, profile.protocol.visits)
    return [
        row
        for row, verdict in enumerate(profile.measurements.verdicts)
        if verdict != "rejected" and quiet[row] < needed
    ]


def check_latencies_main() -> None:
    """Runs `check-latencies`."""
    run(check_latencies, _COMMAND)
