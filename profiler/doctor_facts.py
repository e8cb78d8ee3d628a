"""What a machine says about its own fitness: texts of `/proc` and `/sys`, and who uses it now.

Only gathered here, on the device; what they mean is said in `profiler.doctor`, where it can be
tested without the device.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

# Long enough that a tick of 10 ms is a small part of what is judged.
SAMPLE_S = 2.0

# A machine has a few texts for each of its cores; each is a line or a page.
_MOST_TEXTS = 8192
_LONGEST_TEXT = 4096
_MOST_PROCESSES = 5

# Less than this part of a core is housekeeping, and too little for a person to act on.
_LEAST_CPU_SHARE = 0.02

_CPUS = "sys/devices/system/cpu"
_PATTERNS = (
    "proc/loadavg",
    "proc/meminfo",
    f"{_CPUS}/cpu[0-9]*/cpufreq/scaling_governor",
    f"{_CPUS}/cpu0/cpufreq/scaling_driver",
    f"{_CPUS}/cpufreq/boost",
    f"{_CPUS}/intel_pstate/no_turbo",
    f"{_CPUS}/cpu[0-9]*/topology/thread_siblings_list",
    f"{_CPUS}/cpu[0-9]*/thermal_throttle/*_throttle_count",
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/thermal/thermal_zone*/trip_point_*",
    "sys/class/power_supply/*/type",
    "sys/class/power_supply/*/scope",
    "sys/class/power_supply/*/status",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
)

# Processor seconds used so far and the name, by process id.
ProcessTimes = Mapping[int, tuple[str, float]]


def gather_facts(
    *,
    root: Path = Path("/"),
    sleep_s: Callable[[float], None] = time.sleep,
    clock_s: Callable[[], float] = time.monotonic,
    process_times: Callable[[], ProcessTimes] | None = None,
) -> dict[str, Any]:
    """Gathers them, which takes `SAMPLE_S`.

    Args:
        root: where `proc` and `sys` are.
        sleep_s: waits.
        clock_s: reads seconds.
        process_times: what each process has used so far; this one left out.

    Returns:
        JSON values: `texts` by path, the first line of `/proc/stat` before and after the sample,
        the `processes` that used a processor in it, the resolution of the clock, and how many
        processors the machine has and this process may use.
    """
    read_times = _process_times if process_times is None else process_times
    stat_before, times_before, start_s = _stat_line(root), read_times(), clock_s()
    sleep_s(SAMPLE_S)
    interval_s = max(clock_s() - start_s, 1e-3)
    stat_after, times_after = _stat_line(root), read_times()
    return {
        "texts": read_texts(root),
        "stat_before": stat_before,
        "stat_after": stat_after,
        "processes": _busiest(times_before, times_after, interval_s),
        "clock_resolution_ns": time.get_clock_info("perf_counter").resolution * 1e9,
        "allowed_cpus": len(os.sched_getaffinity(0)),
        "machine_cpus": os.cpu_count() or 1,
    }


def read_texts(root: Path) -> dict[str, str]:
    """The texts that are there, by their path below `root`, with a leading slash."""
    texts: dict[str, str] = {}
    for path in _paths(root):
        if len(texts) >= _MOST_TEXTS:
            break
        text = _read(path)
        if text:
            texts[f"/{path.relative_to(root)}"] = text.strip()
    return texts


def _paths(root: Path) -> Iterator[Path]:
    for pattern in _PATTERNS:
        yield from sorted(root.glob(pattern))
    yield from _quota_files(root)


def _quota_files(root: Path) -> Iterator[Path]:
    """Where the processor time of this process may be limited: its control group and those above.

    Inside a container the group's path is that of the host or `/`, and the mount point is its own.
    """
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines()[:64]:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        base = mount / "cpu" if controllers else mount
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        below = [part for part in group.split("/") if part not in ("", ".", "..")]
        for depth in range(len(below) + 1):
            yield from (base.joinpath(*below[:depth]) / name for name in files)


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST_TEXT)
    except (OSError, ValueError):  # a sensor may refuse to be read
        return ""


def _stat_line(root: Path) -> str:
    return _read(root / "proc/stat").partition("\n")[0]


def _process_times() -> dict[int, tuple[str, float]]:
    times: dict[int, tuple[str, float]] = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        used = process.info["cpu_times"]
        if used is not None and process.pid != os.getpid():
            times[process.pid] = (process.info["name"] or "?", used.user + used.system)
    return times


def _busiest(before: ProcessTimes, after: ProcessTimes, interval_s: float) -> list[dict[str, Any]]:
    """The processes that used most in between, as parts of one core."""
    used = sorted(
        (-round((seconds - before.get(pid, (name, 0.0))[1]) / interval_s, 3), pid, name)
        for pid, (name, seconds) in after.items()
    )
    return [
        {"pid": pid, "name": name[:60], "cpu_share": -negative}
        for negative, pid, name in used[:_MOST_PROCESSES]
        if -negative >= _LEAST_CPU_SHARE
    ]
