"""What a latency belongs to: a workload, a target, and with an architecture a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autotinybert.errors import InputError
from device_profiles.provider_options import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    PROVIDERS,
    TENSORRT_PROVIDER,
    parse_options,
)
from supernet.architecture import Architecture
from supernet.cost import MAX_POSITIONS
from supernet.variants import GraphVariant, Part, Precision, check_form, check_part

MAX_BATCH_SIZE = 512
MAX_THREADS = 512


def _check_integer(name: str, value: object, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
        raise InputError(f"{name} must be an integer from 1 to {highest}, not {value!r}")


@dataclass(frozen=True, order=True)
class Workload:
    """What one run processes.

    Attributes:
        batch_size: sequences.
        sequence_length: tokens of each, padding included.

    Raises:
        InputError: if either is out of bounds.
    """

    batch_size: int = 1
    sequence_length: int = 128

    def __post_init__(self) -> None:
        _check_integer("batch size", self.batch_size, MAX_BATCH_SIZE)
        _check_integer("sequence length", self.sequence_length, MAX_POSITIONS)


@dataclass(frozen=True, order=True)
class Target:
    """How a graph is run on a machine.

    Attributes:
        provider: ONNX Runtime's execution provider.
        threads: threads inside an operator.
        precision: number format that products are computed in.
        graph_variant: which graph of the same encoder.
        provider_options: sorted `key=value` pairs, joined by commas; see `provider_options`.

    Raises:
        InputError: if the number of threads is out of bounds, a name is unknown, the provider
            cannot run the precision, or it has no such option.
    """

    provider: str = CPU_PROVIDER
    threads: int = 1
    precision: Precision = "fp32"
    graph_variant: GraphVariant = "plain"
    provider_options: str = ""

    def __post_init__(self) -> None:
        _check_integer("threads", self.threads, MAX_THREADS)
        if self.provider not in PROVIDERS:
            raise InputError(
                f"provider {self.provider!r} is not measured: use {', '.join(PROVIDERS)}"
            )
        check_form(self.graph_variant, self.precision)
        if self.precision == "fp16" and not self.on_gpu:
            raise InputError(
                "fp16 on a CPU: ONNX Runtime has no half-precision kernels there and converts "
                "back and forth, which is 2 to 4 times slower than fp32; use fp32 or int8"
            )
        if self.precision == "int8" and self.on_gpu:
            raise InputError(
                f"int8 with {self.provider}: ONNX Runtime quantises activations dynamically on "
                "CPUs only, so parts of the graph would not run on the GPU; use fp32 or fp16"
            )
        parse_options(self.provider, self.provider_options)

    @property
    def on_gpu(self) -> bool:
        """Whether the provider runs on a GPU."""
        return self.provider != CPU_PROVIDER

    @property
    def options(self) -> dict[str, str]:
        """The provider's options by name."""
        return parse_options(self.provider, self.provider_options)


@dataclass(frozen=True, order=True)
class Configuration:
    """One thing to measure: an architecture, under a workload, on a target.

    Attributes:
        architecture: its shape.
        workload: what one run processes.
        target: how it is run.
        part: what of the architecture's graph.

    Raises:
        InputError: if there is no such part.
    """

    architecture: Architecture
    workload: Workload = Workload()
    target: Target = Target()
    part: Part = "encoder"

    def __post_init__(self) -> None:
        check_part(self.part)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; the names are those of the columns of a profile.

        The whole encoder goes without saying.
        """
        part = {} if self.part == "encoder" else {"part": self.part}
        return {
            "model_id": str(self.architecture),
            "sequence_length": self.workload.sequence_length,
            "batch_size": self.workload.batch_size,
            "threads": self.target.threads,
            "precision": self.target.precision,
            "graph_variant": self.target.graph_variant,
            "provider": self.target.provider,
            "provider_options": self.target.provider_options,
            **part,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Configuration:
        """Reads a configuration back.

        Raises:
            InputError: if a key is missing or unknown, or a value is out of bounds.
        """
        expected = {
            "model_id",
            "sequence_length",
            "batch_size",
            "threads",
            "precision",
            "graph_variant",
            "provider",
            "provider_options",
        }
        if set(value) - {"part"} != expected:
            odd = sorted((set(value) - {"part"}) ^ expected)
            raise InputError(f"a configuration has the keys {sorted(expected)}; see {odd[0]!r}")
        if not isinstance(value["model_id"], str):
            raise InputError(f"model_id must be text, not {value['model_id']!r}")
        part = value.get("part", "encoder")
        if not isinstance(part, str):
            raise InputError(f"part must be text, not {part!r}")
        return cls(
            Architecture.parse(value["model_id"]),
            Workload(value["batch_size"], value["sequence_length"]),
            Target(
                value["provider"],
                value["threads"],
                value["precision"],
                value["graph_variant"],
                value["provider_options"],
            ),
            part,  # type: ignore[arg-type] # checked there
        )


# Which machine each `--target` is, as `platform.machine()` names it.
_CPU_MACHINES = {"cpu-x86": ("x86_64", "amd64"), "cpu-arm": ("aarch64", "arm64")}
_GPU_PROVIDERS = {"gpu-cuda": CUDA_PROVIDER, "gpu-tensorrt": TENSORRT_PROVIDER}
TARGET_NAMES = (*_CPU_MACHINES, *_GPU_PROVIDERS)


def provider_of(target: str) -> str:
    """The execution provider that a target of this name is run with.

    Raises:
        InputError: if there is no such target.
    """
    if target not in TARGET_NAMES:
        raise InputError(f"no target {target!r}: use {', '.join(TARGET_NAMES)}")
    return _GPU_PROVIDERS.get(target, CPU_PROVIDER)


def check_target(name: str, host: Mapping[str, Any]) -> None:
    """Checks that a machine is what `--target` names.

    Args:
        name: one of `TARGET_NAMES`.
        host: facts of the machine, as `profiler.host` gathers them.

    Raises:
        InputError: if the target is unknown, or this machine is another; says what it is and
            what to do.
    """
    machine = str(host["machine"]).lower()
    here = f"this machine is {host['machine']} ({host['cpu_model']})"
    fitting = next((target for target, names in _CPU_MACHINES.items() if machine in names), None)
    instead = f"use --target {fitting} here" if fitting else "no target fits it yet"
    if name in _CPU_MACHINES:
        if machine not in _CPU_MACHINES[name]:
            raise InputError(f"{here}, not {name}: {instead}, or run this on such a device")
    elif name in _GPU_PROVIDERS:
        provider = _GPU_PROVIDERS[name]
        if provider not in host["available_providers"]:
            raise InputError(
                f"{here} and its ONNX Runtime has no {provider}: {instead}, or run this on a "
                "machine with an NVIDIA GPU and onnxruntime-gpu"
            )
    else:
        raise InputError(f"no target {name!r}: use {', '.join(TARGET_NAMES)}; {here}")
