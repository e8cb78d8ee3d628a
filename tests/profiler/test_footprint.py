"""Footprints: real files of a tiny model in fresh processes, and the worker's side with fakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from autotinybert.errors import WorkError
from device_profiles.footprint import Footprint
from device_profiles.protocol import WIRE_VERSION
from device_profiles.provider_options import CUDA_PROVIDER
from device_profiles.target import Configuration, Target, Workload
from profiler.campaign import VisitFailedError
from profiler.child import ChildWorker, local_command
from profiler.footprint import memory_bytes
from profiler.footprint_visit import REPEATS, run_command, run_file, take_footprint, write_model
from profiler.session import WeightPool
from profiler.worker import answer
from supernet.architecture import Architecture, to_matrix
from supernet.cost import weight_bytes
from supernet.onnx_graph import build_encoder
from supernet.variants import Precision
from supernet.weights import weight_shapes

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = Configuration(Architecture(1, 128, 128, 12, 180), Workload(1, 8))
VALUES = Footprint(
    file_bytes=1,
    baseline_rss_bytes=1,
    peak_rss_bytes=2,
    open_ms=1.0,
    first_run_ms=1.0,
    time_to_first_ms=2.0,
    process_to_first_ms=3.0,
)


@pytest.fixture(scope="module")
def pool() -> WeightPool:
    return WeightPool(np.random.default_rng(0))


@pytest.fixture
def child() -> Iterator[ChildWorker]:
    worker = ChildWorker(local_command())
    yield worker
    worker.close()


def test_a_real_child_takes_the_footprint_of_a_real_file(child: ChildWorker) -> None:
    footprint = Footprint.from_json(child.footprint(TINY))
    weights = int(weight_bytes(to_matrix([TINY.architecture]))[0])
    assert weights < footprint.file_bytes < 1.1 * weights + 100_000
    # The weights are read into memory, and the process held some before.
    assert footprint.peak_rss_bytes > footprint.baseline_rss_bytes + footprint.file_bytes
    parts = footprint.open_ms + footprint.first_run_ms
    assert footprint.time_to_first_ms >= max(footprint.open_ms, footprint.first_run_ms)
    assert parts > 0
    assert footprint.process_to_first_ms > footprint.time_to_first_ms


@pytest.mark.parametrize("variant", ["plain", "attention"])
def test_the_file_is_a_whole_model_and_is_gone_afterwards(pool: WeightPool, variant: str) -> None:
    configuration = Configuration(
        TINY.architecture,
        TINY.workload,
        Target(graph_variant=variant),  # type: ignore[arg-type]
    )
    seen: list[Path] = []

    def run(path: Path, asked: Configuration) -> Footprint:
        assert asked == configuration
        onnx.checker.check_model(onnx.load(path))
        seen.append(path)
        return VALUES

    assert take_footprint(configuration, pool, run=run) == VALUES.to_json()
    assert len(seen) == REPEATS
    assert not seen[0].parent.exists()


def test_a_file_that_does_not_run_is_removed_too(pool: WeightPool) -> None:
    seen: list[Path] = []

    def run(path: Path, _: Configuration) -> Footprint:
        seen.append(path)
        raise WorkError("killed by signal 9")

    with pytest.raises(WorkError, match="signal 9"):
        take_footprint(TINY, pool, run=run)
    assert not seen[0].parent.exists()


def test_a_process_that_fails_says_how(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no protobuf at all")
    with pytest.raises(WorkError, match=r"failed \(exit status 1\): .*INVALID_PROTOBUF"):
        run_file(path, TINY)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_file_is_as_large_as_an_exported_one(
    tmp_path: Path, pool: WeightPool, precision: Precision
) -> None:
    target = Target(precision=precision)
    write_model(tmp_path / "ours", Configuration(TINY.architecture, TINY.workload, target), pool)
    rng = np.random.default_rng(0)
    shapes = weight_shapes(TINY.architecture)
    weights = {name: rng.normal(0, 0.02, shape).astype("f4") for name, shape in shapes.items()}
    exported = build_encoder(TINY.architecture, precision=precision, weights=weights).model
    size = (tmp_path / "ours").stat().st_size
    assert size == pytest.approx(exported.ByteSize(), rel=0.001)
    assert run_file(tmp_path / "ours", TINY).file_bytes == size


def test_a_file_is_run_under_its_workload(tmp_path: Path, pool: WeightPool) -> None:
    """Four heads' worth of scores at 512 tokens need memory that 8 tokens do not."""
    path = tmp_path / "model.onnx"
    write_model(path, TINY, pool)
    long = Configuration(TINY.architecture, Workload(8, 512))
    assert run_file(path, long).peak_rss_bytes > run_file(path, TINY).peak_rss_bytes + 50_000_000


