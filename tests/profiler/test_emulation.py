from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from profiler.emulation import (
    ELF_HEADER_BYTES,
    elf_family,
    emulation_evidence,
    emulation_evidence_here,
)
from profiler.host import read_cpuinfo

CORTEX = read_cpuinfo("Features\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n")
EPYC = read_cpuinfo("vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2\n")
TCG = read_cpuinfo("vendor_id\t: AuthenticAMD\nmodel name\t: QEMU TCG CPU version 2.5+\n")
X86_64, AARCH64, ARM, I386, RISCV = 62, 183, 40, 3, 243


def elf(machine: int, order: Literal["little", "big"] = "little") -> bytes:
    """The beginning of an executable for a machine, by its number in the ELF standard."""
    byte_order = b"\x01" if order == "little" else b"\x02"
    executable = 2
    numbers = b"".join(number.to_bytes(2, order) for number in (executable, machine))
    return b"\x7fELF\x02" + byte_order + bytes(10) + numbers


@pytest.mark.parametrize(
    ("machine", "cpu", "kernel_machine", "executable"),
    [
        ("aarch64", CORTEX, "aarch64\n", elf(AARCH64)),
        ("aarch64", CORTEX, "", b""),
        ("x86_64", EPYC, "x86_64\n", elf(X86_64)),
        ("x86_64", EPYC, "", b"#!/bin/sh\n"),
        # Programs of 32 bits on a kernel of 64 run on the processor itself.
        ("armv8l", CORTEX, "aarch64\n", elf(ARM)),
        ("i686", EPYC, "x86_64\n", elf(I386)),
        # What is not known is no evidence.
        ("riscv64", read_cpuinfo(""), "riscv64\n", elf(RISCV)),
        ("aarch64", CORTEX, "a kernel of tomorrow", elf(RISCV)),
    ],
)
def test_a_processor_that_runs_its_own_programs_is_real(
    machine: str, cpu: dict[str, Any], kernel_machine: str, executable: bytes
) -> None:
    found = emulation_evidence(machine, cpu, kernel_machine=kernel_machine, executable=executable)
    assert found is None


@pytest.mark.parametrize(
    ("machine", "cpu", "kernel_machine", "executable", "evidence"),
    [
        # A made-up /proc/cpuinfo hides nothing of the kernel, nor of what the kernel runs.
        ("aarch64", CORTEX, "x86_64\n", b"", "the kernel runs on x86_64"),
        ("aarch64", CORTEX, "", elf(X86_64), "the kernel runs an executable for x86"),
        ("x86_64", EPYC, "aarch64\n", elf(X86_64), "the kernel runs on aarch64"),
        ("x86_64", EPYC, "", elf(AARCH64), "the kernel runs an executable for Arm"),
        ("aarch64", EPYC, "", b"", "/proc/cpuinfo describes a processor of AuthenticAMD"),
        ("x86_64", CORTEX, "", b"", "/proc/cpuinfo describes an Arm processor"),
        ("x86_64", TCG, "x86_64", elf(X86_64), "the processor is called QEMU TCG CPU version 2.5+"),
    ],
)
def test_an_emulator_is_told_by_what_it_does_not_hide(
    machine: str, cpu: dict[str, Any], kernel_machine: str, executable: bytes, evidence: str
) -> None:
    found = emulation_evidence(machine, cpu, kernel_machine=kernel_machine, executable=executable)
    assert found == evidence


@pytest.mark.parametrize(
    ("header", "family"),
    [
        (elf(X86_64), "x86"),
        (elf(AARCH64), "Arm"),
        (elf(ARM, "big"), "Arm"),
        (elf(RISCV), None),
        (elf(X86_64)[:-1], None),
        (elf(X86_64)[:5] + b"\x07" + elf(X86_64)[6:], None),
        (b"#!/bin/sh\nexec python", None),
        (b"", None),
    ],
)
def test_the_family_of_an_executable_is_in_its_header(header: bytes, family: str | None) -> None:
    assert elf_family(header) == family


def test_a_process_shown_another_processor_than_the_kernel_runs_on_finds_out() -> None:
    with Path(sys.executable).open("rb") as file:
        family = elf_family(file.read(ELF_HEADER_BYTES))
    own, other = platform.machine(), {"x86": "aarch64", "Arm": "x86_64"}[str(family)]
    assert emulation_evidence_here(own, {"model": "", "vendor": "", "flags": []}) is None
    assert str(emulation_evidence_here(other, CORTEX)).startswith("the kernel runs ")
