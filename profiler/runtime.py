"""How ONNX Runtime runs a model on a target: options, the session, one run.

What was asked for is not what one gets without asking again: a provider that is missing is replaced
with a warning, an option that is unknown is passed over, a thread that cannot be placed is logged.
So everything is read back from the session that has started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from autotinybert.errors import InputError, WorkError
from device_profiles.provider_options import differing_options
from device_profiles.target import Target
from profiler.affinity import Cpus, check_threads, session_affinities, threads_now

_AFFINITIES = "session.intra_op_thread_affinities"
_NO_CPU_FALLBACK = "session.disable_cpu_ep_fallback"

_OUTPUT_TYPES: Mapping[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}


@dataclass(frozen=True)
class Runs:
    """A session with its inputs, as what does one run; calling it is a run on the device.

    Attributes:
        device: inputs and outputs stay on the device; returns when the device is done.
        end_to_end: from arrays in ordinary memory to arrays in ordinary memory; None on a CPU,
            where both are the same.
    """

    device: Callable[[], object]
    end_to_end: Callable[[], object] | None = None

    def __call__(self) -> object:
        """One run on the device."""
        return self.device()


def session_options(target: Target, cpus: Cpus = ()) -> onnxruntime.SessionOptions:
    """The options under which a target is measured, and under which its model should run.

    Args:
        target: says provider and threads.
        cpus: where each thread shall be, the calling one first; empty to leave it to the system.

    Raises:
        InputError: if there are fewer processors than threads.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors only: stderr belongs to whoever reads it
    if target.on_gpu:
        options.add_session_config_entry(_NO_CPU_FALLBACK, "1")
    if cpus and len(cpus) < target.threads:
        raise InputError(f"{target.threads} threads on {len(cpus)} CPUs: name one for each thread")
    if cpus and target.threads > 1:
        options.add_session_config_entry(_AFFINITIES, session_affinities(cpus, target.threads))
    return options


def start_session(
    model: bytes | str,
    target: Target,
    options: onnxruntime.SessionOptions,
    cpus: Cpus = (),
) -> onnxruntime.InferenceSession:
    """Opens a session on a serialised model and checks that it is what was asked for.

    Args:
        model: the bytes of a file, or its name.
        target: what to run it on.
        options: from `session_options`, for the same target and processors.
        cpus: where each thread shall be, the calling one first; empty to leave it to the system.

    Raises:
        WorkError: if provider, provider options or threads are not those that were asked for.
    """
    available = onnxruntime.get_available_providers()
    if target.provider not in available:
        raise WorkError(
            f"asked for {target.provider}, but this ONNX Runtime has {', '.join(available)}"
        )
    before = threads_now()
    session = onnxruntime.InferenceSession(
        model,
        options,
        providers=[target.provider],
        provider_options=[target.options],
        enable_fallback=0,  # otherwise a provider that fails is replaced, with a print
    )
    check_session(session, target)
    if not target.on_gpu:  # drivers of GPUs start threads of their own
        check_threads(before, threads_now(), target.threads, cpus)
    return session


def check_session(session: onnxruntime.InferenceSession, target: Target) -> None:
    """Checks that provider and provider options are those of the target.

    Raises:
        WorkError: if they are not.
    """
    active = session.get_providers()[0]
    if active != target.provider:
        raise WorkError(f"asked for {target.provider}, but ONNX Runtime runs {active}")
    entries = session.get_session_options()
    if target.on_gpu and entries.get_session_config_entry(_NO_CPU_FALLBACK) != "1":
        raise WorkError(f"ONNX Runtime may run parts of the graph on a CPU besides {active}")
    differing = differing_options(target.options, session.get_provider_options()[active])
    if differing:
        key, value = differing[0]
        raise WorkError(
            f"asked {active} for {key}={target.options[key]}, but it "
            f"{'does not know it' if value is None else f'has {value}'}"
        )


def runs_of(
    session: onnxruntime.InferenceSession,
    outputs: Sequence[str],
    inputs: Mapping[str, npt.NDArray[np.int64]],
    target: Target,
) -> Runs:
    """What runs a session once.

    Args:
        session: from `start_session`, for the same target.
        outputs: the names of the outputs.
        inputs: arrays in ordinary memory, by name.
        target: on a GPU, inputs and outputs stay there.
    """
    if target.on_gpu:
        device_id = int(target.options.get("device_id", "0"))
        return bound_runs(session, outputs, inputs, device="cuda", device_id=device_id)
    feed, names = dict(inputs), list(outputs)
    return Runs(lambda: session.run(names, feed))


def bound_runs(
    session: onnxruntime.InferenceSession,
    outputs: Sequence[str],
    inputs: Mapping[str, npt.NDArray[np.int64]],
    *,
    device: str,
    device_id: int = 0,
) -> Runs:
    """Runs with inputs and outputs in the memory of a device.

    The buffers are the same in every run, which a captured CUDA graph needs.

    Args:
        session: the session.
        outputs: the names of the outputs.
        inputs: arrays in ordinary memory, by name.
        device: as ONNX Runtime names it, `cuda` or `cpu`.
        device_id: which of several.

    Raises:
        InputError: if the shape of an output does not follow from those of the inputs.
    """
    feed = dict(inputs)
    places = {
        # A copy: on a CPU the buffer would otherwise be the caller's array.
        name: onnxruntime.OrtValue.ortvalue_from_numpy(values.copy(), device, device_id)
        for name, values in feed.items()
    }
    binding = session.io_binding()
    for name, place in places.items():
        binding.bind_ortvalue_input(name, place)
    for name, shape, kind in _output_shapes(session, outputs, feed):
        place = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, device, device_id)
        binding.bind_ortvalue_output(name, place)

    def run_on_device() -> object:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding

    def run_end_to_end() -> object:
        for name, values in feed.items():
            places[name].update_inplace(values)
        binding.synchronize_inputs()
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    return Runs(run_on_device, run_end_to_end)


def _output_shapes(
    session: onnxruntime.InferenceSession,
    outputs: Sequence[str],
    feed: Mapping[str, npt.NDArray[np.int64]],
) -> list[tuple[str, list[int], type[np.floating[Any]]]]:
    """Name, shape and type of each output, its axes named as those of the inputs are."""
    sizes: dict[object, int] = {}
    for value in session.get_inputs():
        sizes.update(zip(value.shape, feed[value.name].shape, strict=True))
    known = {value.name: value for value in session.get_outputs()}
    found = []
    for name in outputs:
        shape = [
            axis if isinstance(axis, int) else sizes.get(axis, 0) for axis in known[name].shape
        ]
        kind = _OUTPUT_TYPES.get(known[name].type)
        if kind is None or 0 in shape:
            raise InputError(
                f"output {name}, {known[name].type} {known[name].shape}: it must be of a float "
                "type, its axes fixed or named as those of the inputs"
            )
        found.append((name, shape, kind))
    return found
