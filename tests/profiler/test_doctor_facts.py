from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from profiler.doctor_facts import SAMPLE_S, gather_facts, read_texts
from profiler.finding import MachineFacts
from profiler.host import host_facts
from profiler.worker import serve


def tree(root: Path, texts: Mapping[str, str]) -> Path:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_texts_of_every_core_are_read_and_what_is_absent_is_left_out(tmp_path: Path) -> None:
    cpus = "sys/devices/system/cpu"
    root = tree(
        tmp_path,
        {
            f"{cpus}/cpu0/cpufreq/scaling_governor": "powersave\n",
            f"{cpus}/cpu11/cpufreq/scaling_governor": "performance\n",
            f"{cpus}/cpufreq/boost": "1\n",
            f"{cpus}/cpu0/online": "1\n",
            "proc/meminfo": "MemAvailable: 5 kB\n" * 1000,
        },
    )
    texts = read_texts(root)
    assert texts[f"/{cpus}/cpu11/cpufreq/scaling_governor"] == "performance"
    assert texts[f"/{cpus}/cpufreq/boost"] == "1"
    assert len(texts) == 4
    assert len(texts["/proc/meminfo"]) <= 4096


@pytest.mark.parametrize(
    ("group", "quota"),
    [
        ("0::/user/build\n", "sys/fs/cgroup/user/build/cpu.max"),
        ("0::/user/build\n", "sys/fs/cgroup/user/cpu.max"),
        ("0::/\n", "sys/fs/cgroup/cpu.max"),
        ("0::/../../host\n", "sys/fs/cgroup/cpu.max"),
        ("4:cpu,cpuacct:/docker/1\n", "sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us"),
        ("4:memory:/x\n4:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ],
)
def test_the_quota_of_the_group_and_of_those_above_it_are_found(
    tmp_path: Path, group: str, quota: str
) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": group, quota: "50000 100000\n"})
    assert read_texts(root) == {f"/{quota}": "50000 100000"}


def test_the_busiest_processes_of_the_sample_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/stat": "cpu  1 2 3 4 5 6 7 8\ncpu0 1\n"})
    slept: list[float] = []
    readings = iter(
        [
            {7: ("idle", 3.0), 8: ("busy", 100.0)},
            {7: ("idle", 3.01), 8: ("busy", 101.0), 9: ("new", 2.0)},
        ]
    )
    facts = gather_facts(
        root=root,
        sleep_s=slept.append,
        clock_s=lambda: sum(slept),
        process_times=lambda: next(readings),
    )
    assert slept == [SAMPLE_S]
    assert facts["processes"] == [
        {"pid": 9, "name": "new", "cpu_share": 1.0},
        {"pid": 8, "name": "busy", "cpu_share": 0.5},
    ]
    assert facts["stat_before"] == "cpu  1 2 3 4 5 6 7 8"


def test_this_machine_tells_its_facts_and_they_survive_the_way_through_json() -> None:
    facts = json.loads(json.dumps(gather_facts(sleep_s=lambda _: None)))
    read = MachineFacts.from_json(host_facts(), facts)
    assert read.machine_cpus >= read.allowed_cpus >= 1
    assert read.clock_resolution_ns > 0
    assert "/proc/meminfo" in read.texts


@pytest.mark.parametrize("facts", [{}, {"texts": []}, {"texts": {}, "processes": [1]}])
def test_facts_of_another_kind_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="facts that are not readable"):
        MachineFacts.from_json({}, facts)


def asked(gather: Any) -> dict[str, Any]:
    replies = io.BytesIO()
    serve(
        io.BytesIO(b'{"type": "doctor", "id": 3}\n'),
        replies,
        facts={},
        open_configuration=lambda _: lambda: None,
        gather=gather,
    )
    answer: dict[str, Any] = json.loads(replies.getvalue().splitlines()[1])
    return answer


def test_a_measuring_child_is_asked_for_them_over_its_own_line() -> None:
    assert asked(lambda: {"texts": {}}) == {"type": "doctor", "id": 3, "facts": {"texts": {}}}


def test_a_machine_that_cannot_tell_is_no_crash() -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("no /proc")

    assert asked(broken) == {"type": "failure", "id": 3, "error": "RuntimeError: no /proc"}
