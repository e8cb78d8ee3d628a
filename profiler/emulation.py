"""Whether an emulator runs this process, told by what emulators do not hide.

An emulator of user programs (`qemu-aarch64`, Rosetta) shows its program another processor, and may
show it a made-up `/proc/cpuinfo`. But the kernel below stays the host's, and so does the executable
that the kernel runs, which is the emulator's own. A whole emulated machine is told by the name of
its processor alone, where it has one; one that claims a real processor is not found out.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What `uname` and the kernel call processors that run each other's programs.
_FAMILIES = {
    **dict.fromkeys(("x86_64", "amd64", "i386", "i486", "i586", "i686"), "x86"),
    **dict.fromkeys(("aarch64", "arm64", "armv6l", "armv7l", "armv8l", "arm"), "Arm"),
}

# `e_machine` of an ELF header: EM_386, EM_ARM, EM_X86_64, EM_AARCH64.
_ELF_FAMILIES = {3: "x86", 40: "Arm", 62: "x86", 183: "Arm"}
ELF_HEADER_BYTES = 20

# Since Linux 6.1.
_KERNEL_MACHINE = Path("/proc/sys/kernel/arch")
# Emulators answer for /proc/self/exe themselves; this is the same file, as the kernel knows it.
_EXECUTABLE = Path("/proc/thread-self/exe")


def emulation_evidence(
    machine: str, cpu: Mapping[str, Any], *, kernel_machine: str = "", executable: bytes = b""
) -> str | None:
    """What tells that this process is emulated.

    Args:
        machine: the processor that the process is shown, as `uname` names it.
        cpu: of `host.read_cpuinfo`.
        kernel_machine: the text of `/proc/sys/kernel/arch`, or nothing.
        executable: the first `ELF_HEADER_BYTES` of the file that the kernel runs, or nothing.

    Returns:
        The first evidence found, in words; None if there is none.
    """
    family = _FAMILIES.get(machine)
    kernel_machine = kernel_machine.strip()
    kernel_family = _FAMILIES.get(kernel_machine)
    if family and kernel_family and kernel_family != family:
        return f"the kernel runs on {kernel_machine}"
    executable_family = elf_family(executable)
    if family and executable_family and executable_family != family:
        return f"the kernel runs an executable for {executable_family}"
    if family == "Arm" and cpu["vendor"]:
        return f"/proc/cpuinfo describes a processor of {cpu['vendor']}"
    if family == "x86" and "asimd" in cpu["flags"]:
        return "/proc/cpuinfo describes an Arm processor"
    if "TCG" in cpu["model"]:
        return f"the processor is called {cpu['model']}"
    return None


def elf_family(header: bytes) -> str | None:
    """The family of processors that an executable is for; None if it is none that we know."""
    if len(header) < ELF_HEADER_BYTES or header[:4] != b"\x7fELF":
        return None
    byte_order = {1: "<", 2: ">"}.get(header[5])
    if byte_order is None:
        return None
    (number,) = struct.unpack_from(f"{byte_order}H", header, 18)
    return _ELF_FAMILIES.get(number)


def emulation_evidence_here(machine: str, cpu: Mapping[str, Any]) -> str | None:
    """`emulation_evidence` of this process."""
    return emulation_evidence(
        machine,
        cpu,
        kernel_machine=_beginning(_KERNEL_MACHINE, 64).decode("ascii", "replace"),
        executable=_beginning(_EXECUTABLE, ELF_HEADER_BYTES),
    )


def _beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""
