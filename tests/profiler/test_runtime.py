"""What ONNX Runtime was asked for is what runs: on a CPU, and on a GPU where there is one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from autotinybert.errors import InputError, WorkError
from device_profiles.protocol import Protocol
from device_profiles.provider_options import CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER
from device_profiles.target import Configuration, Target, Workload
from profiler import runtime
from profiler.runtime import Runs, bound_runs, runs_of, session_options, start_session
from profiler.session import WeightPool, open_session, random_inputs
from profiler.worker import visit
from supernet.architecture import Architecture
from supernet.onnx_graph import INPUT_NAMES, OUTPUT_NAME, build_encoder
from supernet.weights import weight_shapes

ARCHITECTURE = Architecture(2, 24, 40, 3, 27)
WORKLOAD = Workload(2, 16)


def needs(provider: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        provider not in onnxruntime.get_available_providers(),
        reason=f"no {provider} in this ONNX Runtime",
    )


GPUS = [
    pytest.param(CUDA_PROVIDER, marks=needs(CUDA_PROVIDER)),
    pytest.param(TENSORRT_PROVIDER, marks=needs(TENSORRT_PROVIDER)),
]


def model() -> bytes:
    rng = np.random.default_rng(0)
    shapes = weight_shapes(ARCHITECTURE, vocab_size=50)
    weights = {name: rng.normal(0, 0.1, shape).astype("f4") for name, shape in shapes.items()}
    content: bytes = build_encoder(ARCHITECTURE, weights=weights).model.SerializeToString()
    return content


def inputs() -> dict[str, npt.NDArray[np.int64]]:
    return random_inputs(WORKLOAD, np.random.default_rng(1), vocab_size=50)


def started(target: Target) -> onnxruntime.InferenceSession:
    return start_session(model(), target, session_options(target))


def from_end_to_end(runs: Runs) -> Any:
    """The output of an end-to-end run, `[B, S, d]`."""
    assert runs.end_to_end is not None
    fetched: Any = runs.end_to_end()
    return fetched[0]


def test_runs_with_bound_buffers_compute_what_plain_runs_compute() -> None:
    session = started(Target())
    feed = inputs()
    (expected,) = session.run([OUTPUT_NAME], feed)
    runs = bound_runs(session, [OUTPUT_NAME], feed, device="cpu")
    for _ in range(2):
        binding: Any = runs()
        np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), expected)
        fetched = from_end_to_end(runs)
        np.testing.assert_array_equal(fetched, expected)


def test_end_to_end_runs_read_the_callers_arrays_anew() -> None:
    session = started(Target())
    feed = inputs()
    runs = bound_runs(session, [OUTPUT_NAME], feed, device="cpu")
    feed["input_ids"][:] = feed["input_ids"][::-1].copy()
    (expected,) = session.run([OUTPUT_NAME], feed)
    before: Any = runs()
    assert not np.array_equal(before.get_outputs()[0].numpy(), expected)
    fetched = from_end_to_end(runs)
    np.testing.assert_array_equal(fetched, expected)


def test_an_output_of_unknown_shape_cannot_be_bound() -> None:
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["input_ids"], ["found"])],
        "odd",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("found", TensorProto.INT64, [2, "many"])],
    )
    odd = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(odd)
    session = start_session(odd.SerializeToString(), Target(), session_options(Target()))
    with pytest.raises(InputError, match=r"output found, tensor\(int64\) \[2, 'many'\]"):
        bound_runs(session, ["found"], {"input_ids": inputs()["input_ids"]}, device="cpu")


def test_a_cpu_has_one_way_to_run() -> None:
    session = started(Target())
    runs = runs_of(session, [OUTPUT_NAME], inputs(), Target())
    assert runs.end_to_end is None
    np.testing.assert_array_equal(runs(), session.run([OUTPUT_NAME], inputs()))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_session_starts_the_threads_of_its_target(threads: int) -> None:
    started(Target(threads=threads))


def test_a_session_that_starts_other_threads_is_an_error() -> None:
    with pytest.raises(WorkError, match="asked for 3 threads, but ONNX Runtime started 1"):
        start_session(model(), Target(threads=3), session_options(Target(threads=2)))


def test_fewer_cpus_than_threads_is_refused() -> None:
    with pytest.raises(InputError, match="2 threads on 1 CPUs"):
        session_options(Target(threads=2), (0,))


@pytest.mark.skipif(
    CUDA_PROVIDER in onnxruntime.get_available_providers(), reason="this ONNX Runtime has it"
)
def test_a_provider_that_is_missing_is_an_error_and_no_fall_back() -> None:
    with pytest.raises(WorkError, match=f"asked for {CUDA_PROVIDER}, but this ONNX Runtime has"):
        started(Target(provider=CUDA_PROVIDER))


def test_a_provider_that_fails_is_an_error_and_no_fall_back() -> None:
    options = session_options(Target(threads=3))
    options.add_session_config_entry("session.intra_op_thread_affinities", "1")  # needs two
    with pytest.raises(RuntimeError, match="affinities"):
        start_session(model(), Target(threads=3), options)


def told(
    provider: str, *, entry: str = "1", options: dict[str, str] | None = None
) -> SimpleNamespace:
    """A session that says of itself what it is told to say."""
    entries = SimpleNamespace(get_session_config_entry=lambda _: entry)
    return SimpleNamespace(
        get_providers=lambda: [provider, CPU_PROVIDER],
        get_session_options=lambda: entries,
        get_provider_options=lambda: {provider: options or {}},
    )


def test_what_a_session_says_of_itself_is_compared_with_what_was_asked() -> None:
    target = Target(provider=CUDA_PROVIDER, provider_options="device_id=1,use_tf32=0")
    right = {"device_id": "1", "use_tf32": "0", "gpu_mem_limit": "99"}
    runtime.check_session(told(CUDA_PROVIDER, options=right), target)
    for session, message in (
        (told(CPU_PROVIDER), "but ONNX Runtime runs CPUExecutionProvider"),
        (told(CUDA_PROVIDER, entry="0", options=right), "may run parts of the graph on a CPU"),
        (told(CUDA_PROVIDER, options={**right, "device_id": "0"}), "device_id=1, but it has 0"),
        (told(CUDA_PROVIDER, options={"device_id": "1"}), "use_tf32=0, but it does not know it"),
    ):
        with pytest.raises(WorkError, match=message):
            runtime.check_session(session, target)


def test_sessions_on_gpus_forbid_the_cpu_and_those_on_cpus_do_not() -> None:
    key = "session.disable_cpu_ep_fallback"
    gpu = session_options(Target(provider=TENSORRT_PROVIDER))
    assert gpu.get_session_config_entry(key) == "1"
    assert started(Target()).get_providers() == [CPU_PROVIDER]


def ticks() -> int:
    ticks.now_ns += 1_000_000  # type: ignore[attr-defined]
    return ticks.now_ns  # type: ignore[attr-defined, no-any-return]


ticks.now_ns = 0  # type: ignore[attr-defined]


def test_a_visit_times_end_to_end_runs_apart_where_they_are_others() -> None:
    counts = {"device": 0, "end_to_end": 0}

    def count(name: str) -> None:
        counts[name] += 1

    configuration = Configuration(ARCHITECTURE)
    protocol = Protocol()
    runs = Runs(lambda: count("device"), lambda: count("end_to_end"))
    result = visit(configuration, protocol, lambda _: runs, ticks)
    warmup = len(result["facts"]["warmup_ns"])
    assert counts["device"] == len(result["runs_ns"]) + warmup
    assert counts["end_to_end"] == len(result["facts"]["end_to_end_ns"]) + warmup
    assert len(result["facts"]["end_to_end_ns"]) <= protocol.max_runs
    alone = visit(configuration, protocol, lambda _: Runs(lambda: None), ticks)
    assert "end_to_end_ns" not in alone["facts"]


@pytest.mark.parametrize("provider", GPUS)
def test_a_gpu_computes_what_the_cpu_computes(provider: str) -> None:
    target = Target(provider=provider)
    (expected,) = started(Target()).run([OUTPUT_NAME], inputs())
    runs = runs_of(started(target), [OUTPUT_NAME], inputs(), target)
    fetched = from_end_to_end(runs)
    np.testing.assert_allclose(fetched, expected, atol=2e-3)  # TF32 products
    binding: Any = runs()
    assert {value.device_name().lower() for value in binding.get_outputs()} == {"cuda"}
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], fetched)


@needs(CUDA_PROVIDER)
@pytest.mark.parametrize("options", ["use_tf32=0", "device_id=0,enable_cuda_graph=1"])
def test_a_gpu_takes_over_its_options(options: str) -> None:
    target = Target(provider=CUDA_PROVIDER, provider_options=options)
    (expected,) = started(Target()).run([OUTPUT_NAME], inputs())
    runs = runs_of(started(target), [OUTPUT_NAME], inputs(), target)
    for _ in range(3):  # a captured graph is replayed from the second run on
        fetched = from_end_to_end(runs)
        np.testing.assert_allclose(fetched, expected, atol=2e-3)


@pytest.mark.parametrize("provider", GPUS)
def test_a_visit_on_a_gpu_has_device_and_end_to_end_times(provider: str) -> None:
    rng = np.random.default_rng(0)
    pool = WeightPool(rng)
    configuration = Configuration(ARCHITECTURE, WORKLOAD, Target(provider=provider))
    result = visit(configuration, Protocol(), lambda value: open_session(value, pool, rng), ticks)
    assert result["runs_ns"]
    assert result["facts"]["end_to_end_ns"]


def test_the_inputs_are_those_of_the_graph() -> None:
    assert [value.name for value in started(Target()).get_inputs()] == list(INPUT_NAMES)
