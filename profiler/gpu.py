"""Facts of the NVIDIA GPUs of this machine, from the driver's own tool."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from collections.abc import Mapping, Sequence

import onnxruntime

UNAVAILABLE = "unavailable"

# What is asked of `nvidia-smi`, and the fact that it is.
_QUERIES = {
    "name": "name",
    "driver_version": "driver",
    "memory.total": "memory_mib",
    "power.limit": "power_limit_w",
    "clocks.max.sm": "max_sm_clock_mhz",
    "clocks.max.memory": "max_memory_clock_mhz",
    "clocks.sm": "sm_clock_mhz",
}
_TIMEOUT_S = 20.0
_MOST_GPUS = 64


def gpu_facts(command: Sequence[str] = ("nvidia-smi",)) -> list[dict[str, str]] | str:
    """What the driver says of each GPU, as text; `unavailable` if it says nothing.

    Args:
        command: the tool, with arguments that come first.
    """
    program = shutil.which(command[0])
    if program is None:
        return UNAVAILABLE
    query = f"--query-gpu={','.join(_QUERIES)}"
    try:
        said = subprocess.run(
            [program, *command[1:], query, "--format=csv,noheader,nounits"],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return UNAVAILABLE
    return read_gpus(said.decode(errors="replace")) or UNAVAILABLE


def read_gpus(text: str) -> list[dict[str, str]]:
    """The facts in the lines of `nvidia-smi --query-gpu`; lines of another form are left out."""
    lines = list(csv.reader(io.StringIO(text), skipinitialspace=True))[:_MOST_GPUS]
    return [
        {
            fact: UNAVAILABLE if value.startswith("[") or not value else value.strip()
            for fact, value in zip(_QUERIES.values(), line, strict=True)
        }
        for line in lines
        if len(line) == len(_QUERIES)
    ]


def provider_library(
    gpus: Sequence[Mapping[str, str]] | str, cuda_version: str | None = None
) -> str:
    """What computes beside ONNX Runtime on a GPU: CUDA, the driver, and the GPU itself.

    Args:
        gpus: from `gpu_facts`.
        cuda_version: that ONNX Runtime was built with; its own by default.
    """
    if cuda_version is None:
        cuda_version = getattr(onnxruntime, "cuda_version", "") or UNAVAILABLE
    if isinstance(gpus, str):
        return f"CUDA {cuda_version}, GPU {gpus}"
    drivers, names = ({gpu[fact] for gpu in gpus} for fact in ("driver", "name"))
    return f"CUDA {cuda_version}, driver {'/'.join(sorted(drivers))}, {'/'.join(sorted(names))}"
