"""The measuring child as a real process."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from autotinybert.errors import WorkError
from device_profiles.machine import measurement_key
from device_profiles.protocol import WIRE_VERSION, Protocol
from device_profiles.provider_options import TENSORRT_PROVIDER
from device_profiles.target import Configuration, Target
from profiler.campaign import VisitFailedError, WorkerLostError
from profiler.child import RUN_TIMEOUT_S, VISIT_TIMEOUT_S, ChildWorker, local_command
from supernet.architecture import Architecture
from supernet.onnx_graph import build_encoder
from supernet.weights import weight_shapes

CONFIGURATION = Configuration(Architecture(1, 24, 40, 3, 27))
# Whatever else runs while the tests do.
QUICK = Protocol(min_time_s=0.001, most_waiting_share=1.0)

READY_LINE = json.dumps({"type": "ready", "wire_version": WIRE_VERSION, "host": {}})
READY = f"import sys\nprint({READY_LINE!r}, flush=True)\n"


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


def exported(path: Path, vocab_size: int = 50) -> str:
    """Exports a small encoder of random weights; returns the file's hash."""
    rng = np.random.default_rng(0)
    shapes = weight_shapes(CONFIGURATION.architecture, vocab_size=vocab_size)
    weights = {name: rng.normal(0, 0.02, shape).astype("f4") for name, shape in shapes.items()}
    onnx.save(build_encoder(CONFIGURATION.architecture, weights=weights).model, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_real_child_measures_an_exported_file_beside_random_graphs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    sha256 = exported(path)
    worker = ChildWorker(local_command(path))
    try:
        assert worker.model_sha256 == sha256
        path.unlink()  # what was hashed is what is measured
        for asked in (sha256, None, sha256):
            result = worker.visit(CONFIGURATION, QUICK, model_sha256=asked)
            assert len(result["runs_ns"]) >= QUICK.min_runs
        with pytest.raises(VisitFailedError, match=f"started with another file, {sha256}"):
            worker.visit(CONFIGURATION, QUICK, model_sha256="0" * 64)
    finally:
        worker.close()


def test_a_child_measures_on_the_cpus_that_it_is_given() -> None:
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    worker = ChildWorker(local_command(cpus=cpus[-1:]))
    try:
        assert worker.host["pinned_cpus"] == str(cpus[-1])
        assert worker.host["cpu_count"] == len(cpus)
        assert worker.visit(CONFIGURATION, QUICK)["runs_ns"]
        two = Configuration(CONFIGURATION.architecture, target=Target(threads=2))
        with pytest.raises(VisitFailedError, match="2 threads on 1 CPUs"):
            worker.visit(two, QUICK)
    finally:
        worker.close()
    with pytest.raises(WorkError, match="CPU 8000 is not one that may be used here"):
        ChildWorker(local_command(cpus=(8000,)))


def test_a_child_whose_provider_is_missing_says_so() -> None:
    worker = ChildWorker(local_command(provider=TENSORRT_PROVIDER))
    try:
        assert worker.host["provider_library"].startswith("CUDA ")
        if TENSORRT_PROVIDER not in worker.host["available_providers"]:
            target = Target(provider=TENSORRT_PROVIDER)
            with pytest.raises(VisitFailedError, match=f"asked for {TENSORRT_PROVIDER}, but"):
                worker.visit(Configuration(CONFIGURATION.architecture, target=target), QUICK)
    finally:
        worker.close()


def test_a_child_that_was_offered_no_file_measures_none(child: ChildWorker) -> None:
    assert child.model_sha256 is None
    with pytest.raises(VisitFailedError, match="started without --model"):
        child.visit(CONFIGURATION, QUICK, model_sha256="0" * 64)


def test_a_file_that_is_no_model_is_a_failed_visit_and_a_missing_one_is_no_start(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no protobuf at all")
    worker = ChildWorker(local_command(path))
    try:
        with pytest.raises(VisitFailedError, match="DecodeError"):
            worker.visit(CONFIGURATION, QUICK, model_sha256=worker.model_sha256)
    finally:
        worker.close()
    with pytest.raises(WorkError, match=r"cannot read .*absent\.onnx: No such file"):
        ChildWorker(local_command(tmp_path / "absent.onnx"))


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
        ("sys.stdin.readline(); print('{\"a\": NaN}', flush=True); input()", "no JSON"),
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


def test_a_visit_of_many_runs_may_take_longer_than_one_of_few() -> None:
    class Waiting(ChildWorker):
        def _read(self, timeout_s: float) -> dict[str, Any]:
            waited.append(timeout_s)
            return {"error": "never asked"}

    waited: list[float] = []
    worker = Waiting([sys.executable, "-c", READY + "sys.stdin.read()"])
    try:
        for protocol in (QUICK, Protocol.for_percentile(99)):
            with pytest.raises(VisitFailedError, match="never asked"):
                worker.visit(CONFIGURATION, protocol)
    finally:
        worker.close()
    runs = (QUICK.min_runs, Protocol.for_percentile(99).min_runs)
    assert waited == [VISIT_TIMEOUT_S + RUN_TIMEOUT_S * count for count in runs]


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


# A real worker with little memory, and an opener that needs more of it for deep shapes.
GREEDY = """
import resource, sys
from profiler.worker import serve

def opened(configuration):
    hoard = bytearray((1 << 32) if configuration.architecture.num_layers > 1 else 1)
    return lambda: hoard

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29),) * 2)
serve(sys.stdin.buffer, sys.stdout.buffer, facts={}, open_configuration=opened)
"""


def test_a_configuration_that_needs_more_memory_than_there_is_fails_and_the_child_goes_on() -> None:
    worker = ChildWorker([sys.executable, "-c", GREEDY])
    try:
        deep = Configuration(Architecture(2, 24, 40, 3, 27))
        with pytest.raises(VisitFailedError, match="MemoryError"):
            worker.visit(deep, QUICK)
        assert worker.visit(CONFIGURATION, QUICK)["runs_ns"]
    finally:
        worker.close()
