from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autotinybert.errors import InputError
from device_profiles.machine import KEY_FIELDS, key_differences, key_hash, measurement_key
from device_profiles.protocol import Protocol
from device_profiles.provider_options import CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER
from device_profiles.target import Configuration, Target, Workload, check_target, provider_of
from supernet.architecture import Architecture

CONFIGURATION = Configuration(
    Architecture(4, 312, 1200, 12, 312),
    Workload(2, 64),
    Target(threads=3, graph_variant="attention"),
)

X86 = {
    "machine": "x86_64",
    "cpu_model": "AMD EPYC",
    "available_providers": ["CPUExecutionProvider"],
}
ARM = {**X86, "machine": "aarch64", "cpu_model": "Arm implementer 0x41 part 0xd0b"}


def test_a_configuration_reads_back() -> None:
    assert Configuration.from_json(CONFIGURATION.to_json()) == CONFIGURATION


def test_the_part_of_an_encoder_reads_back_and_a_whole_one_goes_without_saying() -> None:
    part = replace(CONFIGURATION, part="ffn")
    assert part.to_json() == {**CONFIGURATION.to_json(), "part": "ffn"}
    assert Configuration.from_json(part.to_json()) == part != CONFIGURATION
    assert "part" not in CONFIGURATION.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_id": "4-312-1200-12-313"}, "not divisible"),
        ({"model_id": 7}, "model_id must be text"),
        ({"batch_size": 0}, "batch size must be an integer from 1"),
        ({"batch_size": True}, "batch size must be an integer"),
        ({"sequence_length": 513}, "sequence length must be an integer from 1 to 512"),
        ({"threads": "1"}, "threads must be an integer"),
        ({"precision": "int4"}, "no precision 'int4'"),
        ({"graph_variant": "magic"}, "no graph variant 'magic': use plain, folded, attention"),
        ({"provider": "os.system"}, "provider 'os.system' is not measured"),
        ({"provider": None}, "provider None is not measured"),
        ({"provider_options": 7}, "provider options must be text"),
        ({"provider_options": "device_id=0"}, "CPUExecutionProvider has no option 'device_id'"),
        ({"extra": 1}, "see 'extra'"),
        ({"part": "pooler"}, "no part 'pooler' of an encoder: use encoder, embeddings"),
        ({"part": 7}, "part must be text"),
    ],
)
def test_a_configuration_out_of_bounds_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Configuration.from_json({**CONFIGURATION.to_json(), **change})


def test_a_configuration_without_a_key_is_refused() -> None:
    value = CONFIGURATION.to_json()
    del value["threads"]
    with pytest.raises(InputError, match="see 'threads'"):
        Configuration.from_json(value)


@pytest.mark.parametrize(("target", "host"), [("cpu-x86", X86), ("cpu-arm", ARM)])
def test_a_machine_is_the_target_that_it_is(target: str, host: dict[str, Any]) -> None:
    check_target(target, host)


@pytest.mark.parametrize(
    ("target", "host", "message"),
    [
        ("cpu-arm", X86, r"is x86_64 \(AMD EPYC\), not cpu-arm: use --target cpu-x86 here"),
        ("cpu-x86", ARM, r"is aarch64 .* not cpu-x86: use --target cpu-arm here"),
        ("gpu-cuda", X86, r"has no CUDAExecutionProvider: use --target cpu-x86 here, or run this"),
        ("gpu-tensorrt", ARM, "has no TensorrtExecutionProvider: use --target cpu-arm"),
        ("toaster", X86, "no target 'toaster': use cpu-x86, cpu-arm, gpu-cuda, gpu-tensorrt"),
        ("cpu-x86", {**X86, "machine": "riscv64"}, "no target fits it yet"),
    ],
)
def test_another_machine_is_told_what_it_is_and_what_to_do(
    target: str, host: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_target(target, host)


@pytest.mark.parametrize(
    ("target", "provider"),
    [("gpu-cuda", CUDA_PROVIDER), ("gpu-tensorrt", TENSORRT_PROVIDER), ("cpu-arm", CPU_PROVIDER)],
)
def test_the_provider_follows_from_the_target(target: str, provider: str) -> None:
    assert provider_of(target) == provider
    if provider != CPU_PROVIDER:
        check_target(target, {**X86, "available_providers": [provider, CPU_PROVIDER]})


def test_a_target_that_nobody_knows_has_no_provider() -> None:
    with pytest.raises(InputError, match="no target 'toaster': use cpu-x86"):
        provider_of("toaster")


def test_a_gpu_computes_in_fp16_and_a_cpu_in_int8_and_not_the_other_way_round() -> None:
    assert Target(provider=CUDA_PROVIDER, precision="fp16").on_gpu
    assert not Target(precision="int8").on_gpu
    with pytest.raises(InputError, match=r"fp16 on a CPU: .* use fp32 or int8"):
        Target(precision="fp16")
    with pytest.raises(InputError, match=r"int8 with TensorrtExec.* use fp32 or fp16"):
        Target(provider=TENSORRT_PROVIDER, precision="int8")


def test_a_protocol_reads_back() -> None:
    assert Protocol.from_json(Protocol(visits=3).to_json()) == Protocol(visits=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visits": 0}, "visits must be above 0"),
        ({"visits": 2.5}, "visits must be a number"),
        ({"min_time_s": float("nan")}, "min_time_s must be above 0"),
        ({"min_time_s": "1"}, "min_time_s must be a number"),
        ({"max_visits": 3}, "max_visits must be at least visits"),
        ({"max_runs": 2}, "max_runs must be at least min_runs"),
        ({"color": 1}, "its keys are"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Protocol.from_json({**Protocol().to_json(), **change})


def test_the_key_is_what_decides_and_nothing_else() -> None:
    host = {name: name for name in KEY_FIELDS}
    key = measurement_key({**host, "load_average": 3.0})
    assert set(key) == set(KEY_FIELDS)
    assert key_hash(key) == key_hash(dict(reversed(key.items())))
    assert key_differences(key, {**key, "kernel": "6.1"}) == ["kernel kernel / 6.1"]
    assert key_differences(key, key) == []
    assert measurement_key({**host, "pinned_cpus": ""}) == key
    pinned = measurement_key({**host, "pinned_cpus": "0,2"})
    assert key_differences(key, pinned) == ["pinned_cpus None / 0,2"]
    with pytest.raises(InputError, match="lack machine"):
        measurement_key({})