def test_a_file_is_run_with_all_the_options_of_its_target_and_on_its_cpus(
    tmp_path: Path, pool: WeightPool
) -> None:
    target = Target(provider=CUDA_PROVIDER, threads=2, provider_options="use_tf32=0")
    asked = Configuration(TINY.architecture, TINY.workload, target)
    command = run_command(tmp_path / "model.onnx", asked, (3, 1))
    options = dict(zip(command[5::2], command[6::2], strict=True))
    assert options["--provider-options"] == "use_tf32=0"
    assert options["--cpus"] == "3,1"
    path = tmp_path / "model.onnx"
    write_model(path, TINY, pool)
    with pytest.raises(WorkError, match="cannot pin to CPU 8000"):
        run_file(path, TINY, (8000,))
    cpus = tuple(sorted(os.sched_getaffinity(0)))[:2]
    parallel = Target(threads=len(cpus))
    found = run_file(path, Configuration(TINY.architecture, TINY.workload, parallel), cpus)
    assert found.first_run_ms > 0


def test_a_process_may_run_on_all_its_cpus_though_whoever_started_it_is_on_one() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    code = (
        "import os; from profiler.affinity import allow_process; "
        f"os.sched_setaffinity(0, {{{cpus[0]}}}); allow_process({tuple(cpus)}); "
        "print(sorted(os.sched_getaffinity(0)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == str(cpus), done.stderr


def request_for(configuration: Configuration, **others: object) -> bytes:
    request = {"type": "footprint", "id": 3, "configuration": configuration.to_json(), **others}
    return json.dumps(request).encode()


def opened(_: Configuration) -> object:
    raise AssertionError("a footprint opens no session in the measuring process")


def test_the_worker_answers_with_the_footprint_or_its_failure() -> None:
    def taken(configuration: Configuration) -> dict[str, object]:
        if configuration != TINY:
            raise OSError(28, "No space left on device")
        return VALUES.to_json()

    clock = iter(range(100)).__next__
    reply = answer(request_for(TINY), opened, clock, None, taken)  # type: ignore[arg-type]
    assert reply == {"type": "footprint", "id": 3, **VALUES.to_json()}
    other = request_for(Configuration(TINY.architecture))
    reply = answer(other, opened, clock, None, taken)  # type: ignore[arg-type]
    assert reply["type"] == "failure"
    assert "No space left on device" in reply["error"]


def test_the_worker_refuses_footprints_of_files_and_where_it_takes_none() -> None:
    clock = iter(range(100)).__next__
    reply = answer(request_for(TINY), opened, clock)  # type: ignore[arg-type]
    assert (reply["type"], reply["error"]) == ("refused", "this process takes no footprints")
    reply = answer(request_for(TINY, model_sha256="abc"), opened, clock)  # type: ignore[arg-type]
    assert "not of a file" in reply["error"]


READY_LINE = json.dumps({"type": "ready", "wire_version": WIRE_VERSION, "host": {}})


def test_an_older_child_that_knows_no_footprints_is_a_failure_and_no_crash() -> None:
    code = (
        f"import sys\nprint({READY_LINE!r}, flush=True)\n"
        'input(); print(\'{"type": "refused", "error": "a request is a visit"}\', flush=True)\n'
        "input()"
    )
    worker = ChildWorker([sys.executable, "-c", code])
    with pytest.raises(VisitFailedError, match="a request is a visit"):
        worker.footprint(TINY)
    worker.close()


STATUS = "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  123456 kB\nVmRSS:\t 120000 kB\n"


@pytest.mark.parametrize(
    ("status", "field", "expected"),
    [
        (STATUS, "VmHWM", 123456 * 1024),
        (STATUS, "VmRSS", 120000 * 1024),
        (STATUS, "VmSwap", None),
        ("", "VmHWM", None),
        ("VmHWM:\tmuch kB\n", "VmHWM", None),
        ("VmHWM:\t12 MB\n", "VmHWM", None),
        ("VmHWM:\n", "VmHWM", None),
    ],
)
def test_memory_is_read_from_the_kernels_text(
    status: str, field: str, expected: int | None
) -> None:
    assert memory_bytes(status, field) == expected
