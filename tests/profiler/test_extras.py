"""Work besides latencies: what is chosen, journalled, resumed and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from autotinybert.command import Answer
from autotinybert.errors import InputError, WorkError
from device_profiles.extras import ExtraKind
from device_profiles.footprint import Footprint
from device_profiles.journal import Journal
from device_profiles.lengths import LengthHistogram
from device_profiles.profile import DeviceProfile, save_profile
from device_profiles.protocol import Protocol
from device_profiles.rows import rows_of
from device_profiles.sustained import LoadSeries
from device_profiles.target import Configuration, Target, Workload
from device_profiles.visits import CampaignRecord
from profiler.campaign import (
    ConnectionLostError,
    VisitFailedError,
    WorkerLostError,
    run_campaign,
)
from profiler.extras import ExtraWork, run_extras
from profiler.extras_answer import with_extras
from profiler.plan import make_plan
from profiler.sustained import Load
from supernet.architecture import Architecture
from supernet.published import BERT_BASE, MINILM_L6

SMALL = Architecture(1, 128, 128, 12, 180)
FOOTPRINT = Footprint(
    file_bytes=2_000_000,
    baseline_rss_bytes=60_000_000,
    peak_rss_bytes=90_000_000,
    open_ms=20.0,
    first_run_ms=5.0,
    time_to_first_ms=25.0,
    process_to_first_ms=125.0,
)
HOT = LoadSeries(
    second=tuple(range(60)),
    median_ns=(10_000_000,) * 20 + (15_000_000,) * 40,
    runs=(9,) * 60,
)
WORK = ExtraWork(footprint="all", load=Load(seconds=60, rest_s=12))


class Killed(BaseException):
    """What `kill -9` looks like from inside."""


class FakeWorker:
    """Answers like a measuring child.

    Attributes:
        asked: every kind and configuration, in order.
        errors: what the n-th request raises, from 0.
        host: facts of its machine; the campaign's device, if it is left out.
        refusals: how many attempts to reach it fail.
        opened: how many workers were started.
        closed: how many were ended.
    """

    def __init__(
        self,
        errors: Mapping[int, BaseException] | None = None,
        host: Mapping[str, Any] | None = None,
        refusals: int = 0,
    ) -> None:
        self.host = host or {}
        self.refusals = refusals
        self.asked: list[tuple[str, Configuration]] = []
        self.errors = errors or {}
        self.opened = 0
        self.closed = 0

    def open(self) -> FakeWorker:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionLostError("connection to pi lost: Connection refused")
        self.opened += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def _answer(self, kind: str, configuration: Configuration) -> None:
        self.asked.append((kind, configuration))
        error = self.errors.get(len(self.asked) - 1)
        if error is not None:
            raise error

    def footprint(self, configuration: Configuration) -> Mapping[str, Any]:
        self._answer("footprint", configuration)
        return {"type": "footprint", "id": 1, **FOOTPRINT.to_json()}

    def sustained(self, configuration: Configuration, load: Load) -> Mapping[str, Any]:
        assert load == WORK.load
        self._answer("sustained", configuration)
        return {"type": "sustained", "id": 1, **HOT.to_json()}


class Campaign:
    """A campaign on a fake device whose latencies are there, and its journal."""

    def __init__(self, path: Path, device: Any) -> None:
        self.device = device
        self.path = path
        self.plan = make_plan(
            [SMALL],
            workloads=[Workload(1, 16), Workload(4, 16), Workload(1, 32)],
            targets=[
                Target(),
                Target(threads=2),
                Target(graph_variant="attention"),
                Target(threads=2, graph_variant="attention"),
            ],
            rivals=False,
            seed=0,
        )
        self.protocol = Protocol()

    def record(self, journal: Journal) -> CampaignRecord:
        return run_campaign(
            self.plan,
            self.protocol,
            journal,
            self.device.open,
            host=self.device.host,
            clock_s=self.device.clock_s,
        )

    def run(self, worker: FakeWorker, work: ExtraWork = WORK, **options: Any) -> CampaignRecord:
        worker.host = worker.host or self.device.host
        with Journal(self.path) as journal:
            record = self.record(journal)
            run_extras(work, record, journal, worker.open, **options)
            return record


@pytest.fixture
def campaign(tmp_path: Path, fake_device: Callable[..., Any]) -> Campaign:
    return Campaign(tmp_path / "measurements.jsonl", fake_device())


def test_each_shape_is_measured_once_a_variant_under_its_largest_workload(
    campaign: Campaign,
) -> None:
    worker = FakeWorker()
    campaign.run(worker)
    references = (BERT_BASE.architecture, MINILM_L6.architecture)
    largest = [Target(threads=2, graph_variant=variant) for variant in ("plain", "attention")]
    assert worker.asked == [
        (kind, Configuration(shape, Workload(4, 16), target))
        for kind, shapes in (("footprint", (*references, SMALL)), ("sustained", references))
        for shape in shapes
        for target in largest
    ]
    assert (worker.opened, worker.closed) == (1, 1)


def test_references_alone_unless_all_are_asked_for_and_named_ones_count(
    campaign: Campaign,
) -> None:
    def shapes(work: ExtraWork, *named: Architecture) -> list[tuple[ExtraKind, Architecture]]:
        with Journal(campaign.path) as journal:
            record = campaign.record(journal)
        tasks = work.tasks(record, named)
        return [(kind, record.configurations[index].architecture) for kind, index in tasks][::2]

    usual = [BERT_BASE.architecture, MINILM_L6.architecture]
    assert shapes(ExtraWork()) == []
    some = shapes(ExtraWork(footprint="references"))
    assert some == [("footprint", shape) for shape in usual]
    named = shapes(ExtraWork(load=WORK.load), SMALL)
    assert named == [("sustained", shape) for shape in [*usual, SMALL]]


@pytest.mark.parametrize("after", [0, 5, 6, 9])
def test_work_killed_at_any_moment_goes_on_with_what_is_missing(
    campaign: Campaign, after: int
) -> None:
    with pytest.raises(Killed):
        campaign.run(FakeWorker({after: Killed()}))
    with campaign.path.open("ab") as file:  # the crash tore a line, too
        file.write(b'{"kind":"footprint","config')
    rest = FakeWorker()
    record = campaign.run(rest)
    assert len(rest.asked) == 10 - after
    assert len(record.extras.footprints) == 6
    assert len(record.extras.loads) == 4
    nothing = FakeWorker()
    campaign.run(nothing)
    assert (nothing.asked, nothing.opened) == ([], 0)


def test_what_fails_costs_its_own_result_and_is_not_tried_again(campaign: Campaign) -> None:
    worker = FakeWorker({0: VisitFailedError("no room"), 2: WorkerLostError("killed by signal 9")})
    record = campaign.run(worker)
    assert sorted(record.extras.failures.values()) == ["killed by signal 9", "no room"]
    assert len(record.extras.footprints) == 4
    assert (len(worker.asked), worker.opened, worker.closed) == (10, 2, 2)
    again = FakeWorker()
    campaign.run(again)
    assert again.asked == []


def test_a_lost_connection_is_waited_for_and_costs_nothing(campaign: Campaign) -> None:
    lost = ConnectionLostError("connection to pi lost: Broken pipe")
    worker = FakeWorker({1: lost, 2: lost, 5: lost}, refusals=2)
    waits: list[float] = []
    record = campaign.run(worker, sleep_s=waits.append)
    assert record.extras.failures == {}
    assert (len(record.extras.footprints), len(record.extras.loads)) == (6, 4)
    assert waits == [1, 2, 1, 2, 1]
    assert worker.opened == worker.closed == 4


def test_a_connection_that_stays_lost_says_what_to_do_and_leaves_the_rest_to_be_measured(
    campaign: Campaign,
) -> None:
    lost = ConnectionLostError("connection to pi lost: Broken pipe")
    with pytest.raises(WorkError, match=r"Broken pipe; 10 attempts .* run the same command again"):
        campaign.run(FakeWorker(dict.fromkeys(range(3, 99), lost)), sleep_s=lambda _: None)
    rest = FakeWorker()
    record = campaign.run(rest)
    assert (len(rest.asked), record.extras.failures) == (7, {})


def test_a_worker_on_another_machine_measures_nothing(campaign: Campaign) -> None:
    other = FakeWorker(host={**campaign.device.host, "cpu_model": "Another CPU"})
    with pytest.raises(InputError, match=r"not as it was when its latencies .*Another CPU"):
        campaign.run(other)
    assert (other.asked, other.closed) == ([], 1)


def test_an_answer_that_is_no_footprint_enters_no_journal(campaign: Campaign) -> None:
    class Babbling(FakeWorker):
        def footprint(self, configuration: Configuration) -> Mapping[str, Any]:
            return {**super().footprint(configuration), "peak_rss_bytes": "plenty"}

    record = campaign.run(Babbling(), ExtraWork(footprint="references"))
    assert record.extras.footprints == {}
    assert "it sent something else" in next(iter(record.extras.failures.values()))


def test_what_is_measured_next_is_announced(campaign: Campaign) -> None:
    said: list[str] = []
    campaign.run(FakeWorker(), ExtraWork(load=WORK.load), announce=said.append)
    assert said[0] == "sustained latency of 12-768-3072-12-768 (1 of 4)"
    assert len(said) == 4


def test_extras_stand_in_the_profile_and_in_the_answer(tmp_path: Path, campaign: Campaign) -> None:
    record = campaign.run(FakeWorker({9: VisitFailedError("no room")}))
    lengths = LengthHistogram(
        counts={16: 90, 32: 10}, tokens=1100, cut=2, quantiles={50: 12, 90: 16, 99: 30}
    )
    save_profile(
        tmp_path,
        target="cpu-x86",
        host=campaign.device.host,
        protocol=campaign.protocol,
        arguments=[],
        campaign=record,
        rows=rows_of(record, campaign.protocol),
        lengths=lengths,
    )
    profile = DeviceProfile.load(tmp_path)
    assert profile.lengths == lengths
    document = profile.document
    assert [row["name"] for row in document["footprints"][::2]] == [
        *("BERT-base", "MiniLM-L6", str(SMALL))
    ]
    assert Footprint.from_json(document["footprints"][0]) == FOOTPRINT
    load = document["sustained"][0]
    assert (load["cold_ms"], load["sustained_ms"], load["verdict"]) == (10.0, 15.0, "throttles")
    assert document["sustained"][-1]["error"] == "no room"
    row = document["lengths"]["expected"][0]
    by_length = {
        row["sequence_length"]: row["latency_ms"]
        for row in profile.references[:12]
        if (row["batch_size"], row["threads"], row["graph_variant"]) == (1, 1, "plain")
    }
    assert row["name"] == "BERT-base"
    assert row["mean_latency_ms"] == pytest.approx(0.9 * by_length[16] + 0.1 * by_length[32])
    answer = with_extras(Answer({"a": 1}, "before"), document)
    assert set(answer.data) == {"a", "lengths", "footprints", "sustained"}
    for text in (
        "before\n",
        "2 were longer and are cut",
        "16: 90.0%",
        "90.00",
        "plain: throttles, 50% s",
    ):
        assert text in str(answer.text)
    assert with_extras(Answer({"a": 1}, "before"), {}) == Answer({"a": 1}, "before")


@pytest.mark.parametrize(
    ("footprint", "minutes", "message"),
    [
        ("some", None, "--footprint 'some': use references or all"),
        (None, 0.0, "--sustained 0.0: give minutes, at most 60"),
        (None, -1.0, "give minutes"),
        (None, 61.0, "at most 60"),
        (None, float("nan"), "give minutes"),
        (None, float("inf"), "give minutes"),
    ],
)
def test_work_that_makes_no_sense_is_refused(
    footprint: str | None, minutes: float | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ExtraWork.asked(footprint, minutes)


def test_only_what_was_asked_for_is_part_of_the_request() -> None:
    assert ExtraWork.asked(None, None).request() == {}
    assert ExtraWork.asked("all", 0.001).request() == {
        "footprint": "all",
        "load": {"seconds": 1, "rest_s": 0},
    }
    assert ExtraWork.asked(None, 60).request() == {"load": {"seconds": 3600, "rest_s": 60}}
