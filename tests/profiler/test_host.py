from __future__ import annotations

from pathlib import Path

import pytest

from device_profiles.machine import measurement_key
from device_profiles.provider_options import CUDA_PROVIDER
from profiler.affinity import parse_cpus
from profiler.host import (
    facts_as_of,
    host_facts,
    kernel_version,
    read_cpuinfo,
    smt_siblings,
    steal_ms,
)

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
flags\t\t: fpu avx2 avx512f

processor\t: 1
model name\t: another
"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""
STAT = """cpu  1 2 3 4 5 6 7 9350 0 0
cpu0 1 2 3 4 5 6 7 250 0 0
cpu1 1 2 3 4 5 6 7 50 0 0
cpu2 1 2 3 4 5 6 7 50 0 0
cpu10 1 2 3 4 5 6 7 9000 0 0
intr 0 0 0 0 0 0 0 7
"""


def test_the_first_processor_of_an_x86_machine_is_read() -> None:
    cpu = read_cpuinfo(X86)
    assert cpu["model"] == "AMD EPYC"
    assert cpu["flags"] == ["avx2", "avx512f", "fpu"]


def test_an_arm_processor_is_named_by_implementer_and_part() -> None:
    cpu = read_cpuinfo(ARM)
    assert cpu["model"] == "Arm implementer 0x41 part 0xd0b"
    assert cpu["flags"] == ["asimd", "asimddp", "fp"]
    assert read_cpuinfo("") == {"model": "", "vendor": "", "flags": []}


@pytest.mark.parametrize(
    ("text", "cpus", "expected"),
    [
        (STAT, (0,), 2500.0),
        (STAT, (0, 1), 1500.0),
        (STAT, (1, 2), 500.0),
        (STAT, (7,), None),
        ("cpu  1 2 3\ncpu0 1 2 3", (0,), None),
        ("", (0,), None),
    ],
)
def test_steal_is_that_of_a_processor_that_may_be_used_however_many_there_are(
    text: str, cpus: tuple[int, ...], expected: float | None
) -> None:
    assert steal_ms(text, 100, cpus) == expected


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-21-amd64", "6.1.0"),
        ("5.10.233-foo", "5.10.233"),
        ("6.8.12+rpt-rpi-2712", "6.8.12"),
        ("4.19.0", "4.19.0"),
        ("5.15.153.1-microsoft-standard-WSL2", "5.15.153.1"),
        ("custom", "unavailable"),
        ("", "unavailable"),
    ],
)
def test_of_a_kernel_only_the_upstream_version_is_told(release: str, version: str) -> None:
    assert kernel_version(release) == version


def test_this_machine_tells_everything_that_the_key_needs() -> None:
    facts = host_facts()
    assert measurement_key(facts)["cpu_count"] >= 1
    assert facts["emulated"] is False
    assert "CPUExecutionProvider" in facts["available_providers"]


def test_processors_that_share_a_core_are_told_once_for_each_core(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")
    assert smt_siblings(tmp_path) == ["0,2", "1,3"]
    assert smt_siblings(tmp_path / "absent") == "unavailable"


def test_facts_name_the_processors_that_may_be_used_and_those_that_are() -> None:
    facts = host_facts(cpus=(0,))
    assert len(parse_cpus(facts["allowed_cpus"])) == facts["cpu_count"]
    assert facts["pinned_cpus"] == "0"
    assert "pinned_cpus" not in measurement_key(host_facts())


def test_a_machine_is_seen_as_a_key_saw_it() -> None:
    pinned = measurement_key(host_facts(cpus=(0, 1)))
    assert measurement_key(facts_as_of(pinned, "cpu-x86")) == pinned
    plain = measurement_key(host_facts())
    assert measurement_key(facts_as_of(plain, None)) == plain


def test_the_gpu_belongs_to_the_key_of_its_own_targets_only() -> None:
    assert host_facts()["provider_library"] == "cpu"
    assert host_facts()["gpus"] == "unavailable"
    assert host_facts(CUDA_PROVIDER)["provider_library"].startswith("CUDA ")
