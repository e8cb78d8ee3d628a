"""Is the machine in a state in which latencies can be trusted: load, heat, power, memory, clock?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from profiler.finding import Finding, Level, MachineFacts

_BUSY_WARN_CORES = 0.1
_BUSY_BAD_PART = 0.25
_STEAL_WARN, _STEAL_BAD = 0.005, 0.05
_TRIP_BAD_C, _TRIP_WARN_C = 5, 15
_MIB = 1 << 20
_GIB = 1 << 30

_CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
_QUICK_CLOCKS = ("tsc", "arch_sys_counter")


def load(facts: MachineFacts) -> Finding:
    """Whether other processes use the processor."""
    what = "other load"
    shares = _shares(facts)
    if shares is None or not facts.machine_cpus:
        return Finding("unknown", what, "the machine does not tell")
    busy_cores = shares["busy"] * facts.machine_cpus
    average = _load_average(facts)
    seen = f"{busy_cores:.2f} of {facts.machine_cpus} cores busy now, load average {average:g}"
    if busy_cores < _BUSY_WARN_CORES:
        if not average > facts.machine_cpus / 2:  # nor where it is not told
            return Finding("ok", what, seen)
        why = f"{seen}: it was busy within the last minute, and may be again"
        return Finding("warn", what, why, "wait a minute and look again: uptime")
    users = ", ".join(
        f"{name} (PID {pid}) {share:.0%} of a core" for name, pid, share in facts.processes
    )
    # One core is for what is measured; the clock rate, caches and memory are shared by all.
    free_cores = facts.machine_cpus - busy_cores
    level: Level = "bad" if free_cores < 1 or shares["busy"] >= _BUSY_BAD_PART else "warn"
    heavy = [str(pid) for _, pid, share in facts.processes if share >= _BUSY_WARN_CORES and pid > 2]
    mend = f"kill {' '.join(heavy)}" if heavy else "stop what runs: ps aux --sort=-%cpu | head"
    return Finding(level, what, f"{seen}{': ' + users if users else ''}", mend)


def _load_average(facts: MachineFacts) -> float:
    first = facts.texts.get("/proc/loadavg", "").split(" ")[0]
    return float(first) if re.fullmatch(r"\d{1,6}\.\d{1,3}", first) else math.nan


def steal(facts: MachineFacts) -> Finding:
    """Whether the hypervisor gives the processor to others."""
    what = "steal time"
    shares = _shares(facts)
    if shares is None or "steal" not in shares:
        return Finding("unknown", what, "the machine does not tell")
    seen = f"{shares['steal']:.1%} of the time was taken by other virtual machines"
    if shares["steal"] < _STEAL_WARN:
        return Finding("ok", what, seen)
    level: Level = "bad" if shares["steal"] >= _STEAL_BAD else "warn"
    return Finding(
        level,
        what,
        seen,
        "measure at another hour, or take an instance type with processors of its own",
    )


def _shares(facts: MachineFacts) -> dict[str, float] | None:
    """Parts of the processors' time between the two readings of `/proc/stat`."""
    readings = []
    for line in (facts.stat_before, facts.stat_after):
        words = line.split()
        if len(words) < 5 or words[0] != "cpu" or not all(map(str.isdecimal, words[1:])):
            return None
        readings.append([int(word) for word in words[1:9]])  # guests are counted in `user`
    before, after = readings
    spent = [max(late - early, 0) for early, late in zip(before, after, strict=False)]
    total = sum(spent)
    if not total:
        return None
    idle = spent[3] + (spent[4] if len(spent) > 4 else 0)
    stolen = spent[7] if len(spent) > 7 else 0
    shares = {"busy": (total - idle - stolen) / total}
    return {**shares, "steal": stolen / total} if len(spent) > 7 else shares


def heat(facts: MachineFacts) -> Finding:
    """Whether the machine is near the temperature at which it slows down, or did slow down."""
    what = "temperature"
    mend = "let it cool, give it air or a fan; measure sustained latency as well"
    trips = sorted(_trips(facts))
    if trips and trips[0][0] <= _TRIP_BAD_C:
        return Finding("bad", what, f"{trips[0][1]}: it slows down, or is about to", mend)
    if trips and trips[0][0] <= _TRIP_WARN_C:
        return Finding("warn", what, f"{trips[0][1]}: minutes of load may slow it down", mend)
    counts = facts.matching("/sys/devices/system/cpu/", "_throttle_count").values()
    throttled = sum(int(text) for text in counts if text.isdecimal())
    if throttled:
        why = f"it slowed down {throttled} times for its temperature since it was started"
        return Finding("warn", what, why, mend)
    if trips:
        return Finding("ok", what, f"{trips[0][1]}, the closest; no slowing down was counted")
    if counts:
        return Finding("ok", what, "no slowing down was counted; no limit is told")
    return Finding("unknown", what, "the machine does not tell; virtual machines do not")


