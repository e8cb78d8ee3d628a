"""Is the processor one whose latencies can be trusted: its clock rate, its cores, its kernels?"""

from __future__ import annotations

import re
from collections.abc import Mapping

from profiler.finding import Finding, MachineFacts

_CPUS = "/sys/devices/system/cpu/"
_BOOST = f"{_CPUS}cpufreq/boost"
_NO_TURBO = f"{_CPUS}intel_pstate/no_turbo"

# Under these drivers the governor `powersave` chooses the rate by load; under others it is the
# lowest rate there is.
_DYNAMIC_DRIVERS = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")


def governor(facts: MachineFacts) -> Finding:
    """Whether the clock rate waits for load."""
    what = "CPU governor"
    names = sorted(set(facts.matching(_CPUS, "/scaling_governor").values()))
    if not names:
        return Finding("unknown", what, "the machine does not tell; virtual machines do not")
    shown = ", ".join(names)
    if names == ["performance"]:
        return Finding("ok", what, shown)
    driver = facts.texts.get(f"{_CPUS}cpu0/cpufreq/scaling_driver", "")
    slowest = "powersave" in names and driver not in _DYNAMIC_DRIVERS
    why = (
        "holds the lowest clock rate"
        if slowest
        else "changes the clock rate with the load, so the first runs of a visit are slow"
    )
    return Finding(
        "bad" if slowest else "warn",
        what,
        f"{shown} {why}",
        "sudo cpupower frequency-set -g performance",
    )


def boost(facts: MachineFacts) -> Finding:
    """Whether the clock rate depends on temperature and on the other cores."""
    what = "CPU boost"
    if _NO_TURBO in facts.texts:
        is_on, mend = facts.texts[_NO_TURBO] == "0", f"echo 1 | sudo tee {_NO_TURBO}"
    elif _BOOST in facts.texts:
        is_on, mend = facts.texts[_BOOST] == "1", f"echo 0 | sudo tee {_BOOST}"
    else:
        return Finding("unknown", what, "the machine does not tell; virtual machines do not")
    if not is_on:
        return Finding("ok", what, "off: one clock rate")
    why = "on: the clock rate depends on temperature and on what other cores do"
    return Finding("warn", what, why, mend)


def siblings(facts: MachineFacts) -> Finding:
    """Whether two processors share a core."""
    what = "SMT siblings"
    lists = set(facts.matching(_CPUS, "/topology/thread_siblings_list").values())
    if not lists:
        return Finding("unknown", what, "the machine does not tell")
    if not any(re.search(r"[,-]", one) for one in lists):
        return Finding("ok", what, f"none: {len(lists)} cores of their own")
    return Finding(
        "warn",
        what,
        f"{len(lists)} cores are shared by more processors than that: what runs on a sibling takes "
        f"up to half of a core; --threads above {len(lists)} measures sharing",
        f"echo off | sudo tee {_CPUS}smt/control",
    )


def allowed(facts: MachineFacts) -> Finding:
    """Whether this process may use all processors."""
    what = "allowed processors"
    if not facts.allowed_cpus or not facts.machine_cpus:
        return Finding("unknown", what, "the machine does not tell")
    if facts.allowed_cpus >= facts.machine_cpus:
        return Finding("ok", what, f"all {facts.machine_cpus}")
    return Finding(
        "warn",
        what,
        f"{facts.allowed_cpus} of {facts.machine_cpus}: the profile holds for this share of the "
        "machine",
        f"taskset -c 0-{facts.machine_cpus - 1} profile-device ..., or no cpuset for the container",
    )


def quota(facts: MachineFacts) -> Finding:
    """Whether the processor is taken away after a part of each period, as containers do it."""
    what = "processor quota"
    quotas = _quotas(facts.texts)
    if not facts.texts:
        return Finding("unknown", what, "the machine does not tell")
    if not quotas:
        # The root of a tree of control groups has no limit, and so no file for one.
        return Finding("ok", what, "none is set")
    cores = min(quotas.values())
    where = min(quotas, key=lambda path: quotas[path])
    if cores >= max(facts.allowed_cpus, 1):
        return Finding("ok", what, f"{cores:g} cores, no fewer than may be used")
    stops = "a process that used up its part of a period stands still for the rest of it"
    return Finding(
        "bad" if cores < 1 else "warn",
        what,
        f"{cores:g} cores ({where}): {stops}"
        + ("" if cores < 1 else f"; use at most {int(cores)} --threads"),
        "run the container without a CPU limit (docker: leave out --cpus), or give it whole "
        "cores with --cpuset-cpus",
    )


def _quotas(texts: Mapping[str, str]) -> dict[str, float]:
    """Cores' worth of time, by the file that limits it."""
    quotas: dict[str, float] = {}
    for path, text in texts.items():
        if path.endswith("/cpu.max"):
            words = text.split()
        elif path.endswith("/cpu.cfs_quota_us"):
            words = [text, texts.get(path.replace("quota_us", "period_us"), "")]
        else:
            continue
        # `max` and -1 are no limit.
        if len(words) == 2 and all(re.fullmatch(r"[1-9]\d{0,15}", word) for word in words):
            quotas[path] = int(words[0]) / int(words[1])
    return quotas


def instructions(facts: MachineFacts) -> Finding:
    """Whether ONNX Runtime finds the instructions that its fast kernels need."""
    what = "instruction sets"
    flags = facts.host.get("isa_flags")
    if not isinstance(flags, list) or not flags:
        return Finding("unknown", what, "the machine does not tell")
    if any(flag.startswith("asimd") for flag in flags):
        fast = [flag for flag in ("asimddp", "i8mm", "sve", "bf16") if flag in flags]
        has_int8 = "asimddp" in flags or "i8mm" in flags
        basic = ""
    else:
        wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
        fast = [flag for flag in wanted if flag in flags]
        has_int8 = any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
        basic = "" if "avx2" in flags else "no AVX2: every product is slow; "
    int8 = "" if has_int8 else "no dot products of bytes: int8 gains little here"
    found = ", ".join(fast) or "none of the fast ones"
    if not basic and has_int8:
        return Finding("ok", what, found)
    mend = "measure fp32, or take a machine with VNNI (x86) or dot products (Armv8.2)"
    return Finding("warn", what, f"{found}: {basic}{int8}".rstrip("; "), mend)


def runtime(facts: MachineFacts) -> Finding:
    """Which ONNX Runtime is measured, and what it offers."""
    what = "ONNX Runtime"
    version, providers = (
        facts.host.get(name) for name in ("onnxruntime_version", "available_providers")
    )
    if not isinstance(version, str) or not isinstance(providers, list):
        return Finding("unknown", what, "the machine does not tell")
    return Finding("ok", what, f"{version} with {', '.join(map(str, providers))}")


def realness(facts: MachineFacts) -> Finding:
    """Whether there is a processor of this kind at all, and whether it is shared."""
    what = "real processor"
    if facts.host.get("emulated"):
        return Finding(
            "bad",
            what,
            f"{facts.host.get('machine')} is emulated here: its latencies say nothing of a device",
            "run this on the device itself, or reach it with --ssh HOST",
        )
    if facts.host.get("virtualised"):
        return Finding(
            "unknown",
            what,
            "a virtual machine: clock rate, temperature and neighbours on its host are not told",
            "compare the re-test difference at several hours, or take a machine of its own",
        )
    if "virtualised" not in facts.host:
        return Finding("unknown", what, "the machine does not tell")
    return Finding("ok", what, "neither emulated nor, as far as it tells, virtual")
