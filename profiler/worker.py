"""The measuring child: JSON lines in, JSON lines out.

It says `ready` with the facts of its machine, then answers each request with one line, and ends
when its input does. Requests hold bounded integers and known names only: nothing in them is code
or a path. One session lives at a time: a second one's threads would slow the first, and a bounded
number of sessions is a bounded amount of memory.

Run it with `python -m profiler.worker`. With `--model FILE` a request may also ask, by its hash,
for that exported file instead of a graph with random weights.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from autotinybert.errors import InputError
from device_profiles.protocol import WIRE_VERSION, Protocol
from device_profiles.target import Configuration
from profiler.doctor_facts import gather_facts
from profiler.hangup import on_hangup
from profiler.host import current_steal_ms, host_facts
from profiler.model_file import ModelFile
from profiler.session import WeightPool, open_session
from profiler.timing import Clock, time_runs
from supernet.architecture import to_matrix
from supernet.cost import weight_bytes

# A request is a few hundred bytes; a longer line is not one.
MAX_LINE_BYTES = 1 << 16

# Ten times BERT-large; far below what exhausts a machine that is worth measuring.
MAX_WEIGHT_BYTES = 13 << 30

SessionOpener = Callable[[Configuration], Callable[[], object]]
FactsGatherer = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class OfferedModel:
    """The exported file that a request may ask for.

    Attributes:
        sha256: of its bytes; a request names it by that.
        open: opens a session on it.
    """

    sha256: str
    open: SessionOpener


def visit(
    configuration: Configuration,
    protocol: Protocol,
    open_configuration: SessionOpener,
    clock: Clock,
) -> dict[str, Any]:
    """Makes one visit.

    Returns:
        `runs_ns`, and the facts about how they came about.
    """
    before_ns = clock()
    run = open_configuration(configuration)
    build_ns = clock() - before_ns
    steal_before = current_steal_ms()
    switches_before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    gc.disable()  # a collection inside a run would be timed with it
    try:
        timed = time_runs(run, protocol, clock)
    finally:
        gc.enable()
    steal_after = current_steal_ms()
    known = steal_before is not None and steal_after is not None
    return {
        "runs_ns": timed.runs_ns,
        "facts": {
            "warmup_ns": timed.warmup_ns,
            "build_ns": build_ns,
            "involuntary_switches": resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            - switches_before,
            "steal_ms": round(steal_after - steal_before, 3)  # type: ignore[operator]
            if known
            else None,
        },
    }


def answer(
    line: bytes,
    open_configuration: SessionOpener,
    clock: Clock,
    model: OfferedModel | None = None,
) -> dict[str, Any]:
    """The reply to one request line; never raises for anything that the line says."""
    try:
        request = json.loads(line)
        if not isinstance(request, Mapping) or request.get("type") != "visit":
            raise InputError('a request is {"type": "visit", "id", "configuration", "protocol"}')
        number = request.get("id")
        if isinstance(number, bool) or not isinstance(number, int):
            raise InputError("id must be an integer")
        if not isinstance(request.get("configuration"), Mapping):
            raise InputError("configuration must be an object")
        configuration = Configuration.from_json(request["configuration"])
        protocol = Protocol.from_json(request.get("protocol"))
        needed = int(weight_bytes(to_matrix([configuration.architecture]))[0])
        if needed > MAX_WEIGHT_BYTES:
            raise InputError(f"{configuration.architecture} needs {needed >> 30} GiB of weights")
        asked = request.get("model_sha256")
        if asked is not None:
            if model is None:
                raise InputError("this process was started without --model")
            if asked != model.sha256:
                raise InputError(f"this process was started with another file, {model.sha256}")
            open_configuration = model.open
    except (ValueError, RecursionError) as error:  # InputError is a ValueError
        return {"type": "refused", "error": str(error)[:500]}
    try:
        result = visit(configuration, protocol, open_configuration, clock)
    except Exception as error:  # noqa: BLE001 (ONNX Runtime's errors share no base class)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        return {"type": "failure", "id": number, "error": reason}
    return {"type": "visit", "id": number, **result}


def doctor_answer(line: bytes, gather: FactsGatherer) -> dict[str, Any] | None:
    """The reply to a request for the machine's facts; None if the line is another request."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, Mapping) or request.get("type") != "doctor":
        return None
    number = request.get("id")
    try:
        return {"type": "doctor", "id": number, "facts": dict(gather())}
    except Exception as error:  # noqa: BLE001 (what a strange machine may raise has no common base)
        return {"type": "failure", "id": number, "error": f"{type(error).__name__}: {error}"[:400]}


def serve(
    requests: IO[bytes],
    replies: IO[bytes],
    *,
    facts: Mapping[str, Any],
    open_configuration: SessionOpener,
    model: OfferedModel | None = None,
    clock: Clock = time.perf_counter_ns,
    gather: FactsGatherer = gather_facts,
) -> None:
    """Answers requests until there are no more."""

    def reply(message: Mapping[str, Any]) -> None:
        replies.write(json.dumps(message).encode() + b"\n")
        replies.flush()

    reply(
        {
            "type": "ready",
            "wire_version": WIRE_VERSION,
            "host": dict(facts),
            "model_sha256": None if model is None else model.sha256,
        }
    )
    while line := requests.readline(MAX_LINE_BYTES):
        if not line.endswith(b"\n"):
            reply({"type": "refused", "error": f"a line has at most {MAX_LINE_BYTES} bytes"})
            return
        facts_of_doctor = doctor_answer(line, gather)
        reply(facts_of_doctor or answer(line, open_configuration, clock, model))


def main() -> None:
    """Serves stdin and stdout."""
    # Libraries that print must not break the protocol: stdout goes to stderr, the pipe is kept.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    parser = argparse.ArgumentParser(prog="profiler.worker")
    parser.add_argument("--model", type=Path, help="an exported ONNX file that may be asked for")
    parser.add_argument(
        "--end-with-input",
        action="store_true",
        help="end as soon as the input is closed, what was asked for before it unanswered",
    )
    arguments = parser.parse_args()
    if arguments.end_with_input:
        # A run that hangs is left with the process: there is nobody to ask it to stop.
        on_hangup(sys.stdin.fileno(), lambda: os._exit(0))
    path: Path | None = arguments.model
    rng = np.random.default_rng(0)  # values do not matter to fp32 timings
    pool = WeightPool(rng)
    model = None
    if path is not None:
        try:
            file = ModelFile.read(path)
        except InputError as error:
            raise SystemExit(str(error)) from error
        model = OfferedModel(file.sha256, lambda configuration: file.open(configuration, rng))
    serve(
        sys.stdin.buffer,
        replies,
        facts=host_facts(),
        open_configuration=lambda configuration: open_session(configuration, pool, rng),
        model=model,
    )


if __name__ == "__main__":
    main()
