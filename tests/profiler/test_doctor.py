"""Facts of machines that we do not have, and what is found about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.doctor import PROBE_VISITS, examine, is_fit, judge_probe, probe
from profiler.doctor_state import disk
from profiler.finding import Finding, Level, MachineFacts

CPUS = "/sys/devices/system/cpu/"
GOVERNOR = f"{CPUS}cpu0/cpufreq/scaling_governor"
DRIVER = f"{CPUS}cpu0/cpufreq/scaling_driver"
BOOST = f"{CPUS}cpufreq/boost"
NO_TURBO = f"{CPUS}intel_pstate/no_turbo"
SIBLINGS = f"{CPUS}cpu0/topology/thread_siblings_list"
THROTTLED = f"{CPUS}cpu0/thermal_throttle/core_throttle_count"
CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
QUOTA = "/sys/fs/cgroup/cpu.max"
ZONE = "/sys/class/thermal/thermal_zone0/"
BATTERY = "/sys/class/power_supply/BAT0/"
MEMINFO = "MemTotal: 8000000 kB\nMemAvailable: {} kB\nSwapTotal: 2000000 kB\nSwapFree: {} kB"

# A machine of one's own, idle and cool, in every state that a measurement wishes for.
TEXTS = {
    "/proc/loadavg": "0.01 0.02 0.00 1/100 4711",
    "/proc/meminfo": MEMINFO.format(6_000_000, 2_000_000),
    GOVERNOR: "performance",
    DRIVER: "acpi-cpufreq",
    BOOST: "0",
    SIBLINGS: "0",
    f"{CPUS}cpu1/topology/thread_siblings_list": "1",
    f"{CPUS}cpu2/topology/thread_siblings_list": "2",
    f"{CPUS}cpu3/topology/thread_siblings_list": "3",
    THROTTLED: "0",
    CLOCK: "tsc",
    QUOTA: "max 100000",
    f"{ZONE}temp": "45000",
    f"{ZONE}trip_point_0_temp": "95000",
    f"{ZONE}trip_point_0_type": "passive",
    f"{BATTERY}type": "Battery",
    f"{BATTERY}status": "Full",
}
HOST = {
    "machine": "x86_64",
    "isa_flags": ["avx2", "avx_vnni"],
    "onnxruntime_version": "1.0",
    "available_providers": ["CPUExecutionProvider"],
    "emulated": False,
    "virtualised": False,
}
IDLE = MachineFacts(
    host=HOST,
    texts=TEXTS,
    stat_before="cpu  100 0 100 10000 0 0 0 0 0 0",
    stat_after="cpu  101 0 101 10798 0 0 0 0 0 0",
    clock_resolution_ns=1.0,
    allowed_cpus=4,
    machine_cpus=4,
)


def with_texts(changed: Mapping[str, str | None]) -> MachineFacts:
    texts = {path: text for path, text in {**TEXTS, **changed}.items() if text is not None}
    return dataclasses.replace(IDLE, texts=texts)


def found(facts: MachineFacts, what: str) -> Finding:
    return next(finding for finding in examine(facts) if finding.what == what)


def test_a_machine_in_the_best_state_is_ok_in_everything() -> None:
    assert {finding.level for finding in examine(IDLE)} == {"ok"}
    assert not any(finding.mend for finding in examine(IDLE))


def test_a_machine_that_tells_nothing_is_unknown_in_everything_and_never_ok() -> None:
    findings = examine(MachineFacts(host={}, texts={}))
    assert {finding.level for finding in findings} == {"unknown"}
    assert is_fit(findings)


@pytest.mark.parametrize(
    ("texts", "what", "level", "mend"),
    [
        ({GOVERNOR: None}, "CPU governor", "unknown", ""),
        ({GOVERNOR: "schedutil"}, "CPU governor", "warn", "sudo cpupower frequency-set -g perform"),
        ({GOVERNOR: "powersave", DRIVER: "intel_pstate"}, "CPU governor", "warn", "sudo cpupower"),
        ({GOVERNOR: "powersave"}, "CPU governor", "bad", "sudo cpupower frequency-set"),
        ({BOOST: None}, "CPU boost", "unknown", ""),
        ({BOOST: "1"}, "CPU boost", "warn", f"echo 0 | sudo tee {BOOST}"),
        ({BOOST: None, NO_TURBO: "0"}, "CPU boost", "warn", f"echo 1 | sudo tee {NO_TURBO}"),
        ({BOOST: None, NO_TURBO: "1"}, "CPU boost", "ok", ""),
        ({SIBLINGS: "0,4"}, "SMT siblings", "warn", "echo off | sudo tee"),
        ({SIBLINGS: "0-1"}, "SMT siblings", "warn", "echo off | sudo tee"),
        ({QUOTA: "50000 100000"}, "processor quota", "bad", "without a CPU limit"),
        ({QUOTA: "250000 100000"}, "processor quota", "warn", "without a CPU limit"),
        ({QUOTA: "400000 100000"}, "processor quota", "ok", ""),
        ({QUOTA: None}, "processor quota", "ok", ""),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, "processor quota", "ok", ""),
        ({f"{ZONE}temp": "91000"}, "temperature", "bad", "let it cool"),
        ({f"{ZONE}temp": "82000"}, "temperature", "warn", "let it cool"),
        ({f"{ZONE}trip_point_0_type": "active", THROTTLED: None}, "temperature", "unknown", ""),
        ({THROTTLED: "12"}, "temperature", "warn", "let it cool"),
        ({f"{BATTERY}status": "Discharging"}, "power", "warn", "plug it in"),
        ({f"{BATTERY}status": "Discharging", f"{BATTERY}scope": "Device"}, "power", "ok", ""),
        ({"/proc/meminfo": MEMINFO.format(100_000, 0)}, "memory", "bad", "stop what holds it"),
        ({"/proc/meminfo": MEMINFO.format(900_000, 0)}, "memory", "warn", "stop what holds it"),
        ({"/proc/meminfo": MEMINFO.format(6_000_000, 0)}, "memory", "warn", "sudo swapoff -a"),
        ({"/proc/meminfo": "nothing of the kind"}, "memory", "unknown", ""),
        ({CLOCK: "hpet"}, "clock", "warn", "echo tsc | sudo tee"),
        ({CLOCK: None}, "clock", "unknown", ""),
        ({"/proc/loadavg": "3.50 1 1 1/1 1"}, "other load", "warn", "wait a minute"),
    ],
)
def test_each_text_leads_to_its_finding_and_to_what_mends_it(
    texts: dict[str, str | None], what: str, level: Level, mend: str
) -> None:
    finding = found(with_texts(texts), what)
    assert finding.level == level
    assert mend in finding.mend
    assert bool(finding.mend) == (level in ("warn", "bad"))


@pytest.mark.parametrize(
    ("quota", "period", "level"),
    [("50000", "100000", "bad"), ("300000", "100000", "warn"), ("-1", "100000", "ok")],
)
def test_quotas_of_the_first_kind_of_control_groups_are_read_too(
    quota: str, period: str, level: Level
) -> None:
    base = "/sys/fs/cgroup/cpu/docker/1/cpu.cfs_"
    facts = with_texts({QUOTA: None, f"{base}quota_us": quota, f"{base}period_us": period})
    assert found(facts, "processor quota").level == level


@pytest.mark.parametrize(
    ("changed", "what", "level", "words"),
    [
        ({"host": {**HOST, "emulated": True}}, "real processor", "bad", "is emulated here"),
        ({"host": {**HOST, "virtualised": True}}, "real processor", "unknown", "a virtual machine"),
        ({"host": {**HOST, "isa_flags": ["sse4_1"]}}, "instruction sets", "warn", "no AVX2"),
        (
            {"host": {**HOST, "isa_flags": ["avx2"]}},
            "instruction sets",
            "warn",
            "int8 gains little",
        ),
        (
            {"host": {**HOST, "isa_flags": ["asimd"]}},
            "instruction sets",
            "warn",
            "int8 gains little",
        ),
        (
            {"host": {**HOST, "isa_flags": ["asimd", "asimddp"]}},
            "instruction sets",
            "ok",
            "asimddp",
        ),
        ({"allowed_cpus": 2}, "allowed processors", "warn", "2 of 4"),
        ({"clock_resolution_ns": 4e6}, "clock", "bad", "10 steps or less"),
        ({"stat_after": "cpu  101 0 101 10798 0 0 0 10 0 0"}, "steal time", "warn", "1.2%"),
        ({"stat_after": "cpu  101 0 101 10798 0 0 0 80 0 0"}, "steal time", "bad", "9.1%"),
        ({"stat_after": "cpu  101 0 101 10798"}, "steal time", "unknown", "does not tell"),
        ({"stat_after": ""}, "other load", "unknown", "does not tell"),
        ({"stat_after": "cpu  201 0 101 10698 0 0 0 0 0 0"}, "other load", "warn", "0.51 of 4"),
        ({"stat_after": "cpu  501 0 101 10398 0 0 0 0 0 0"}, "other load", "bad", "2.01 of 4"),
    ],
)
def test_each_fact_leads_to_its_finding(
    changed: dict[str, Any], what: str, level: Level, words: str
) -> None:
    finding = found(dataclasses.replace(IDLE, **changed), what)
    assert finding.level == level
    assert words in finding.why
    assert is_fit([finding]) == (level != "bad")


def test_who_uses_the_processor_is_named_with_the_command_that_ends_it() -> None:
    busy = dataclasses.replace(
        IDLE,
        stat_after="cpu  501 0 101 10398 0 0 0 0 0 0",
        processes=(("make", 4711, 1.9), ("init", 1, 0.2), ("top", 4712, 0.03)),
    )
    finding = found(busy, "other load")
    assert "make (PID 4711) 190% of a core" in finding.why
    assert finding.mend == "kill 4711"


@pytest.mark.parametrize(
    ("free_bytes", "level"),
    [(None, "unknown"), (10 << 20, "bad"), (100 << 20, "warn"), (10 << 30, "ok")],
)
def test_room_for_the_profile_is_judged_where_it_is_written(
    free_bytes: int | None, level: Level
) -> None:
    finding = disk(free_bytes, "/data")
    assert finding.level == level
    assert "/data" in finding.why


def visits_of(fastest_ns: Sequence[int], scatter: float = 1.05) -> list[dict[str, Any]]:
    return [{"runs_ns": [ns, int(ns * scatter), ns * 2], "facts": {}} for ns in fastest_ns]


@pytest.mark.parametrize(
    ("visits", "level", "words"),
    [
        (visits_of([5_000_000, 5_100_000]), "ok", "a re-test difference of 2.0%"),
        (visits_of([5_000_000, 5_700_000]), "warn", "5.00 to 5.70 ms"),
        (visits_of([5_000_000, 7_500_000]), "bad", "a re-test difference of 50.0%"),
        (visits_of([5_000_000, 5_000_000], scatter=1.5), "warn", "up to 50.0% above the fastest"),
    ],
)
def test_visits_that_differ_are_no_fit_machine(
    visits: list[dict[str, Any]], level: Level, words: str
) -> None:
    finding = judge_probe(visits)
    assert finding.level == level
    assert words in finding.why


def test_what_disturbed_a_visit_is_told() -> None:
    visits = visits_of([5_000_000] * 2)
    visits[0]["facts"] = {"involuntary_switches": 12, "steal_ms": None}
    visits[1]["facts"] = {"involuntary_switches": 3, "steal_ms": 20.0}
    why = judge_probe(visits).why
    assert "15 times another process took the core" in why
    assert "20 ms were stolen" in why


def test_the_probe_measures_one_shape_several_times(fake_device: Any) -> None:
    device = fake_device()
    assert judge_probe(probe(device)).level == "ok"
    assert len(device.visited) == PROBE_VISITS
    assert len(set(device.visited)) == 1


@given(
    path=st.sampled_from(sorted(TEXTS)),
    text=st.text(max_size=40) | st.integers(-(10**20), 10**20).map(str),
    stat=st.text(max_size=40),
)
def test_no_text_of_a_machine_breaks_it(path: str, text: str, stat: str) -> None:
    facts = dataclasses.replace(with_texts({path: text}), stat_after=stat)
    assert all(finding.why for finding in examine(facts))
