"""Execution providers, and the options of theirs that a target may name.

Options are kept as one text of sorted `key=value` pairs, so that the same options are the same
column of a profile. Only options that change speed and hold no path are let through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from autotinybert.errors import InputError

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
PROVIDERS = (CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER)

MAX_TEXT = 400

# Says what a value must be, or nothing if this one is right.
_Check = Callable[[str], str | None]


def _integer(lowest: int, highest: int) -> _Check:
    def check(value: str) -> str | None:
        # The canonical form only: 07 and 7 would be two columns for one option.
        whole = re.fullmatch(r"0|-?[1-9]\d{0,18}", value, re.ASCII)
        if whole and lowest <= int(value) <= highest:
            return None
        return f"an integer from {lowest} to {highest}"

    return check


def _one_of(*names: str) -> _Check:
    return lambda value: None if value in names else f"one of {', '.join(names)}"


_SWITCH = _one_of("0", "1")
_DEVICE = _integer(0, 63)
_BYTES = _integer(1 << 20, 1 << 42)

# Names and values as ONNX Runtime's documentation of the CUDA and the TensorRT execution provider
# gives them. The provider for CPUs reads none and would pass over anything in silence.
_ALLOWED: Mapping[str, Mapping[str, _Check]] = {
    CPU_PROVIDER: {},
    CUDA_PROVIDER: {
        "arena_extend_strategy": _one_of("kNextPowerOfTwo", "kSameAsRequested"),
        "cudnn_conv_algo_search": _one_of("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
        "device_id": _DEVICE,
        "do_copy_in_default_stream": _SWITCH,
        "enable_cuda_graph": _SWITCH,
        "gpu_mem_limit": _BYTES,
        "sdpa_kernel": _integer(0, 1023),
        "tunable_op_enable": _SWITCH,
        "tunable_op_tuning_enable": _SWITCH,
        "use_tf32": _SWITCH,
    },
    TENSORRT_PROVIDER: {
        "device_id": _DEVICE,
        "trt_build_heuristics_enable": _SWITCH,
        "trt_builder_optimization_level": _integer(0, 5),
        "trt_cuda_graph_enable": _SWITCH,
        "trt_fp16_enable": _SWITCH,
        "trt_layer_norm_fp32_fallback": _SWITCH,
        "trt_max_partition_iterations": _integer(1, 10_000),
        "trt_max_workspace_size": _BYTES,
        "trt_min_subgraph_size": _integer(1, 1000),
        "trt_sparsity_enable": _SWITCH,
    },
}


def canonical_options(provider: str, pairs: Sequence[str]) -> str:
    """Options given one by one, `KEY=VALUE` each, as the text that a target holds.

    Raises:
        InputError: if the provider has no such option, or cannot have the value.
    """
    options: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"provider option {pair[:80]!r}: write KEY=VALUE")
        if key in options:
            raise InputError(f"provider option {key!r} is given twice: give it once")
        options[key] = value
    _check(provider, options)
    return ",".join(f"{key}={options[key]}" for key in sorted(options))


def parse_options(provider: str, text: object) -> dict[str, str]:
    """Reads the text of a target's options back, by their names.

    Raises:
        InputError: if it is not in the form that `canonical_options` gives.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise InputError(f"provider options must be text of at most {MAX_TEXT} characters")
    pairs = text.split(",") if text else []
    canonical = canonical_options(provider, pairs)
    if canonical != text:
        raise InputError(f"provider options {text!r} are not in order: write {canonical!r}")
    return dict(pair.split("=", 1) for pair in pairs)


def _check(provider: str, options: Mapping[str, str]) -> None:
    allowed = _ALLOWED[provider]
    for key, value in options.items():
        if key not in allowed:
            known = f"use {', '.join(allowed)}" if allowed else "it takes none that are measured"
            raise InputError(f"{provider} has no option {key[:80]!r}: {known}")
        wanted = allowed[key](value)
        if wanted is not None:
            raise InputError(f"provider option {key}={value[:80]}: the value must be {wanted}")


def differing_options(
    asked: Mapping[str, str], active: Mapping[str, str]
) -> list[tuple[str, str | None]]:
    """The options that a session did not take over, each with what it has instead."""
    return [
        (key, active.get(key))
        for key, value in asked.items()
        if _plain(active.get(key, "")) != _plain(value)
    ]


def _plain(value: str) -> str:
    """A value as it compares: providers print a switch in several ways."""
    return {"true": "1", "false": "0"}.get(value.lower(), value)
