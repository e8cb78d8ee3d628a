from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotinybert.errors import DamagedFileError, InputError
from device_profiles.journal import Journal
from device_profiles.protocol import Protocol
from device_profiles.rows import rows_of, why_not_accepted
from device_profiles.target import Configuration, Target, Workload
from device_profiles.visits import MAX_DISTURBED, CampaignRecord, Visit
from profiler.campaign import (
    Progress,
    VisitFailedError,
    WorkerLostError,
    checked_visit,
    run_campaign,
)
from profiler.plan import Plan, make_plan, sample_architectures
from supernet.space import kd_space

PROTOCOL = Protocol(block_size=8, planned_visits=4)


class Killed(BaseException):
    """What `kill -9` looks like from inside: no handler gets to run a clean-up worth the name."""


def plan_of(configs: int = 20, *, rivals: bool = False, seed: int = 0) -> Plan:
    return make_plan(
        sample_architectures(kd_space(), configs, seed),
        workloads=[Workload()],
        targets=[Target()],
        rivals=rivals,
        seed=seed,
    )


def run(
    path: Path, device: Any, plan: Plan, protocol: Protocol = PROTOCOL, **options: Any
) -> CampaignRecord:
    with Journal(path) as journal:
        return run_campaign(
            plan,
            protocol,
            journal,
            device.open,
            host=device.host,
            clock_s=device.clock_s,
            **options,
        )


