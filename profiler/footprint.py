"""A fresh process that runs a model file once and says what that took.

It imports what a service in Python needs, numpy and ONNX Runtime, and hardly more, so that its
memory and its start are those of the model. It prints one JSON line: a
`device_profiles.footprint.Footprint`.

Run it with `python -P -m profiler.footprint FILE`.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from device_profiles.provider_options import CPU_PROVIDER
from device_profiles.target import Target
from profiler.affinity import allow_process, parse_cpus
from profiler.runtime import session_options, start_session

_STATUS = Path("/proc/self/status")


def memory_bytes(status: str, field: str) -> int | None:
    """A field of `/proc/self/status` that counts memory.

    Args:
        status: the text of that file.
        field: `VmRSS`, resident memory now, or `VmHWM`, the most so far.

    Returns:
        Bytes, or None if the text does not tell.
    """
    for line in status.splitlines():
        name, _, value = line.partition(":")
        parts = value.split()
        if name == field and len(parts) == 2 and parts[0].isdigit() and parts[1] == "kB":
            return int(parts[0]) * 1024
    return None


def _resident_bytes(field: str) -> int:
    try:
        known = memory_bytes(_STATUS.read_text(encoding="utf-8"), field)
    except OSError:
        known = None
    if known is not None:
        return known
    # Second best: Linux lets a program inherit this maximum from the one that started it.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Opens the file, runs it once, prints what that took."""
    parser = argparse.ArgumentParser(prog="profiler.footprint")
    parser.add_argument("file", type=Path)
    parser.add_argument("--provider", default=CPU_PROVIDER)
    parser.add_argument("--provider-options", default="")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", default="", help="processors to use, such as 0,2-3")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--started-ns", type=int, default=None, help="when, by time.monotonic_ns")
    given = parser.parse_args()
    target = Target(
        provider=given.provider,
        threads=given.threads,
        provider_options=given.provider_options,
    )
    cpus = parse_cpus(given.cpus)
    if cpus:
        allow_process(cpus)  # whoever started it is on one of them alone
    # 1 is a token, a segment, and no padding.
    ones = np.ones((given.batch_size, given.sequence_length), dtype=np.int64)
    baseline_bytes = _resident_bytes("VmRSS")
    begun_ns = time.monotonic_ns()
    if target.on_gpu:
        onnxruntime.preload_dlls()  # part of opening: without it the session would load them
    session = start_session(str(given.file), target, session_options(target, cpus))
    opened_ns = time.monotonic_ns()
    session.run(None, {value.name: ones for value in session.get_inputs()})
    done_ns = time.monotonic_ns()
    started_ns = begun_ns if given.started_ns is None else given.started_ns
    result = {
        "file_bytes": given.file.stat().st_size,
        "baseline_rss_bytes": baseline_bytes,
        "peak_rss_bytes": _resident_bytes("VmHWM"),
        "open_ms": (opened_ns - begun_ns) / 1e6,
        "first_run_ms": (done_ns - opened_ns) / 1e6,
        "time_to_first_ms": (done_ns - begun_ns) / 1e6,
        "process_to_first_ms": (done_ns - started_ns) / 1e6,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
