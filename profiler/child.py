"""The measuring child as a worker: a process spoken to over its pipes, here or through ssh.

The parent blocks while the child measures; a parent that polls would take a core from it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autotinybert.errors import WorkError
from autotinybert.values import parse_json
from device_profiles.protocol import WIRE_VERSION, Protocol
from device_profiles.provider_options import CPU_PROVIDER
from device_profiles.target import Configuration
from profiler.affinity import Cpus, cpus_text
from profiler.campaign import ConnectionLostError, VisitFailedError, WorkerLostError
from profiler.environment import child_environment
from profiler.ssh import RemoteHost, ssh_command
from profiler.sustained import Load

START_TIMEOUT_S = 120.0
VISIT_TIMEOUT_S = 600.0

# A visit that is to make many runs may take as much longer, a slow device included.
RUN_TIMEOUT_S = 20.0

# A visit of the most runs that a protocol allows is a few hundred kilobytes.
_LONGEST_REPLY_BYTES = 1 << 24

# A login shell on another machine may greet before the child can speak.
_MAX_GREETING_LINES = 100
_READY = b'{"type": "ready"'


def local_command(
    model: Path | None = None, *, cpus: Cpus = (), provider: str = CPU_PROVIDER
) -> list[str]:
    """The command that starts a measuring child on this machine.

    Args:
        model: an exported ONNX file that the child may be asked to measure.
        cpus: the processors that it measures on; empty to leave it to the system.
        provider: the execution provider that it is to gather facts of.
    """
    # -P: a file named like one of our packages in the current folder must not be taken for it.
    command = [sys.executable, "-P", "-m", "profiler.worker"]
    if model is not None:
        command += ["--model", str(model.resolve())]
    return [*command, *worker_arguments(cpus, provider)]


def worker_arguments(cpus: Cpus, provider: str) -> list[str]:
    """The arguments of `profiler.worker` that say where and with what it measures."""
    arguments = ["--cpus", cpus_text(cpus)] if cpus else []
    return arguments if provider == CPU_PROVIDER else [*arguments, "--provider", provider]


def open_child(
    remote: RemoteHost | None = None, *, cpus: Cpus = (), provider: str = CPU_PROVIDER
) -> ChildWorker:
    """Starts a measuring child, on this machine or another.

    Args:
        remote: the other machine.
        cpus: the processors that it measures on; empty to leave it to the system.
        provider: the execution provider that it is to gather facts of.

    Raises:
        WorkError: if it does not start.
        ConnectionLostError: if the other machine could not be reached, and may be later.
    """
    if remote is None:
        return ChildWorker(local_command(cpus=cpus, provider=provider))
    return ChildWorker(ssh_command(remote, worker_arguments(cpus, provider)), remote=remote)


class ChildWorker:
    """A running measuring child.

    Args:
        command: starts it.
        visit_timeout_s: how long an answer may take before the child counts as hung; None for
            `VISIT_TIMEOUT_S`, and for a visit `RUN_TIMEOUT_S` more for every run it must make.
        remote: the other machine that the command starts it on, if it does.

    Raises:
        WorkError: if it does not start.
        ConnectionLostError: if another machine could not be reached, and may be later.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        visit_timeout_s: float | None = None,
        remote: RemoteHost | None = None,
    ) -> None:
        self._remote = remote
        self._visit_timeout_s = visit_timeout_s
        self._buffer = b""
        self._requests = 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=child_environment(),
            )
        except OSError as error:
            self._errors.close()
            missing = ": install an ssh client (openssh-client)" if remote else ""
            raise WorkError(f"cannot start {command[0]}: {error.strerror}{missing}") from error
        try:
            ready = self._greeting()
        except BaseException:
            self.close()
            raise
        self._host: Mapping[str, Any] = ready["host"]
        self._model_sha256: str | None = ready.get("model_sha256")

    @property
    def host(self) -> Mapping[str, Any]:
        """Facts of the machine that it measures."""
        return self._host

    @property
    def model_sha256(self) -> str | None:
        """The SHA-256 of the exported file that it was started with, if any."""
        return self._model_sha256

    def visit(
        self,
        configuration: Configuration,
        protocol: Protocol,
        *,
        model_sha256: str | None = None,
    ) -> Mapping[str, Any]:
        """Makes one visit and returns `runs_ns` and `facts`.

        Args:
            configuration: what to measure.
            protocol: how.
            model_sha256: measure the exported file that the child was started with, whose hash
                this is, instead of a graph with random weights.

        Raises:
            VisitFailedError: if the configuration could not be measured.
            WorkerLostError: if the child died or hangs.
            ConnectionLostError: if it is on another machine that cannot be reached any more.
        """
        request: dict[str, Any] = {
            "type": "visit",
            "configuration": configuration.to_json(),
            "protocol": protocol.to_json(),
        }
        if model_sha256 is not None:
            request["model_sha256"] = model_sha256
        return self._ask(request, self._timeout_s(protocol.min_runs))

    def doctor_facts(self) -> Mapping[str, Any]:
        """What the machine says about its fitness; see `profiler.doctor_facts`.

        Raises:
            VisitFailedError: if it cannot say.
            WorkerLostError: if the child died or hangs.
        """
        facts = self._ask({"type": "doctor"}, self._timeout_s()).get("facts")
        if not isinstance(facts, dict):
            raise VisitFailedError("an answer without facts")
        return facts

    def footprint(self, configuration: Configuration) -> Mapping[str, Any]:
        """Writes a model file, runs it in fresh processes, and returns a `Footprint`'s object.

        Raises:
            VisitFailedError: if there is no room for the file, or it does not run.
            WorkerLostError: if the child died or hangs.
        """
        request = {"type": "footprint", "configuration": configuration.to_json()}
        return self._ask(request, self._timeout_s())

    def sustained(self, configuration: Configuration, load: Load) -> Mapping[str, Any]:
        """Runs a lasting load and returns a `LoadSeries`' object.

        Raises:
            VisitFailedError: if the configuration could not be measured.
            WorkerLostError: if the child died or hangs.
        """
        request = {
            "type": "sustained",
            "configuration": configuration.to_json(),
            "load": load.to_json(),
        }
        return self._ask(request, load.rest_s + load.seconds + self._timeout_s())

    def _timeout_s(self, min_runs: int = 0) -> float:
        """How long an answer may take; longer where at least so many runs are asked for."""
        if self._visit_timeout_s is not None:
            return self._visit_timeout_s
        return VISIT_TIMEOUT_S + RUN_TIMEOUT_S * min_runs

    def _ask(self, request: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """The child's answer to a request, once it is there."""
        self._requests += 1
        assert self._process.stdin is not None
        try:
            line = json.dumps({**request, "id": self._requests}).encode() + b"\n"
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except OSError as error:
            raise self._ending() from error
        reply = self._read(timeout_s)
        if reply.get("type") == request["type"] and reply.get("id") == self._requests:
            return reply
        raise VisitFailedError(str(reply.get("error", "an answer to another request")))

    def close(self) -> None:
        """Ends the child: at once if it is busy, and in any case."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # What was still to be sent may have no reader any more.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._errors.close()

    def _greeting(self) -> dict[str, Any]:
        """What the child says first, if it is what a measuring child says."""
        where = f" on {self._remote.host}" if self._remote else ""
        try:
            ready = self._read_ready()
            if ready.get("type") != "ready" or ready.get("wire_version") != WIRE_VERSION:
                raise WorkerLostError("it speaks another version of the protocol")
            if not isinstance(ready.get("host"), dict):
                raise WorkerLostError("it says nothing of its machine")
        except TimeoutError as error:
            silent = f"the measuring process{where} was silent for {START_TIMEOUT_S:g} s"
            # Nothing was asked yet, so the machine or the way there is slow.
            raise (ConnectionLostError if self._remote else WorkError)(silent) from error
        except ConnectionLostError:
            raise
        except WorkerLostError as error:
            raise WorkError(f"the measuring process{where} did not start: {error}") from error
        return ready

    def _read_ready(self) -> dict[str, Any]:
        """The first line of the child's; on another machine, after what its shell greets with."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        if self._remote is None:
            return _parsed(self._read_line(deadline_s))
        for _ in range(_MAX_GREETING_LINES):
            line = self._read_line(deadline_s)
            # A greeting may lack the end of its line.
            if _READY in line:
                return _parsed(line[line.index(_READY) :])
        raise WorkerLostError(
            f"the login shell sent {_MAX_GREETING_LINES} lines before it: silence what it prints"
        )

    def _read(self, timeout_s: float) -> dict[str, Any]:
        """One line of the child's, as an object."""
        try:
            return _parsed(self._read_line(time.monotonic() + timeout_s))
        except TimeoutError as error:
            raise WorkerLostError(f"no answer within {timeout_s:g} s") from error

    def _read_line(self, deadline_s: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            left_s = max(deadline_s - time.monotonic(), 0)
            if not select.select([descriptor], [], [], left_s)[0]:
                raise TimeoutError
            received = os.read(descriptor, 1 << 16)
            if not received:
                raise self._ending()
            self._buffer += received
            if len(self._buffer) > _LONGEST_REPLY_BYTES:
                raise WorkerLostError(f"it sent a line of more than {_LONGEST_REPLY_BYTES} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _ending(self) -> Exception:
        """Why the child is gone: its exit status and the last line it wrote to stderr."""
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return WorkerLostError("the measuring process closed its output and hangs")
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = lines[-1].strip()[:300] if lines else ""
        if self._remote is not None:
            return self._remote.explain(status, last)
        died = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return WorkerLostError(f"the measuring process ended ({died}){f': {last}' if last else ''}")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        reply = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise WorkerLostError("it sent a line that is no JSON") from error
    if not isinstance(reply, dict):
        raise WorkerLostError("it sent a line that is no JSON object")
    return reply
