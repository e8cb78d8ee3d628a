"""The measuring child as a worker: a process on this machine, spoken to over its pipes.

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
from device_profiles.protocol import WIRE_VERSION, Protocol
from device_profiles.provider_options import CPU_PROVIDER
from device_profiles.target import Configuration
from profiler.affinity import Cpus, cpus_text
from profiler.campaign import VisitFailedError, WorkerLostError

START_TIMEOUT_S = 120.0
VISIT_TIMEOUT_S = 600.0

# A visit of the most runs that a protocol allows is a few hundred kilobytes.
_LONGEST_REPLY_BYTES = 1 << 24


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


class ChildWorker:
    """A running measuring child.

    Args:
        command: starts it.
        visit_timeout_s: how long a visit may take before the child counts as hung.

    Raises:
        WorkError: if it does not start.
    """

    def __init__(self, command: Sequence[str], *, visit_timeout_s: float = VISIT_TIMEOUT_S) -> None:
        self._visit_timeout_s = visit_timeout_s
        self._buffer = b""
        self._requests = 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        root = str(Path(__file__).resolve().parent.parent)
        paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        except OSError as error:
            self._errors.close()
            raise WorkError(f"cannot start {command[0]}: {error.strerror}") from error
        try:
            ready = self._read(START_TIMEOUT_S)
            if ready.get("type") != "ready" or ready.get("wire_version") != WIRE_VERSION:
                raise WorkerLostError("it speaks another version of the protocol")
            if not isinstance(ready.get("host"), dict):
                raise WorkerLostError("it says nothing of its machine")
        except WorkerLostError as error:
            self.close()
            raise WorkError(f"the measuring process did not start: {error}") from error
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
        """
        self._requests += 1
        request: dict[str, Any] = {
            "type": "visit",
            "id": self._requests,
            "configuration": configuration.to_json(),
            "protocol": protocol.to_json(),
        }
        if model_sha256 is not None:
            request["model_sha256"] = model_sha256
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerLostError(self._last_words()) from error
        reply = self._read(self._visit_timeout_s)
        if reply.get("type") == "visit" and reply.get("id") == self._requests:
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

    def _read(self, timeout_s: float) -> dict[str, Any]:
        """One line of the child's, as an object."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left_s = max(deadline_s - time.monotonic(), 0)
            if not select.select([descriptor], [], [], left_s)[0]:
                raise WorkerLostError(f"no answer within {timeout_s:g} s")
            received = os.read(descriptor, 1 << 16)
            if not received:
                raise WorkerLostError(self._last_words())
            self._buffer += received
            if len(self._buffer) > _LONGEST_REPLY_BYTES:
                raise WorkerLostError(f"it sent a line of more than {_LONGEST_REPLY_BYTES} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            reply = json.loads(line)
        except ValueError as error:
            raise WorkerLostError("it sent a line that is no JSON") from error
        if not isinstance(reply, dict):
            raise WorkerLostError("it sent a line that is no JSON object")
        return reply

    def _last_words(self) -> str:
        """Why the child is gone: its exit status and the last line it wrote to stderr."""
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "the measuring process closed its output and hangs"
        died = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"the measuring process ended ({died}){': ' + lines[-1][:300] if lines else ''}"
