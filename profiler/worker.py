"""The measuring child: JSON lines in, JSON lines out.

It says `ready` with the facts of its machine, then answers each request with one line, and ends
when its input does. Requests hold bounded integers and known names only: nothing in them is code
or a path. One session lives at a time: a second one's threads would slow the first, and a bounded
number of sessions is a bounded amount of memory.

Run it with `python -m profiler.worker`. With `--model FILE` a request may also ask, by its hash,
for that exported file instead of a graph with random weights. With `--cpus` it measures on those
processors alone, and with `--provider` it notes what that provider computes with.
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
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnxruntime

from autotinybert.errors import InputError, WorkError
from device_profiles.protocol import WIRE_VERSION, Protocol
from device_profiles.provider_options import CPU_PROVIDER, PROVIDERS
from device_profiles.quality import disturbance
from device_profiles.target import Configuration
from profiler.affinity import check_cpus, parse_cpus, pin_process
from profiler.doctor_facts import gather_facts
from profiler.footprint_visit import run_file, take_footprint
from profiler.hangup import on_hangup
from profiler.host import current_steal_ms, host_facts
from profiler.load_watch import LoadWatch
from profiler.model_file import ModelFile
from profiler.runtime import Runs
from profiler.session import WeightPool, open_session
from profiler.sustained import Load, run_load
from profiler.timing import Clock, clock_probe, time_runs
from supernet.architecture import to_matrix
from supernet.cost import weight_bytes

# A request is a few hundred bytes; a longer line is not one.
MAX_LINE_BYTES = 1 << 16

# Ten times BERT-large; far below what exhausts a machine that is worth measuring.
MAX_WEIGHT_BYTES = 13 << 30

SessionOpener = Callable[[Configuration], Callable[[], object]]
FactsGatherer = Callable[[], Mapping[str, Any]]
FootprintTaker = Callable[[Configuration], dict[str, Any]]

_REQUESTS = ("visit", "sustained", "footprint")


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
    watch: LoadWatch | None = None,
) -> dict[str, Any]:
    """Makes one visit.

    Args:
        configuration: what to measure.
        protocol: how.
        open_configuration: opens a session.
        clock: reads nanoseconds.
        watch: holds the visit back while other work takes the core; without it, nobody knows how
            long the runs waited.

    Returns:
        `runs_ns`, and the facts about how they came about: `held_ns` until the core was free,
        `build_ns`, `warmup_ns` of each run, `waited_ns` of the timed runs for the core, `probe_ns`
        of `clock_probe`, `steal_ms` meanwhile and `involuntary_switches`; None where the machine
        does not tell.
    """
    if protocol.most_waiting_share >= 1:
        watch = None
    held_ns = watch.hold(protocol.max_hold_s) if watch else 0
    before_ns = clock()
    run = open_configuration(configuration)
    build_ns = clock() - before_ns
    # Beside a GPU the calling thread may sleep until the work is done.
    on_cpu = not configuration.target.on_gpu
    cpu_clock = watch.cpu_clock if watch and on_cpu else None
    switches_before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    gc.disable()  # a collection inside a run would be timed with it
    try:
        probe = clock_probe if cpu_clock else None
        timed = time_runs(run, protocol, clock, cpu_clock, probe, current_steal_ms)
        end_to_end = run.end_to_end if isinstance(run, Runs) else None
        apart = None if end_to_end is None else time_runs(end_to_end, protocol, clock).runs_ns
    finally:
        gc.enable()
    if watch:
        disturbed = disturbance(
            timed_ns=sum(timed.runs_ns),
            waited_ns=timed.waited_ns,
            steal_ms=timed.steal_ms,
            most_waiting_share=protocol.most_waiting_share,
        )
        watch.learn(disturbed=bool(disturbed))
    return {
        "runs_ns": timed.runs_ns,
        "facts": {
            "probe_ns": timed.probe_ns,
            "held_ns": held_ns,
            "waited_ns": timed.waited_ns,
            "warmup_ns": timed.warmup_ns,
            "build_ns": build_ns,
            **({} if apart is None else {"end_to_end_ns": apart}),
            "involuntary_switches": resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            - switches_before,
            "steal_ms": timed.steal_ms,
        },
    }


def sustained(
    configuration: Configuration, load: Load, open_configuration: SessionOpener, clock: Clock
) -> dict[str, Any]:
    """Puts a lasting load on the machine; the JSON object of a `LoadSeries`."""
    run = open_configuration(configuration)
    gc.disable()
    try:
        return run_load(run, load, clock, rest=time.sleep, steal_ms=current_steal_ms)
    finally:
        gc.enable()


def answer(
    line: bytes,
    open_configuration: SessionOpener,
    clock: Clock,
    model: OfferedModel | None = None,
    take_footprint: FootprintTaker | None = None,
    watch: LoadWatch | None = None,
) -> dict[str, Any]:
    """The reply to one request line; never raises for anything that the line says."""
    try:
        request = json.loads(line)
        configuration = _checked(request)
        if request.get("model_sha256") is not None:
            open_configuration = _offered(model, request).open
        work: Callable[[], dict[str, Any]]
        if request["type"] == "visit":
            protocol = Protocol.from_json(request.get("protocol"))
            work = partial(visit, configuration, protocol, open_configuration, clock, watch)
        elif request["type"] == "sustained":
            load = Load.from_json(request.get("load"))
            work = partial(sustained, configuration, load, open_configuration, clock)
        elif take_footprint is None:
            raise InputError("this process takes no footprints")
        else:
            work = partial(take_footprint, configuration)
    except (ValueError, RecursionError) as error:  # InputError is a ValueError
        return {"type": "refused", "error": str(error)[:500]}
    number = request["id"]
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 (ONNX Runtime's errors share no base class)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        return {"type": "failure", "id": number, "error": reason}
    return {"type": request["type"], "id": number, **result}


def _checked(request: object) -> Configuration:
    """What a request is about, if it is one.

    Raises:
        InputError: if it is none, or asks for more than a machine should be asked for.
    """
    if not isinstance(request, Mapping) or request.get("type") not in _REQUESTS:
        raise InputError(
            'a request is {"type": "visit", "id", "configuration", "protocol"}, or of type '
            '"sustained" with "load" instead of "protocol", or of type "footprint" with neither'
        )
    number = request.get("id")
    if isinstance(number, bool) or not isinstance(number, int):
        raise InputError("id must be an integer")
    if not isinstance(request.get("configuration"), Mapping):
        raise InputError("configuration must be an object")
    configuration = Configuration.from_json(request["configuration"])
    if configuration.part != "encoder" and (
        request["type"] != "visit" or request.get("model_sha256") is not None
    ):
        raise InputError("only a visit with random weights is of a part of an encoder")
    needed = int(weight_bytes(to_matrix([configuration.architecture]))[0])
    if needed > MAX_WEIGHT_BYTES:
        raise InputError(f"{configuration.architecture} needs {needed >> 30} GiB of weights")
    return configuration


def _offered(model: OfferedModel | None, request: Mapping[str, Any]) -> OfferedModel:
    """The exported file that a request names by its hash."""
    if request["type"] == "footprint":
        raise InputError("a footprint is taken of a graph with random weights, not of a file")
    if model is None:
        raise InputError("this process was started without --model")
    if request["model_sha256"] != model.sha256:
        raise InputError(f"this process was started with another file, {model.sha256}")
    return model


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
    take_footprint: FootprintTaker | None = None,
    clock: Clock = time.perf_counter_ns,
    watch: LoadWatch | None = None,
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
        reply(
            facts_of_doctor or answer(line, open_configuration, clock, model, take_footprint, watch)
        )


def main() -> None:
    """Serves stdin and stdout."""
    # Libraries that print must not break the protocol: stdout goes to stderr, the pipe is kept.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    parser = argparse.ArgumentParser(prog="profiler.worker")
    parser.add_argument("--model", type=Path, help="an exported ONNX file that may be asked for")
    parser.add_argument("--cpus", default="", help="processors to measure on, such as 0,2-3")
    parser.add_argument("--provider", default=CPU_PROVIDER, choices=PROVIDERS)
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
    try:
        cpus = parse_cpus(arguments.cpus)
        facts = host_facts(arguments.provider, cpus)  # before this process is pinned
        if cpus:
            check_cpus(cpus, parse_cpus(facts["allowed_cpus"]), threads=1)
            pin_process(cpus)
    except (InputError, WorkError) as error:
        raise SystemExit(str(error)) from error
    if arguments.provider != CPU_PROVIDER:
        onnxruntime.preload_dlls()  # of CUDA and cuDNN, where they were installed by pip
    rng = np.random.default_rng(0)  # values do not matter to fp32 timings
    pool = WeightPool(rng)
    model = None
    if path is not None:
        try:
            file = ModelFile.read(path)
        except InputError as error:
            raise SystemExit(str(error)) from error
        model = OfferedModel(file.sha256, lambda configuration: file.open(configuration, rng, cpus))
    serve(
        sys.stdin.buffer,
        replies,
        facts=facts,
        open_configuration=lambda configuration: open_session(configuration, pool, rng, cpus),
        model=model,
        take_footprint=partial(take_footprint, pool=pool, run=partial(run_file, cpus=cpus)),
        watch=LoadWatch(),
    )


if __name__ == "__main__":
    main()
