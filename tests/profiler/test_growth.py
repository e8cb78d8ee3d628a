from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import DamagedFileError, InputError
from device_profiles.journal import Journal, read_journal
from device_profiles.protocol import Protocol
from device_profiles.rows import factors_of_blocks, rows_of
from device_profiles.target import Configuration, Target, Workload
from device_profiles.visits import CampaignRecord
from profiler.campaign import Progress, run_campaign
from profiler.growth import Growth
from profiler.plan import Plan, make_plan, sample_architectures
from supernet.space import kd_space

PROTOCOL = Protocol(block_size=16, planned_visits=4)
START, BATCH, MOST = 12, 8, 28

SHAPES = sample_architectures(kd_space(), MOST, 0)


class Killed(BaseException):
    """What `kill -9` looks like from inside."""


def plan_of() -> Plan:
    return make_plan(
        SHAPES[:START], workloads=[Workload()], targets=[Target()], rivals=False, seed=0
    )


def grow(record: CampaignRecord) -> Growth:
    """Adds the next shapes, until there are no more."""
    sampled = record.num_planned - plan_of().num_required
    added = SHAPES[sampled : sampled + BATCH]
    error = 1 / sampled
    return Growth(tuple(map(Configuration, added)), error, "" if added else "that is enough")


def run(path: Path, device: Any, **options: Any) -> CampaignRecord:
    with Journal(path) as journal:
        return run_campaign(
            plan_of(),
            PROTOCOL,
            journal,
            device.open,
            host=device.host,
            clock_s=device.clock_s,
            **{"grow": grow, **options},
        )


def itinerary(record: CampaignRecord) -> list[tuple[int, int]]:
    return [(visit.round, visit.configuration) for visit in record.visits]


