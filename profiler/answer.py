"""What `profile-device` says about a finished profile."""

from __future__ import annotations

from collections.abc import Sequence

from autotinybert.command import Answer
from autotinybert.text_table import text_table
from device_profiles.machine import EMULATED_REMARK
from device_profiles.measurements import MeasuredRow, describe_slice, slice_of, slice_of_columns
from device_profiles.profile import DeviceProfile

_MOST_DOUBTFUL_LINES = 5


def profile_answer(
    profile: DeviceProfile, rows: Sequence[MeasuredRow] = (), *, finished_before: bool = False
) -> Answer:
    """What the command says about a finished profile."""
    document = profile.document
    counts: dict[str, int] = document["rows"]
    host = profile.host
    slow = [block for block in profile.blocks if block["slow"]]
    lines = [
        f"{profile.target}: {host['cpu_model']}, {host['cpu_count']} cores, "
        f"ONNX Runtime {host['onnxruntime_version']}",
        f"{sum(counts.values())} rows ({counts['ok']} ok, {counts['noisy']} noisy, "
        f"{counts['rejected']} rejected) in {document['elapsed_s']:.0f} s; "
        f"{len(slow)} of {len(profile.blocks)} blocks were slow; "
        f"stopped: {document['stopped']}",
        _reference_table(profile),
    ]
    promises = document.get("promises", [])
    if promises:
        course = ", ".join(
            f"{promise['shapes']} {_percent(promise['promised_error'])}" for promise in promises
        )
        lines.append(f"promised error by shapes: {course}")
    doubtful = [row for row in rows if row.verdict != "ok"]
    for row in doubtful[:_MOST_DOUBTFUL_LINES]:
        where = describe_slice(slice_of(row.configuration))
        lines.append(f"{row.configuration.architecture}, {where}: {row.verdict}, {row.reason}")
    if len(doubtful) > _MOST_DOUBTFUL_LINES:
        left = len(doubtful) - _MOST_DOUBTFUL_LINES
        lines.append(f"... and {left} more, with their reasons in latencies.csv")
    if profile.key["emulated"]:
        lines.append(EMULATED_REMARK)
    if not counts["ok"]:
        lines.append("no row is ok: give the campaign more time, or a quieter machine")
    lines.append(
        f"{profile.folder} was finished before; nothing was measured"
        if finished_before
        else f"wrote {profile.folder}"
    )
    data = {
        "profile": str(profile.folder),
        "target": profile.target,
        "emulated": profile.key["emulated"],
        "measurement_key": document["measurement_key_hash"],
        "rows": counts,
        "reference_rows": profile.references,
        "slow_blocks": len(slow),
        "elapsed_s": document["elapsed_s"],
        "stopped": document["stopped"],
        "finished_before": finished_before,
        **({"promises": promises} if promises else {}),
    }
    return Answer(data, "\n".join(lines), exit_code=0 if counts["ok"] else 1)


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.3g} %"


def _reference_table(profile: DeviceProfile) -> str:
    rows = [
        (
            row["name"],
            describe_slice(slice_of_columns(row)),
            *("" if row[name] is None else f"{row[name]:.2f}" for name in ("latency_ms", "p50_ms")),
            row["verdict"],
        )
        for row in profile.references
    ]
    return text_table(("reference", "workload and target", "quiet ms", "p50 ms", "verdict"), rows)
