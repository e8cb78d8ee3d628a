"""Takes a footprint: writes a real model file and runs it in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from autotinybert.errors import WorkError
from device_profiles.footprint import Footprint
from device_profiles.target import Configuration
from profiler.affinity import Cpus, cpus_text
from profiler.environment import child_environment
from profiler.session import WeightPool
from supernet.onnx_graph import build_encoder

# Enough for a median.
REPEATS = 3

_PROCESS_TIMEOUT_S = 120.0

RunFile = Callable[[Path, Configuration], Footprint]


def write_model(path: Path, configuration: Configuration, pool: WeightPool) -> None:
    """Writes the ONNX file of a configuration: the graph that is timed, its weights inside.

    Raises:
        OSError: if there is no room for it.
    """
    target = configuration.target
    graph = build_encoder(
        configuration.architecture, variant=target.graph_variant, precision=target.precision
    )
    weights = pool.take(graph.weights)
    for tensor in graph.model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    onnx.save(graph.model, path)


def run_command(path: Path, configuration: Configuration, cpus: Cpus = ()) -> list[str]:
    """The command that runs a model file once in a fresh process.

    Args:
        path: the file.
        configuration: under which workload and target.
        cpus: the processors that it may use; empty to leave it to the system.
    """
    workload, target = configuration.workload, configuration.target
    options = {
        "--provider": target.provider,
        "--provider-options": target.provider_options,
        "--threads": target.threads,
        "--cpus": cpus_text(cpus),
        "--batch-size": workload.batch_size,
        "--sequence-length": workload.sequence_length,
        "--started-ns": time.monotonic_ns(),
    }
    command = [sys.executable, "-P", "-m", "profiler.footprint", str(path)]
    for option, value in options.items():
        command += [option, str(value)]
    return command


def run_file(path: Path, configuration: Configuration, cpus: Cpus = ()) -> Footprint:
    """Runs a model file once in a fresh process.

    Args:
        path: the file.
        configuration: under which workload and target.
        cpus: the processors that it may use; empty to leave it to the system.

    Raises:
        WorkError: if the process fails or takes too long; says how it ended.
    """
    try:
        done = subprocess.run(
            run_command(path, configuration, cpus),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROCESS_TIMEOUT_S,
            env=child_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkError(f"the model file took longer than {_PROCESS_TIMEOUT_S:g} s") from error
    if done.returncode:
        status = done.returncode
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise WorkError(f"running the model file failed ({how}){': ' + lines[-1] if lines else ''}")
    # Libraries may print, too; what the process says itself comes last.
    return Footprint.from_json(json.loads(done.stdout.decode().strip().splitlines()[-1]))


def take_footprint(
    configuration: Configuration, pool: WeightPool, *, run: RunFile = run_file
) -> dict[str, Any]:
    """What a model file of this configuration needs, as the JSON object of a `Footprint`.

    Args:
        configuration: what to write, and under which workload and target to run it.
        pool: the weights.
        run: runs a file once in a fresh process.

    Raises:
        OSError: if there is no room for the file.
        WorkError: if it does not run.
    """
    with tempfile.TemporaryDirectory(prefix="autotinybert-") as folder:
        path = Path(folder) / "model.onnx"
        write_model(path, configuration, pool)
        return Footprint.of_repeats([run(path, configuration) for _ in range(REPEATS)]).to_json()