def test_what_is_added_gets_all_its_visits_beside_what_was_there_before(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    record = run(tmp_path / "journal", fake_device())
    assert [each.architecture for each in record.configurations[-MOST:]] == SHAPES
    rows = rows_of(record, PROTOCOL)
    assert {row.verdict for row in rows} == {"ok"}
    assert min(row.visits for row in rows) >= PROTOCOL.planned_visits
    first, second = 2 + START, 2 + START + BATCH
    for number in range(5, 9):
        visited = {visit.configuration for visit in record.visits if visit.round == number}
        assert set(range(first, second)) <= visited
        assert {0, 1} < visited & set(range(first))  # references, and more
        assert len(visited & set(range(first))) == BATCH
    earlier = [
        {
            visit.configuration
            for visit in record.visits
            if visit.round == number and visit.configuration < first
        }
        for number in range(5, 9)
    ]
    assert len(set(map(frozenset, earlier))) > 1  # others in every round
    assert [(p.configurations, p.error) for p in record.promises] == [
        (14, 1 / 12),
        (22, 1 / 20),
        (30, 1 / 28),
    ]
    assert record.stopped == "that is enough; every row is ok"


@pytest.mark.parametrize("after", [1, 30, 55, 56, 57, 70, 119, 120, 121, 150])
def test_a_growing_campaign_killed_and_resumed_equals_an_unbroken_one(
    tmp_path: Path, fake_device: Callable[..., Any], after: int
) -> None:
    unbroken = run(tmp_path / "unbroken", fake_device(noise=0))
    device = fake_device(noise=0)
    seen = 0

    def kill(_: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == after:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "resumed", device, on_progress=kill)
    resumed = run(tmp_path / "resumed", device)
    assert itinerary(resumed) == itinerary(unbroken)
    assert rows_of(resumed, PROTOCOL) == rows_of(unbroken, PROTOCOL)
    assert len(device.visited) == len(unbroken.visits)
    assert [p.error for p in resumed.promises] == [p.error for p in unbroken.promises]


@pytest.mark.parametrize("kind", ["extended", "stopped"])
def test_a_campaign_killed_right_before_or_after_it_grows_decides_alike(
    tmp_path: Path, fake_device: Callable[..., Any], kind: str
) -> None:
    whole = tmp_path / "whole"
    run(whole, fake_device(noise=0))
    records = read_journal(whole)
    place = next(number for number, each in enumerate(records) if each["kind"] == kind)
    for kept in (place, place + 1):
        path = tmp_path / f"kept-{kept}"
        with Journal(path) as journal:
            for record in records[:kept]:
                journal.append(record)
        device = fake_device(noise=0)
        device.now_s = 1000.0
        run(path, device)
        again = read_journal(path)
        assert [each["kind"] for each in again] == [each["kind"] for each in records]
        assert itinerary(CampaignRecord.from_journal(again)) == itinerary(
            CampaignRecord.from_journal(records)
        )


def test_a_stage_in_which_the_whole_machine_was_slow_is_seen_and_made_up_for(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    class SlowStage(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            slow = 56 < len(self.visited) <= 56 + 3 * 16  # three of the second stage's four rounds
            factor = 1.2 if slow else 1.0
            return {**result, "runs_ns": [int(ns * factor) for ns in result["runs_ns"]]}

    device = SlowStage(noise=0.005)
    record = run(tmp_path / "journal", device)
    factors = factors_of_blocks(record.visits)
    slow = {visit.block for visit in record.visits if visit.round in (5, 6, 7)}
    assert all(factors[block] == pytest.approx(1.2, abs=0.03) for block in slow)
    for row in rows_of(record, PROTOCOL):
        assert row.verdict == "ok"
        assert row.latency_ms == pytest.approx(device.quiet_ms(row.configuration), rel=0.01)


def test_what_does_not_fit_the_time_limit_is_not_begun(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    # A visit takes 0.3 s: the start 17 s, 5 shapes and 8 earlier ones 16 s.
    record = run(tmp_path / "journal", fake_device(), time_limit_s=35.0, shorten_plan=True)
    assert record.num_planned == 14 + 5
    assert record.stopped == "no more shapes fit the time limit of 35 s; every row is ok"
    assert record.elapsed_s < 35
    assert len(record.promises) == 2


def test_progress_counts_the_visits_of_the_stage_under_way(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    seen: list[Progress] = []
    run(tmp_path / "journal", fake_device(), on_progress=seen.append)
    assert [each.visits_done for each in seen] == list(range(1, len(seen) + 1))
    assert seen[0].visits_planned == 4 * 14
    assert seen[56].visits_planned == 4 * 14 + 4 * 16
    assert seen[-1].visits_planned == len(seen)


@pytest.mark.parametrize(
    "changes",
    [
        {"configurations": []},
        {"configurations": [Configuration(SHAPES[0]).to_json()]},
        {"promised_error": "2%"},
        {"promised_error": -0.1},
    ],
)
def test_a_record_that_extends_nothing_is_refused(changes: dict[str, Any]) -> None:
    begun = {
        "kind": "campaign",
        "configurations": [each.to_json() for each in plan_of().configurations],
        "measurement_key": {},
    }
    added = [Configuration(SHAPES[20]).to_json()]
    extended = {"kind": "extended", "configurations": added, "promised_error": None}
    assert CampaignRecord.from_journal([begun, extended]).num_planned == 15
    with pytest.raises(DamagedFileError, match="line 2"):
        CampaignRecord.from_journal([begun, {**extended, **changes}])


def test_the_journal_of_a_longer_plan_is_another_one(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    device = fake_device()
    longer = make_plan(SHAPES, workloads=[Workload()], targets=[Target()], rivals=False, seed=0)
    with Journal(tmp_path / "journal") as journal:
        options = {"host": device.host, "clock_s": device.clock_s}
        run_campaign(longer, PROTOCOL, journal, device.open, **options)
    with pytest.raises(InputError, match="is of another plan"):
        run(tmp_path / "journal", fake_device())