def restless_device(fake_device: Callable[..., Any], restless: Configuration) -> Any:
    """A device on which one configuration takes longer at every visit."""

    class Restless(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            factor = 1.2 ** self.visited.count(restless) if configuration == restless else 1.0
            return {**result, "runs_ns": [int(ns * factor) for ns in result["runs_ns"]]}

    return Restless(noise=0)


def itinerary(record: CampaignRecord) -> list[tuple[int, int]]:
    return [(visit.round, visit.configuration) for visit in record.visits]


def test_every_configuration_is_visited_once_a_round_in_shuffled_order(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    record = run(tmp_path / "journal", fake_device(), plan_of())
    rounds = [
        [visit.configuration for visit in record.visits if visit.round == number]
        for number in (1, 2, 3, 4)
    ]
    assert all(sorted(order) == list(range(22)) for order in rounds)
    assert len({tuple(order) for order in rounds}) == 4
    assert record.stopped == "every row is ok"
    assert {row.verdict for row in rows_of(record, PROTOCOL)} == {"ok"}


def test_every_block_has_a_fresh_worker_and_its_own_number(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    device = fake_device()
    record = run(tmp_path / "journal", device, plan_of())
    blocks = [visit.block for visit in record.visits]
    assert device.workers_opened == len(set(blocks)) == 4 * 3
    assert blocks == sorted(blocks)
    assert set(np.bincount(blocks)[1:].tolist()) == {7, 8}  # 22 a round, in nearly equal parts


def test_labels_are_within_the_noise_of_the_device(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    device = fake_device(noise=0.01)
    record = run(tmp_path / "journal", device, plan_of(40))
    for row in rows_of(record, PROTOCOL):
        assert row.latency_ms is not None
        assert 0 <= row.latency_ms / device.quiet_ms(row.configuration) - 1 < 0.01
        assert row.percentiles_ms[50] is not None
        assert row.percentiles_ms[99] is None


@pytest.mark.parametrize("after", [1, 2, 17, 22, 23, 45, 60, 87])
def test_a_campaign_killed_at_any_visit_and_resumed_equals_an_unbroken_one(
    tmp_path: Path, fake_device: Callable[..., Any], after: int
) -> None:
    unbroken = run(tmp_path / "unbroken", fake_device(noise=0), plan_of())
    device = fake_device(noise=0)
    seen = 0

    def kill(_: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == after:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "resumed", device, plan_of(), on_progress=kill)
    # The crash tore the line that was being written.
    with (tmp_path / "resumed").open("ab") as file:
        file.write(b'{"kind":"visit","configurat')
    resumed = run(tmp_path / "resumed", device, plan_of())
    assert itinerary(resumed) == itinerary(unbroken)
    assert rows_of(resumed, PROTOCOL) == rows_of(unbroken, PROTOCOL)
    assert len(device.visited) == len(unbroken.visits)  # nothing acknowledged was measured twice
    assert resumed.elapsed_s == pytest.approx(unbroken.elapsed_s, abs=0.01)


def test_a_finished_campaign_measures_nothing_more(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    run(tmp_path / "journal", fake_device(), plan_of())
    device = fake_device()
    run(tmp_path / "journal", device, plan_of())
    assert device.visited == []


def test_visits_in_a_slow_block_are_made_up_for(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    class SometimesSlow(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            slow = 30 <= len(self.visited) <= 38  # the whole second block of the second round
            factor = 1.3 if slow else 1.0
            return {**result, "runs_ns": [int(ns * factor) for ns in result["runs_ns"]]}

    device = SometimesSlow(noise=0.005)
    record = run(tmp_path / "journal", device, plan_of())
    assert max(visit.round for visit in record.visits) > PROTOCOL.visits
    for row in rows_of(record, PROTOCOL):
        assert row.verdict == "ok"
        assert row.visits >= PROTOCOL.visits
        assert row.latency_ms == pytest.approx(device.quiet_ms(row.configuration), rel=0.01)


def test_rows_that_never_settle_are_given_up_after_the_most_visits(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    restless = plan_of().configurations[5]
    device = restless_device(fake_device, restless)
    record = run(tmp_path / "journal", device, plan_of())
    assert device.visited.count(restless) == PROTOCOL.max_visits
    row = rows_of(record, PROTOCOL)[5]
    assert row.verdict == "noisy"
    assert "differ by" in row.reason
    assert "quieter machine" in row.reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (VisitFailedError("std::bad_alloc"), "ran out of memory: std::bad_alloc: free memory"),
        (WorkerLostError("no answer within 600 s"), "timed out: no answer within 600 s: leave"),
        (
            WorkerLostError("the measuring process ended (killed by signal 11)"),
            "crashed: the measuring process ended (killed by signal 11): try another graph",
        ),
        (VisitFailedError("Fail: no kernel"), "failed on the device: Fail: no kernel: try"),
    ],
)
def test_a_configuration_that_fails_costs_its_row_and_not_the_campaign(
    tmp_path: Path, fake_device: Callable[..., Any], error: Exception, reason: str
) -> None:
    broken = plan_of().configurations[7]

    class Breaking(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            if configuration == broken:
                raise error
            return result

    device = Breaking(noise=0)
    record = run(tmp_path / "journal", device, plan_of())
    rows = rows_of(record, PROTOCOL)
    assert device.visited.count(broken) == 2
    assert rows[7].verdict == "rejected"
    assert rows[7].latency_ms is None
    assert rows[7].reason.startswith(reason)
    assert {row.verdict for index, row in enumerate(rows) if index != 7} == {"ok"}


def test_time_limit_alone_shortens_the_plan_and_not_the_visits(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    device = fake_device(noise=0)
    # At 0.3 s a visit, 90 s hold 300 visits: 4 of 60 configurations and a reserve.
    plan = plan_of(200, rivals=True)
    record = run(tmp_path / "journal", device, plan, time_limit_s=90, shorten_plan=True)
    rows = rows_of(record, PROTOCOL)
    assert plan.num_required < len(rows) < len(plan.configurations)
    assert len(rows) == pytest.approx(90 / 0.3 / 4.5, abs=3)
    assert {(row.verdict, row.visits) for row in rows} == {("ok", 4)}
    assert device.now_s < 90
    again = run(tmp_path / "journal", device, plan, time_limit_s=90, shorten_plan=True)
    assert rows_of(again, PROTOCOL) == rows


def test_a_machine_that_slows_down_costs_configurations_and_not_visits(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    class Tiring(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            self.now_s += 0.12 if self.now_s > 45 else 0.0
            return result

    device = Tiring(noise=0)
    record = run(tmp_path / "journal", device, plan_of(300), time_limit_s=180, shorten_plan=True)
    rows = rows_of(record, PROTOCOL)
    assert {row.verdict for row in rows} == {"ok"}
    assert device.now_s < 181
    assert len(rows) > 80


def test_time_limit_holds_in_the_first_round_and_for_required_rows_too(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    device = fake_device(noise=0)
    plan = plan_of(20, rivals=True)
    record = run(tmp_path / "journal", device, plan, time_limit_s=3, shorten_plan=True)
    assert device.now_s < 4
    assert record.stopped == "time limit of 3 s"


def test_a_cut_leaves_every_workload_of_the_shapes_that_are_left(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    plan = make_plan(
        sample_architectures(kd_space(), 100, 0),
        workloads=[Workload(1, 32), Workload(1, 64), Workload(1, 128)],
        targets=[Target()],
        rivals=False,
        seed=0,
    )
    for limit_s in (100, 101, 102):
        record = run(
            tmp_path / f"journal-{limit_s}",
            fake_device(noise=0),
            plan,
            time_limit_s=limit_s,
            shorten_plan=True,
        )
        assert record.cut is not None
        assert record.cut % 3 == 0


def test_few_rows_are_visited_again_in_company_so_that_their_block_can_be_judged(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    device = restless_device(fake_device, plan_of().configurations[5])
    record = run(tmp_path / "journal", device, plan_of())
    fifth = [visit.configuration for visit in record.visits if visit.round == 5]
    assert len(fifth) == 8
    assert 5 in fifth


@pytest.mark.parametrize(
    "reply",
    [{}, {"runs_ns": [], "facts": {}}, {"runs_ns": [0], "facts": {}}, {"runs_ns": "12"}],
)
def test_a_reply_that_is_no_visit_never_reaches_the_journal(
    tmp_path: Path, fake_device: Callable[..., Any], reply: dict[str, Any]
) -> None:
    class Babbling(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            return reply if len(self.visited) == 4 else result

    record = run(tmp_path / "journal", Babbling(noise=0), plan_of())
    assert [*record.failures.values()] == [["it sent a visit without timed runs"]]
    with Journal(tmp_path / "journal") as journal:
        assert len(CampaignRecord.from_journal(journal.records).visits) == len(record.visits)


def test_a_worker_on_another_machine_is_refused(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    class Moving(fake_device):  # type: ignore[misc, valid-type]
        def open(self) -> Any:
            worker = super().open()
            if self.workers_opened == 3:
                worker.host = {**worker.host, "governor": "powersave"}
            return worker

    device = Moving()
    with pytest.raises(InputError, match="governor test / powersave"):
        run(tmp_path / "journal", device, plan_of())


def test_time_limit_with_a_fixed_plan_rejects_what_lacks_visits(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    record = run(tmp_path / "journal", fake_device(noise=0), plan_of(), time_limit_s=22)
    rows = rows_of(record, PROTOCOL)
    assert record.stopped == "time limit of 22 s"
    assert {row.verdict for row in rows} == {"ok", "rejected"}
    assert all("more time" in row.reason for row in rows if row.verdict == "rejected")


def test_another_plan_or_machine_is_refused_before_anything_is_measured(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    path = tmp_path / "journal"
    run(path, fake_device(), plan_of())
    device = fake_device()
    with pytest.raises(InputError, match="another plan"):
        run(path, device, plan_of(seed=1))
    device.host = {**device.host, "onnxruntime_version": "2.0"}
    with pytest.raises(InputError, match=r"onnxruntime_version 1\.0 / 2\.0"):
        run(path, device, plan_of())
    assert device.visited == []


def test_progress_counts_up_to_what_was_planned_and_time_left_shrinks(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    seen: list[Progress] = []
    run(tmp_path / "journal", fake_device(noise=0), plan_of(), on_progress=seen.append)
    assert [progress.visits_done for progress in seen] == list(range(1, 89))
    assert {progress.visits_planned for progress in seen} == {88}
    assert seen[-1].remaining_s == 0
    assert seen[30].remaining_s == pytest.approx((88 - 31) * 0.3, rel=0.1)


def test_time_left_is_never_more_than_the_limit_leaves(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    seen: list[Progress] = []
    plan = plan_of(500)
    options: dict[str, Any] = {"time_limit_s": 60, "shorten_plan": True, "on_progress": seen.append}
    run(tmp_path / "journal", fake_device(noise=0), plan, **options)
    assert max(progress.remaining_s for progress in seen) <= 60


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "visit"},
        {"kind": "surprise"},
        {},
        {"kind": "visit", "configuration": 99, "round": 1, "block": 1, "runs_ns": [1]},
        {"kind": "visit", "configuration": -1, "round": 1, "block": 1, "runs_ns": [1]},
        {"kind": "round", "round": 1, "order": ["0"]},
    ],
)
def test_a_journal_of_something_else_is_refused_with_the_line(record: dict[str, Any]) -> None:
    with pytest.raises(DamagedFileError, match="journal line 1 is no record of a campaign"):
        CampaignRecord.from_journal([record])


def test_a_visit_without_runs_is_refused() -> None:
    header = {
        "kind": "campaign",
        "configurations": [plan_of(1).configurations[0].to_json()],
        "measurement_key": {},
    }
    visit = {"kind": "visit", "configuration": 0, "round": 1, "block": 1, "runs_ns": []}
    with pytest.raises(DamagedFileError, match=r"line 2 .*without timed runs"):
        CampaignRecord.from_journal([header, visit])
    assert Visit(0, 1, 1, (3, 2), 0.0, {}).minimum_ns == 2


def busy_device(fake_device: Callable[..., Any], *, loss_s: float = 0.2) -> Any:
    """A device whose core other work takes for half of the time, 0.5 to 15 s at once."""
    rng = np.random.default_rng(4)
    switches_s = np.cumsum(rng.uniform(0.5, 15, 400))

    class Busy(fake_device):  # type: ignore[misc, valid-type]
        def is_busy(self) -> bool:
            return bool(np.searchsorted(switches_s, self.now_s) % 2)

        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            held_s = 0.0
            while self.is_busy() and held_s < protocol.max_hold_s:
                self.now_s += 0.25
                held_s += 0.25
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            facts = {"held_ns": int(held_s * 1e9), "waited_ns": 0, "steal_ms": 0.0}
            if not self.is_busy():
                return {**result, "facts": facts}
            self.now_s += loss_s
            slow = [int(1.5 * ns) for ns in result["runs_ns"][:1]]
            return {"runs_ns": slow, "facts": {**facts, "waited_ns": slow[0] // 3}}

    return Busy(noise=0.01)


def test_a_machine_that_is_busy_for_half_of_the_time_gets_its_rows_in_twice_the_time(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    quiet_device, busy = fake_device(seed=1, noise=0.01), busy_device(fake_device)
    plan, protocol = plan_of(60), Protocol()
    quiet = rows_of(run(tmp_path / "quiet", quiet_device, plan, protocol), protocol)
    record = run(tmp_path / "busy", busy, plan, protocol)
    rows = rows_of(record, protocol)
    assert any(visit.disturbed for visit in record.visits)
    assert busy.now_s < 2 * quiet_device.now_s
    assert [row.verdict for row in rows].count("ok") >= 0.9 * len(rows)
    for row, label in zip(rows, quiet, strict=True):
        if row.verdict == "ok":
            assert label.latency_ms is not None
            assert row.latency_ms == pytest.approx(label.latency_ms, rel=0.03)


def always_disturbed(
    fake_device: Callable[..., Any], facts: Mapping[str, Any], held_s: float
) -> Any:
    class Taken(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            self.now_s += held_s
            return {**result, "facts": facts}

    return Taken()


@pytest.mark.parametrize(
    ("facts", "stopped", "reason"),
    [
        ({"waited_ns": 10**9}, "other work took the core for 100%", "stop other work"),
        ({"steal_ms": 1e6}, "the hypervisor took the core for 100%", "dedicated machine"),
    ],
)
def test_a_machine_that_is_always_busy_is_given_up_with_the_reason(
    tmp_path: Path,
    fake_device: Callable[..., Any],
    facts: dict[str, Any],
    stopped: str,
    reason: str,
) -> None:
    device = always_disturbed(fake_device, facts, held_s=20)
    record = run(tmp_path / "journal", device, plan_of())
    assert device.now_s < 100
    assert record.stopped.startswith(stopped)
    rows = rows_of(record, PROTOCOL)
    assert {row.verdict for row in rows} == {"rejected"}
    assert all(reason in rows[visit.configuration].reason for visit in record.visits)


def test_visits_lost_to_load_are_bounded_and_come_last_in_their_round(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    device = always_disturbed(fake_device, {"waited_ns": 10**9}, held_s=0)
    plan = plan_of(8)
    record = run(tmp_path / "journal", device, plan)
    assert len(record.visits) <= MAX_DISTURBED * len(plan.configurations)
    first = [visit.configuration for visit in record.visits if visit.round == 1]
    everything = set(range(len(plan.configurations)))
    assert set(first[: len(everything)]) == set(first[len(everything) : 2 * len(everything)])
    assert set(first) == everything


def test_a_slow_start_of_a_disturbed_block_does_not_make_its_other_visits_slow(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    class Interrupted(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            if not 30 <= len(self.visited) <= 34:  # most of the second block of the second round
                return result
            slow = [2 * ns for ns in result["runs_ns"]]
            return {"runs_ns": slow, "facts": {"waited_ns": sum(slow) // 2}}

    record = run(tmp_path / "journal", Interrupted(noise=0.005), plan_of())
    causes = why_not_accepted(record, PROTOCOL)
    assert {cause for cause in causes if cause} == {"load"}
    assert {row.verdict for row in rows_of(record, PROTOCOL)} == {"ok"}


def test_a_machine_that_heats_up_is_called_throttling(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    class Heating(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            factor = 1 + 0.004 * self.now_s
            return {**result, "runs_ns": [int(ns * factor) for ns in result["runs_ns"]]}

    record = run(tmp_path / "journal", Heating(noise=0.005), plan_of())
    rows = rows_of(record, PROTOCOL)
    assert all("(throttling)" in row.reason for row in rows if row.verdict == "rejected")
    assert {"rejected"} <= {row.verdict for row in rows}


def test_a_percentile_that_was_asked_for_has_runs_enough(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    for percentile in (90, 95, 99):
        protocol = Protocol.for_percentile(percentile)
        record = run(tmp_path / str(percentile), fake_device(), plan_of(6), protocol)
        for row in rows_of(record, protocol):
            assert row.percentiles_ms[percentile] is not None
    with pytest.raises(InputError, match="choose one of 50, 90, 95, 99"):
        Protocol.for_percentile(96)


def test_more_visits_make_labels_steadier_and_no_lower(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    def labels(planned: int) -> npt.NDArray[np.float64]:
        protocol = Protocol().with_visits(planned)
        record = run(tmp_path / str(planned), fake_device(noise=0.02), plan_of(40), protocol)
        rows = rows_of(record, protocol)
        assert {row.visits for row in rows} >= {planned}
        return np.array([row.latency_ms for row in rows], dtype=np.float64)

    true = labels(40)
    few, many = (np.log(labels(planned) / true) for planned in (4, 20))
    assert many.std() < 0.6 * few.std()
    assert abs(few.mean() - many.mean()) < 3 * few.std() / np.sqrt(len(few))
    with pytest.raises(InputError, match="3 visits make no label: plan at least 4"):
        Protocol().with_visits(3)


@pytest.mark.parametrize(
    ("kills", "seconds"), [(10, 60), pytest.param(100, 300, marks=pytest.mark.slow)]
)
def test_kill_9_at_random_moments_loses_no_acknowledged_visit_and_changes_no_row(
    tmp_path: Path, kills: int, seconds: float
) -> None:
    program = Path(__file__).with_name("kill_campaigns.py")
    command = [sys.executable, str(program), str(tmp_path), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert found["kills"] >= kills
    assert found["campaigns"] >= 1


@pytest.mark.parametrize("apart", [[], [0], [1.5], [True], 7, "12", None])
def test_runs_from_memory_to_memory_that_are_none_never_reach_the_journal(apart: object) -> None:
    good = {"runs_ns": [1], "facts": {"end_to_end_ns": [5, 6]}}
    assert checked_visit(good) == good
    with pytest.raises(WorkerLostError, match="end_to_end_ns are no timed runs"):
        checked_visit({"runs_ns": [1], "facts": {"end_to_end_ns": apart}})


@pytest.mark.parametrize("facts", [{"waited_ns": -1}, {"held_ns": "1"}, {"steal_ms": True}])
def test_times_that_are_none_never_reach_the_journal(facts: dict[str, Any]) -> None:
    with pytest.raises(WorkerLostError, match="is no time"):
        checked_visit({"runs_ns": [1], "facts": facts})
