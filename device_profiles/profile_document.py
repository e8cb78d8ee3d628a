"""What `profile.json` must say: every value that is used is of the kind that it is used as.

The checksum tells a torn or edited file; these checks tell one that was signed by something else.
What is not named here, by a later version of this one, is kept and passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from autotinybert.values import integer, items, mapping, number, optional, text
from device_profiles.machine import key_hash, measurement_key
from device_profiles.measurements import SLICE_DEFAULTS, STATISTICS, slice_of_columns
from device_profiles.verdicts import Verdict
from supernet.architecture import Architecture

_NEEDED_OF_HOST: dict[str, Callable[[object], object]] = {
    "machine": text,
    "cpu_model": text,
    "cpu_count": integer,
    "onnxruntime_version": text,
}


def check_profile_document(document: Mapping[str, Any]) -> None:
    """Checks everything in `profile.json` but its protocol.

    Raises:
        LookupError: if something is missing.
        ValueError: if something is not of its kind, or contradicts something else in it.
    """
    for name in ("target", "created_utc", "stopped"):
        text(document[name])
    number(document["elapsed_s"], lowest=0)
    if optional(document["quiet_probe_ns"], number) is not None:
        number(document["quiet_probe_ns"], lowest=1)
    items(document["arguments"], text)
    host, key = mapping(document["host"]), mapping(document["measurement_key"])
    for name, read in _NEEDED_OF_HOST.items():
        read(host[name])
    if key != measurement_key(host) or document["measurement_key_hash"] != key_hash(key):
        raise ValueError("its measurement key is not that of its host")
    if type(key["emulated"]) is not bool:
        raise ValueError("it does not say whether the machine is emulated")
    for verdict in get_args(Verdict):
        integer(mapping(document["rows"])[verdict])
    read_reference_rows(document["reference_rows"])
    items(document["blocks"], _block)
    items(document.get("graph_variants", []), _chosen_variant)
    if "block_campaign" in document:
        campaign = mapping(document["block_campaign"])
        number(campaign["elapsed_s"], lowest=0)
        text(campaign["stopped"])
    items(document.get("promises", []), _promise)


def _promise(value: object) -> dict[str, Any]:
    promise = mapping(value)
    integer(promise["shapes"], lowest=1)
    number(promise["elapsed_s"], lowest=0)
    optional(promise["promised_error"], lambda error: number(error, lowest=0))
    return promise


def _chosen_variant(value: object) -> dict[str, Any]:
    chosen = mapping(value)
    for name in ("graph_variant", "precision", "provider", "reason"):
        text(chosen[name])
    integer(chosen["threads"], lowest=1)
    return chosen


def read_reference_rows(value: object) -> list[dict[str, Any]]:
    """The reference rows of a profile or a predictor, checked.

    Raises:
        LookupError: if a column is missing.
        ValueError: if a value is not of its kind.
    """
    return items(value, _reference_row)


def _reference_row(value: object) -> dict[str, Any]:
    row = mapping(value)
    text(row["name"])
    Architecture.parse(text(row["model_id"]))
    for value, default in zip(slice_of_columns(row), SLICE_DEFAULTS.values(), strict=True):
        if isinstance(default, int):
            integer(value, lowest=1)
        else:
            text(value)
    for name in STATISTICS:
        if optional(row[name], number) is not None:
            number(row[name], lowest=1e-9)
    if row["verdict"] not in get_args(Verdict):
        raise ValueError(f"no verdict {row['verdict']!r}")
    if (row["latency_ms"] is None) != (row["verdict"] == "rejected"):
        raise ValueError("only a rejected row is without a latency")
    return row


def _block(value: object) -> dict[str, Any]:
    block = mapping(value)
    for name in ("block", "round", "visits"):
        integer(block[name], lowest=1)
    integer(block["disturbed"])
    for name in ("started_s", "factor"):
        number(block[name], lowest=0)
    if type(block["slow"]) is not bool:
        raise ValueError("a block is slow or not")
    return block
