"""Which processors the threads of this process may run on, and whether they are where they should.

Pinned, the thread that runs a session is on the first of the processors and each further thread of
ONNX Runtime on the next. ONNX Runtime only logs an error where it could not place a thread, so the
outcome is read back from the system. All of it is Linux's.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from autotinybert.errors import InputError, WorkError

# Above what the kernel counts to.
_MOST_CPUS = 8192
_TASKS = Path("/proc/self/task")

# Threads place themselves a moment after they start.
_PLACING_ATTEMPTS = 1000
_PLACING_PAUSE_S = 0.001

Cpus = tuple[int, ...]


def parse_cpus(text: str) -> Cpus:
    """Reads a list such as `0,2-3`, in its order; empty text is no processors.

    Raises:
        InputError: if it is no such list, or names a processor twice.
    """
    cpus: list[int] = []
    for part in text.split(",") if text else []:
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip(), re.ASCII)
        if found is None:
            raise InputError(f"{text[:80]!r} is no list of CPUs: write it as 0,2-3")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < _MOST_CPUS:
            raise InputError(f"{part.strip()!r} is no range of CPUs: write the smaller one first")
        cpus.extend(range(first, last + 1))
    if len(set(cpus)) < len(cpus):
        raise InputError(f"{text[:80]!r} names a CPU twice: name each once")
    return tuple(cpus)


def cpus_text(cpus: Sequence[int]) -> str:
    """The list as `parse_cpus` reads it."""
    return ",".join(map(str, cpus))


def check_cpus(cpus: Cpus, allowed: Cpus, threads: int) -> None:
    """Checks that a machine lets a process onto these processors, and that they are enough.

    Raises:
        InputError: if not.
    """
    absent = sorted(set(cpus) - set(allowed))
    if absent:
        raise InputError(
            f"CPU {absent[0]} is not one that may be used here: choose from {cpus_text(allowed)}"
        )
    if cpus and len(cpus) < threads:
        raise InputError(
            f"{threads} threads on {len(cpus)} CPUs ({cpus_text(cpus)}): name one CPU for each "
            "thread, or ask for fewer threads"
        )


def allow_process(cpus: Cpus) -> None:
    """Lets this process run on these processors and no others, with all the threads that it has.

    Raises:
        WorkError: if the system does not do it.
    """
    for thread in threads_now():
        try:
            os.sched_setaffinity(thread, cpus)
        except ProcessLookupError:
            continue
        except OSError as error:
            raise WorkError(f"cannot pin to CPU {cpus_text(cpus)}: {error.strerror}") from error


def pin_process(cpus: Cpus) -> None:
    """Puts this process on the first of these processors, with all the threads that it has.

    Threads that libraries started when they were loaded move too; those that ONNX Runtime starts
    later are placed one by one, each on a processor of its own.

    Raises:
        WorkError: if the system does not do it.
    """
    allow_process(cpus[:1])
    check_placed({thread: cpus[0] for thread in threads_now()})


def session_affinities(cpus: Cpus, threads: int) -> str:
    """The value of `session.intra_op_thread_affinities`: all threads but the one that runs.

    ONNX Runtime counts processors from 1.
    """
    return ";".join(str(cpu + 1) for cpu in cpus[1:threads])


def threads_now() -> frozenset[int]:
    """The threads of this process; none where the system does not tell."""
    try:
        return frozenset(int(entry.name) for entry in _TASKS.iterdir())
    except OSError:
        return frozenset()


def check_threads(before: frozenset[int], after: frozenset[int], threads: int, cpus: Cpus) -> None:
    """Checks the threads that a session started.

    Args:
        before: the threads before it started.
        after: and after; none where the system does not tell, and nothing is checked.
        threads: how many it was to compute with, the calling one among them.
        cpus: where each was to be, the calling one first; empty if they may be anywhere.

    Raises:
        WorkError: if there are more or fewer, or one is elsewhere.
    """
    if not after:
        return
    started = sorted(after - before)
    if len(started) != threads - 1:
        raise WorkError(
            f"asked for {threads} threads, but ONNX Runtime started {len(started)} "
            f"besides the calling one, not {threads - 1}"
        )
    if cpus:
        check_placed({0: cpus[0]})
        # Which thread is placed first is not said; each has a processor of its own.
        check_each_has_its_own(started, cpus[1:threads])


def check_placed(
    places: dict[int, int], affinity: Callable[[int], set[int]] = os.sched_getaffinity
) -> None:
    """Checks that each thread may run on its processor and nowhere else.

    Raises:
        WorkError: naming what a thread may run on instead.
    """
    for thread, cpu in places.items():
        try:
            found = affinity(thread)
        except ProcessLookupError:
            continue
        if found != {cpu}:
            raise WorkError(
                f"a thread was to run on CPU {cpu}, but may on {cpus_text(sorted(found))}"
            )


def check_each_has_its_own(
    threads: Sequence[int],
    cpus: Sequence[int],
    affinity: Callable[[int], set[int]] = os.sched_getaffinity,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Checks that these threads are on these processors, one on each.

    Raises:
        WorkError: if they are not within a second.
    """
    found: list[set[int]] = []
    for _ in range(_PLACING_ATTEMPTS):
        found = [set(affinity(thread)) for thread in threads]
        if sorted(map(sorted, found)) == sorted([cpu] for cpu in cpus):
            return
        pause(_PLACING_PAUSE_S)
    where = "; ".join(cpus_text(sorted(one)) for one in found)
    raise WorkError(
        f"threads were to run on CPUs {cpus_text(cpus)}, one on each, but may on {where}"
    )
