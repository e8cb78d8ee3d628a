from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotinybert.errors import InputError, WorkError
from profiler.affinity import (
    check_cpus,
    check_each_has_its_own,
    check_placed,
    check_threads,
    cpus_text,
    parse_cpus,
    session_affinities,
)

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("", ()), ("3", (3,)), ("0,2-3", (0, 2, 3)), ("4-5, 1", (4, 5, 1)), ("7-7", (7,))],
)
def test_a_list_of_cpus_is_read_in_its_order(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpus(text) == cpus
    assert parse_cpus(cpus_text(cpus)) == cpus


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "is no list of CPUs: write it as 0,2-3"),
        ("1,,2", "is no list of CPUs"),
        ("-1", "is no list of CPUs"),
        ("3-1", "'3-1' is no range of CPUs"),
        ("0-9999", "is no range of CPUs"),
        ("1,0-2", "names a CPU twice"),
    ],
)
def test_what_is_no_list_of_cpus_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_cpus(text)


def test_cpus_must_be_there_and_enough_for_the_threads() -> None:
    check_cpus((), (0, 1), 2)
    check_cpus((1, 0), (0, 1), 2)
    with pytest.raises(InputError, match="CPU 7 is not one that may be used here: choose from 0,1"):
        check_cpus((1, 7), (0, 1), 1)
    with pytest.raises(InputError, match=r"2 threads on 1 CPUs \(1\): name one CPU for each"):
        check_cpus((1,), (0, 1), 2)


def test_the_runtime_counts_cpus_from_one_and_leaves_out_the_calling_thread() -> None:
    assert session_affinities((4, 0, 2, 3), 3) == "1;3"
    assert session_affinities((4,), 1) == ""


def test_a_session_must_have_started_the_threads_that_were_asked_for() -> None:
    before = frozenset({10, 11})
    check_threads(before, before, 1, ())
    check_threads(before, before | {12, 13}, 3, ())
    check_threads(frozenset(), frozenset(), 3, ())  # a system that does not tell
    with pytest.raises(WorkError, match="asked for 3 threads, but ONNX Runtime started 1 besides"):
        check_threads(before, before | {12}, 3, ())
    with pytest.raises(WorkError, match="asked for 1 threads, but ONNX Runtime started 1"):
        check_threads(before, before | {12}, 1, ())


def test_a_thread_that_is_elsewhere_is_found_and_one_that_has_ended_is_not_missed() -> None:
    def affinity(thread: int) -> set[int]:
        if thread == 9:
            raise ProcessLookupError
        return {thread}

    check_placed({1: 1, 9: 0}, affinity)
    with pytest.raises(WorkError, match="was to run on CPU 3, but may on 2"):
        check_placed({2: 3}, affinity)


def test_threads_get_a_second_to_find_their_places() -> None:
    asked = itertools.count()
    pauses: list[float] = []

    def late(thread: int) -> set[int]:
        return {0} if next(asked) < 6 else {thread}

    check_each_has_its_own([2, 1], [1, 2], late, pauses.append)
    assert len(pauses) == 3
    pauses.clear()
    with pytest.raises(WorkError, match="on CPUs 1,2, one on each, but may on 0,1; 0,1"):
        check_each_has_its_own([1, 2], [1, 2], lambda _: {0, 1}, pauses.append)
    assert sum(pauses) == pytest.approx(1)


# In a process of its own: a pinned one stays pinned.
PINNED = """
import os, sys
import numpy as np
from autotinybert.errors import WorkError
from device_profiles.target import Configuration, Target, Workload
from profiler.affinity import pin_process, threads_now
from profiler.session import WeightPool, open_session
from supernet.architecture import Architecture

cpus = tuple(map(int, sys.argv[1:]))
rng = np.random.default_rng(0)
pool = WeightPool(rng)
small = Architecture(1, 24, 40, 3, 27)
pin_process(cpus)
for threads in range(1, len(cpus) + 1):
    run = open_session(
        Configuration(small, Workload(1, 8), Target(threads=threads)), pool, rng, cpus
    )
    run()
    places = sorted(sorted(os.sched_getaffinity(one)) for one in threads_now())
    assert [cpus[0]] in places, places
    for cpu in cpus[1:threads]:
        assert places.count([cpu]) == 1, places
    del run
try:
    open_session(
        Configuration(small, Workload(1, 8), Target(threads=2)), pool, rng, (cpus[0], 8000)
    )
except WorkError as error:
    print(error)
"""


def test_real_threads_are_each_on_their_own_cpu_and_one_that_is_nowhere_is_an_error() -> None:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    done = subprocess.run(
        [sys.executable, "-c", PINNED, *map(str, cpus)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "threads were to run on CPUs 8000" in done.stdout
