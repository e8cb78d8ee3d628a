from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from device_profiles.protocol import Protocol
from device_profiles.target import Configuration
from profiler.child import local_command
from profiler.hangup import on_hangup
from supernet.architecture import Architecture

ROOT = Path(__file__).resolve().parent.parent.parent


def pipe() -> tuple[int, Callable[[], None]]:
    reading, writing = os.pipe()
    os.write(writing, b"a request that is not read\n")
    return reading, lambda: os.close(writing)


def socket_pair() -> tuple[int, Callable[[], None]]:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"a request that is not read\n")
    return ours.detach(), theirs.close


@pytest.mark.parametrize("make", [pipe, socket_pair])
def test_it_ends_when_the_other_side_closes_and_not_before(
    make: Callable[[], tuple[int, Callable[[], None]]],
) -> None:
    descriptor, close = make()
    ended = threading.Event()
    thread = on_hangup(descriptor, ended.set)
    assert not ended.wait(0.05)
    close()
    thread.join(timeout=60)
    assert ended.is_set()
    assert os.read(descriptor, 8) == b"a reques"  # what waits to be read is left alone
    os.close(descriptor)


def test_a_child_in_a_visit_without_end_is_gone_with_its_parent() -> None:
    child = subprocess.Popen(
        [*local_command(), "--end-with-input"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["type"] == "ready"
    endless = Protocol(min_time_s=10_000, min_runs=10_000, max_runs=10_000)
    request = {
        "type": "visit",
        "id": 1,
        "configuration": Configuration(Architecture(12, 768, 3072, 12, 768)).to_json(),
        "protocol": endless.to_json(),
    }
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.close()
    assert child.wait(timeout=60) == 0
    assert child.stdout.read() == b""
    child.stdout.close()
