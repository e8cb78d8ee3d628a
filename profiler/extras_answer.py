"""What `profile-device` says about lengths of texts, footprints and lasting loads."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autotinybert.command import Answer
from autotinybert.text_table import text_table
from device_profiles.footprint import FOOTPRINT_COLUMNS, Footprint
from device_profiles.measurements import describe_slice, slice_of_columns

_KEYS = ("graph_variants", "lengths", "footprints", "sustained")

Rows = Sequence[Mapping[str, Any]]


def announce(text: str) -> None:
    """Says on stderr what takes a while, where that is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")


def with_extras(answer: Answer, document: Mapping[str, Any]) -> Answer:
    """An answer with what `profile.json` says besides latencies added to it."""
    parts = [str(answer.text)]
    parts += [
        f"graph variant of {row['threads']} thread{'s' * (row['threads'] != 1)}, "
        f"{row['precision']}: {row['graph_variant']} ({row['reason']})"
        for row in document.get("graph_variants", ())
    ]
    if "lengths" in document:
        parts += _lengths(document["lengths"])
    parts += _footprints(document.get("footprints", ()))
    parts += _loads(document.get("sustained", ()))
    found = {name: document[name] for name in _KEYS if name in document}
    return replace(answer, data={**answer.data, **found}, text="\n".join(parts))


def _lengths(lengths: Mapping[str, Any]) -> list[str]:
    texts, cut = lengths["texts"], lengths["cut"]
    longest = list(lengths["counts"])[-1]
    shares = [f"{length}: {count / texts:.1%}" for length, count in lengths["counts"].items()]
    return [
        f"{texts} texts, p50 {lengths['p50']}, p90 {lengths['p90']}, p99 {lengths['p99']} tokens; "
        + (f"{cut} were longer and are cut at {longest}" if cut else "none is cut"),
        f"padded to {', '.join(shares)}; {lengths['padding_share']:.1%} of the tokens are padding",
        text_table(
            ("reference", "target", "mean quiet ms", "mean p50 ms"),
            [
                (
                    row["name"],
                    f"batch {row['batch_size']}, {row['threads']} thread"
                    f"{'s' * (row['threads'] != 1)}, {row['precision']}, {row['graph_variant']}",
                    *(_number(row[name]) for name in ("mean_latency_ms", "mean_p50_ms")),
                )
                for row in lengths["expected"]
            ],
            title="over these texts, each padded to the next of these lengths",
        ),
    ]


def _footprints(rows: Rows) -> list[str]:
    if not rows:
        return []
    header = (
        *("footprint", "workload and target"),
        *("file MB", "peak MB", "first result ms", "with start ms"),
    )
    cells = []
    for row in rows:
        sizes = {} if "error" in row else Footprint.from_json(row).columns()
        values = [sizes.get(name) for name in FOOTPRINT_COLUMNS]
        values.append(row.get("process_to_first_ms"))
        cells.append((row["name"], _where(row), *map(_number, values)))
    return [text_table(header, cells), *_failures(rows)]


def _loads(rows: Rows) -> list[str]:
    if not rows:
        return []
    cells = [
        (
            row["name"],
            _where(row),
            *(_number(row.get(name)) for name in ("cold_ms", "sustained_ms", "ratio")),
            row.get("verdict", "failed"),
        )
        for row in rows
    ]
    reasons = [
        f"{row['name']}, {_where(row)}: {row['verdict']}, {row['reason']}"
        for row in rows
        if row.get("verdict", "steady") != "steady"
    ]
    header = ("under load", "workload and target", "cold ms", "sustained ms", "ratio", "verdict")
    return [text_table(header, cells), *reasons, *_failures(rows)]


def _failures(rows: Rows) -> list[str]:
    return [f"{row['name']}, {_where(row)}: {row['error']}" for row in rows if "error" in row]


def _where(row: Mapping[str, Any]) -> str:
    return describe_slice(slice_of_columns(row))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
