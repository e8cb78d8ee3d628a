"""Facts of the machine that is measured, as far as it tells them.

What a machine does not expose, as virtual machines often do not, is recorded as `unavailable`.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import psutil

from device_profiles.provider_options import CPU_PROVIDER
from device_profiles.target import provider_of
from profiler.affinity import Cpus, cpus_text, parse_cpus
from profiler.emulation import emulation_evidence_here
from profiler.gpu import UNAVAILABLE, gpu_facts, provider_library

# Instruction sets that decide which kernels ONNX Runtime picks.
_ISA_PREFIXES = (
    "avx",
    "amx",
    "fma",
    "f16c",
    "sse4",
    "asimd",
    "sve",
    "i8mm",
    "bf16",
    "fphp",
    "sme2",
)

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_BOOSTS = (
    Path("/sys/devices/system/cpu/cpufreq/boost"),
    Path("/sys/devices/system/cpu/intel_pstate/no_turbo"),
)


_CPUS = Path("/sys/devices/system/cpu")


def host_facts(provider: str = CPU_PROVIDER, cpus: Cpus = ()) -> dict[str, Any]:
    """What is known about this machine, as JSON values; see `device_profiles.machine`.

    Args:
        provider: the execution provider that is measured; facts of GPUs are gathered for theirs.
        cpus: the processors that the measuring process is pinned to, if it is.
    """
    cpu = read_cpuinfo(_read(Path("/proc/cpuinfo")))
    machine = platform.machine()
    allowed = tuple(sorted(os.sched_getaffinity(0)))
    gpus = UNAVAILABLE if provider == CPU_PROVIDER else gpu_facts()
    emulated_by = emulation_evidence_here(machine, cpu)
    boost = next((f"{path.name}={_read(path).strip()}" for path in _BOOSTS if _read(path)), "")
    return {
        "machine": machine,
        "cpu_model": cpu["model"] or platform.processor() or machine,
        "isa_flags": [flag for flag in cpu["flags"] if flag.startswith(_ISA_PREFIXES)],
        "cpu_count": len(allowed),
        "governor": _read(_GOVERNOR).strip() or UNAVAILABLE,
        "boost": boost or UNAVAILABLE,
        "kernel": kernel_version(platform.release()),
        "onnxruntime_version": onnxruntime.__version__,
        "onnxruntime_build": onnxruntime.get_build_info(),
        "provider_library": "cpu" if provider == CPU_PROVIDER else provider_library(gpus),
        "emulated": emulated_by is not None,
        "emulation_evidence": emulated_by,
        "available_providers": onnxruntime.get_available_providers(),
        "allowed_cpus": cpus_text(allowed),
        "pinned_cpus": cpus_text(cpus),
        "smt": smt_siblings(_CPUS),
        "gpus": gpus,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "virtualised": "hypervisor" in cpu["flags"],
        "operating_system": platform.freedesktop_os_release().get("PRETTY_NAME", "")
        if Path("/etc/os-release").exists()
        else platform.system(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def facts_as_of(key: Mapping[str, Any], target: str | None) -> dict[str, Any]:
    """Facts of this machine, measured as a key was: pinned alike, with the target's provider.

    Args:
        key: a measurement key.
        target: the name of the target that it belongs to; None for a CPU.
    """
    provider = CPU_PROVIDER if target is None else provider_of(target)
    return host_facts(provider, parse_cpus(str(key.get("pinned_cpus", ""))))


def smt_siblings(folder: Path) -> list[str] | str:
    """Which processors share a core, a text such as `0,4` or `0-1` for each core.

    Args:
        folder: the kernel's folder of processors.
    """
    files = folder.glob("cpu[0-9]*/topology/thread_siblings_list")
    cores = sorted({_read(path).strip() for path in files} - {""})
    return cores or UNAVAILABLE


def kernel_version(release: str) -> str:
    """The upstream version of a kernel: `6.1.0` of `6.1.0-21-amd64`.

    What a distribution or a builder adds behind it names their build, which is no other kernel as
    far as latencies go, and nobody else's business.
    """
    found = re.match(r"\d+(\.\d+)*", release)
    return found.group() if found else UNAVAILABLE


def read_cpuinfo(text: str) -> dict[str, Any]:
    """The model, vendor and flags of the first processor in the text of `/proc/cpuinfo`.

    Arm kernels name no model; there it is made of implementer and part.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator:
            fields.setdefault(name.strip().lower(), value.strip())
    model = fields.get("model name", "")
    if not model and "cpu part" in fields:
        model = f"Arm implementer {fields.get('cpu implementer', '?')} part {fields['cpu part']}"
    flags = fields.get("flags") or fields.get("features") or ""
    return {
        "model": model,
        "vendor": fields.get("vendor_id", ""),
        "flags": sorted(set(flags.split())),
    }


def steal_ms(text: str, ticks_per_second: int, cpus: Collection[int]) -> float | None:
    """Time that the hypervisor took from these processors, in the mean over them.

    The mean compares with how long one thread ran; a sum would grow with the machine.

    Args:
        text: the text of `/proc/stat`.
        ticks_per_second: `os.sysconf("SC_CLK_TCK")`.
        cpus: the processors that count.

    Returns:
        Milliseconds since boot, or None if the text does not tell.
    """
    names = {f"cpu{cpu}" for cpu in cpus}
    rows = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    stolen = [int(fields[8]) for fields in rows if fields[0] in names and len(fields) > 8]
    return sum(stolen) / len(stolen) * 1000 / ticks_per_second if stolen else None


def current_steal_ms() -> float | None:
    """`steal_ms` now, of the processors that this process may run on."""
    text = _read(Path("/proc/stat"))
    return steal_ms(text, os.sysconf("SC_CLK_TCK"), os.sched_getaffinity(0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
