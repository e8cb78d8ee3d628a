"""How ONNX Runtime runs a model on a target: options, the session, one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import onnxruntime

from autotinybert.errors import WorkError
from device_profiles.target import Target


def session_options(target: Target) -> onnxruntime.SessionOptions:
    """The options under which a target is measured, and under which its model should run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors only: stderr belongs to whoever reads it
    return options


def start_session(
    model: bytes, target: Target, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """Opens a session on a serialised model.

    Raises:
        WorkError: if the provider that was asked for is not the one that runs.
    """
    session = onnxruntime.InferenceSession(model, options, providers=[target.provider])
    active = session.get_providers()[0]
    if active != target.provider:
        raise WorkError(f"asked for {target.provider}, but ONNX Runtime runs {active}")
    return session


def runs_of(
    session: onnxruntime.InferenceSession,
    outputs: list[str],
    inputs: Mapping[str, npt.NDArray[np.int64]],
) -> Callable[[], object]:
    """A callable that runs a session once, inputs and outputs in ordinary memory."""
    feed = dict(inputs)

    def run() -> object:
        return session.run(outputs, feed)

    return run
