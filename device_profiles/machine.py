"""The measurement key: what makes the latencies of two machines or builds incomparable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotinybert.errors import InputError
from autotinybert.files import canonical_json, sha256_text

# Threads, precision, graph variant and provider options are columns of a profile, not part of it.
KEY_FIELDS = (
    "machine",
    "cpu_model",
    "isa_flags",
    "cpu_count",
    "governor",
    "boost",
    "kernel",
    "onnxruntime_version",
    "onnxruntime_build",
    "provider_library",
    "emulated",
)


# What an answer says that rests on an emulator.
EMULATED_REMARK = (
    "emulated: an emulator was measured, and not the device that it imitates; no latency here says "
    "anything about a real device"
)


def measurement_key(host: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the key, from the facts of a host.

    Raises:
        InputError: if the facts lack one of `KEY_FIELDS`.
    """
    missing = [name for name in KEY_FIELDS if name not in host]
    if missing:
        raise InputError(f"the host facts lack {missing[0]}")
    return {name: host[name] for name in KEY_FIELDS}


def key_hash(key: Mapping[str, Any]) -> str:
    """A short name for a key: 16 hexadecimal digits of its SHA-256."""
    return sha256_text(canonical_json(dict(key)))[:16]


def refuse_emulated(key: Mapping[str, Any], measured: object, *, allow: str | None = None) -> None:
    """Refuses what was measured under an emulator.

    Args:
        key: the measurement key.
        measured: what has that key, for the message.
        allow: the option that accepts it, if there is one.

    Raises:
        InputError: if the key says so.
    """
    if not key.get("emulated"):
        return
    otherwise = f", or say {allow} to try out the way" if allow else ""
    raise InputError(
        f"{measured} was measured under an emulator, which says nothing about a real device: "
        f"profile the device itself{otherwise}"
    )


def key_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What tells two keys apart, a phrase for each field."""
    return [
        f"{name} {_brief(first.get(name))} / {_brief(second.get(name))}"
        for name in KEY_FIELDS
        if first.get(name) != second.get(name)
    ]


def _brief(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
