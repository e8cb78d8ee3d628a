"""Kills real processes that run campaigns on a fake worker, resumes them, and tells what was lost.

    python tests/profiler/kill_campaigns.py FOLDER KILLS

A program of its own, without threads, so that it may fork: a process of its own for each session,
without importing everything a hundred times. Prints a JSON object.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from device_profiles.journal import Journal, read_journal
from device_profiles.machine import KEY_FIELDS
from device_profiles.protocol import Protocol
from device_profiles.rows import rows_of
from device_profiles.target import Configuration, Target, Workload
from device_profiles.visits import CampaignRecord
from profiler.campaign import Progress, VisitFailedError, run_campaign
from profiler.plan import Plan, make_plan, sample_architectures
from supernet.space import kd_space

PROTOCOL = Protocol(block_size=8)
HOST: dict[str, Any] = {**dict.fromkeys(KEY_FIELDS, "test"), "emulated": False}
FAILS, ALWAYS_DISTURBED = 2, range(5, 11)
LONGEST_LIFE_S = 0.1


def make() -> Plan:
    return make_plan(
        sample_architectures(kd_space(), 20, 0),
        workloads=[Workload()],
        targets=[Target()],
        rivals=False,
        seed=0,
    )


class Device:
    """Answers alike whatever it answered before: what a killed process knew is lost."""

    host: Mapping[str, Any] = HOST

    def __init__(self, plan: Plan) -> None:
        self._index = {value: index for index, value in enumerate(plan.configurations)}
        self._now_s = 0.0

    def clock_s(self) -> float:
        return self._now_s

    def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
        index = self._index[configuration]
        self._now_s += 0.25
        if index == FAILS:
            raise VisitFailedError("no kernel")
        run_ns = (index + 1) * 1_000_000
        waited_ns = run_ns if index in ALWAYS_DISTURBED else 0
        return {"runs_ns": [run_ns] * protocol.min_runs, "facts": {"waited_ns": waited_ns}}

    def close(self) -> None:
        pass


def campaign(path: Path, acknowledge: int) -> None:
    """Runs or resumes a campaign; writes a byte for every visit that was acknowledged."""
    plan = make()
    device = Device(plan)

    def on_progress(_: Progress) -> None:
        os.write(acknowledge, b".")

    with Journal(path) as journal:
        run_campaign(
            plan,
            PROTOCOL,
            journal,
            lambda: device,
            host=HOST,
            clock_s=device.clock_s,
            on_progress=on_progress,
        )


def session(path: Path, life_s: float) -> tuple[bool, int]:
    """One session in a process of its own, killed after a while.

    Returns:
        Whether it was killed before it was done, and how many visits it acknowledged.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            campaign(path, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    acknowledged = 0
    ends_s = time.monotonic() + life_s
    while select.select([reading], [], [], max(ends_s - time.monotonic(), 0))[0]:
        received = len(os.read(reading, 1 << 16))
        acknowledged += received
        if not received:  # it closed its end: it is done
            break
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while rest := os.read(reading, 1 << 16):
        acknowledged += len(rest)
    os.close(reading)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a campaign failed")
    return os.WIFSIGNALED(status), acknowledged


def told(path: Path) -> list[dict[str, Any]]:
    """What a journal says, less the numbers of the processes."""
    records = read_journal(path, allow_torn_end=True)
    return [{key: record[key] for key in record if key != "block"} for record in records]


def visits_in(records: list[dict[str, Any]]) -> int:
    return sum(record["kind"] in ("visit", "failure") for record in records)


def main() -> None:
    folder, kills_wanted = Path(sys.argv[1]), int(sys.argv[2])
    rng = np.random.default_rng(0)
    killed, _ = session(folder / "unbroken", 30.0)
    unbroken = told(folder / "unbroken")
    rows = rows_of(CampaignRecord.from_journal(unbroken_records(folder)), PROTOCOL)
    problems = ["the unbroken one was killed"] if killed else []
    kills = finished = 0
    path = folder / "0"
    while kills < kills_wanted or path.exists():
        before = told(path) if path.exists() else []
        killed, acknowledged = session(path, float(rng.uniform(0, LONGEST_LIFE_S)))
        kills += killed
        after = told(path) if path.exists() else []
        if after[: len(before)] != before:
            problems.append("a record was lost")
        if visits_in(after) < visits_in(before) + acknowledged:
            problems.append("an acknowledged visit was lost")
        if not killed:
            if after != unbroken:
                problems.append("the journal differs from an unbroken one's")
            record = CampaignRecord.from_journal(read_journal(path))
            if rows_of(record, PROTOCOL) != rows:
                problems.append("the rows differ from an unbroken one's")
            finished += 1
            path = folder / str(finished)
    found = {"kills": kills, "campaigns": finished, "problems": problems}
    sys.stdout.write(json.dumps(found))


def unbroken_records(folder: Path) -> list[dict[str, Any]]:
    return read_journal(folder / "unbroken")


if __name__ == "__main__":
    main()