def _trips(facts: MachineFacts) -> Iterator[tuple[float, str]]:
    """How many degrees each sensor is below each of its limits, and both in words."""
    for path, text in facts.matching("/sys/class/thermal/", "/temp").items():
        zone = path.removesuffix("temp")
        degrees = _celsius(text)
        for trip_path, trip_text in facts.matching(f"{zone}trip_point_", "_temp").items():
            trip = _celsius(trip_text)
            kind = facts.texts.get(f"{trip_path.removesuffix('temp')}type", "")
            if degrees is None or trip is None or kind not in ("passive", "hot", "critical"):
                continue
            yield trip - degrees, f"{degrees:.0f} C where {kind} is {trip:.0f} C"


def _celsius(text: str) -> float | None:
    """Degrees from a text in thousandths; None for what no sensor means."""
    if not re.fullmatch(r"-?\d{1,9}", text):
        return None
    degrees = int(text) / 1000
    return degrees if 0 < degrees < 300 else None  # a limit of 0 or less is one that is not set


def power(facts: MachineFacts) -> Finding:
    """Whether it runs from a battery."""
    what = "power"
    supplies = facts.matching("/sys/class/power_supply/", "/type")
    kinds = {path.removesuffix("type"): text for path, text in supplies.items()}
    # A mouse has a battery, too.
    batteries = [
        base
        for base, kind in kinds.items()
        if kind == "Battery" and facts.texts.get(base + "scope") != "Device"
    ]
    if not facts.texts:
        return Finding("unknown", what, "the machine does not tell")
    if not batteries:
        return Finding("ok", what, "no battery")
    if any(facts.texts.get(base + "status") == "Discharging" for base in batteries):
        return Finding(
            "warn",
            what,
            "from the battery: clock rates are lower then, and fall as it empties",
            "plug it in; to profile the device on battery on purpose, keep it charged",
        )
    return Finding("ok", what, "plugged in")


def memory(facts: MachineFacts) -> Finding:
    """Whether there is memory for a session, without swapping."""
    what = "memory"
    fields = _meminfo(facts.texts.get("/proc/meminfo", ""))
    if "MemAvailable" not in fields:
        return Finding("unknown", what, "the machine does not tell")
    available = fields["MemAvailable"]
    swapped = max(fields.get("SwapTotal", 0) - fields.get("SwapFree", 0), 0)
    seen = f"{available / _GIB:.1f} GiB are free to use, {swapped / _GIB:.1f} GiB are swapped out"
    mend = "stop what holds it: ps aux --sort=-rss | head"
    if available < 256 * _MIB:
        return Finding("bad", what, f"{seen}: a BERT-base session may not fit", mend)
    if available < _GIB:
        return Finding("warn", what, f"{seen}: large shapes or batches may not fit", mend)
    if swapped > 256 * _MIB:
        back = "sudo swapoff -a && sudo swapon -a"
        return Finding("warn", what, f"{seen}: what comes back from disk is waited for", back)
    return Finding("ok", what, seen)


def _meminfo(text: str) -> dict[str, int]:
    """Bytes by field."""
    found = re.findall(r"^(\w+):\s+(\d{1,15}) kB$", text, flags=re.MULTILINE)
    return {name: int(kibibytes) << 10 for name, kibibytes in found}


def clock(facts: MachineFacts) -> Finding:
    """Whether the clock is fine and quick to read."""
    what = "clock"
    resolution_ns = facts.clock_resolution_ns
    source = facts.texts.get(_CLOCK, "")
    if not math.isfinite(resolution_ns):
        return Finding("unknown", what, "the machine does not tell")
    seen = f"{resolution_ns:g} ns steps, source {source or 'not told'}"
    if resolution_ns > 1e5:
        return Finding("bad", what, f"{seen}: a run of 1 ms is 10 steps or less", _clock_mend())
    if resolution_ns > 1e3 or (source and source not in _QUICK_CLOCKS):
        why = f"{seen}: reading it takes a system call, a microsecond or more"
        return Finding("warn", what, why, _clock_mend())
    return Finding("ok" if source else "unknown", what, seen)


def _clock_mend() -> str:
    return f"echo tsc | sudo tee {_CLOCK}, if `dmesg | grep -i tsc` names no fault"


def disk(free_bytes: int | None, folder: str) -> Finding:
    """Whether the journal has room.

    Args:
        free_bytes: of the file system that the profile is written to, on this machine.
        folder: on it.
    """
    what = "disk"
    if free_bytes is None:
        return Finding("unknown", what, f"{folder} cannot be asked")
    seen = f"{free_bytes / _GIB:.1f} GiB are free at {folder}"
    if free_bytes < 50 * _MIB:
        return Finding("bad", what, f"{seen}: a profile takes tens of megabytes", f"df -h {folder}")
    if free_bytes < 500 * _MIB:
        return Finding("warn", what, f"{seen}: a long campaign may fill it", f"df -h {folder}")
    return Finding("ok", what, seen)
