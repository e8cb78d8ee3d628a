"""The measuring child as a real process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from autotinybert.errors import WorkError
from device_profiles.machine import measurement_key
from device_profiles.protocol import Protocol
from device_profiles.target import Configuration
from profiler.campaign import VisitFailedError, WorkerLostError
from profiler.child import ChildWorker, local_command
from supernet.architecture import Architecture

CONFIGURATION = Configuration(Architecture(1, 24, 40, 3, 27))
QUICK = Protocol(min_time_s=0.001)

READY = 'import sys\nprint(\'{"type": "ready", "wire_version": 1, "host": {}}\', flush=True)\n'


def scripted(code: str, *, timeout_s: float = 10) -> ChildWorker:
    return ChildWorker([sys.executable, "-c", READY + code], visit_timeout_s=timeout_s)


@pytest.fixture
def child() -> Iterator[ChildWorker]:
    worker = ChildWorker(local_command())
    yield worker
    worker.close()


def test_a_real_child_measures_a_real_session(child: ChildWorker) -> None:
    assert measurement_key(child.host)["machine"]
    for _ in range(2):
        result = child.visit(CONFIGURATION, QUICK)
        assert len(result["runs_ns"]) >= QUICK.min_runs
        assert min(result["runs_ns"]) > 0
        assert result["facts"]["build_ns"] > 0


def test_a_refusal_is_a_failed_visit_and_the_child_goes_on() -> None:
    worker = scripted(
        "for line in sys.stdin:\n"
        ' print(\'{"type": "failure", "id": 1, "error": "no room"}\', flush=True)\n'
    )
    for _ in range(2):
        with pytest.raises(VisitFailedError, match="no room"):
            worker.visit(CONFIGURATION, QUICK)
    worker.close()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.stdin.readline(); sys.exit('boom')", r"ended \(exit status 1\): boom"),
        ("import os; sys.stdin.readline(); os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("sys.stdin.readline(); print('nonsense', flush=True); input()", "no JSON"),
        ("sys.stdin.readline(); print('[]', flush=True); input()", "no JSON object"),
    ],
)
def test_a_child_that_dies_or_babbles_is_lost_with_its_last_words(code: str, message: str) -> None:
    worker = scripted(code)
    with pytest.raises(WorkerLostError, match=message):
        worker.visit(CONFIGURATION, QUICK)
    worker.close()


def test_a_child_that_hangs_is_lost_after_its_time() -> None:
    worker = scripted("input(); input()", timeout_s=0.2)
    with pytest.raises(WorkerLostError, match=r"no answer within 0\.2 s"):
        worker.visit(CONFIGURATION, QUICK)
    worker.close()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["/no/such/program"], "cannot start /no/such/program: No such file"),
        ([sys.executable, "-c", "raise SystemExit('no onnxruntime')"], "no onnxruntime"),
        ([sys.executable, "-c", "print('{}')"], "another version of the protocol"),
    ],
)
def test_a_child_that_does_not_start_says_why(command: list[str], message: str) -> None:
    with pytest.raises(WorkError, match=message):
        ChildWorker(command)
