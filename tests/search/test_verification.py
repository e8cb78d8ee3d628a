from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import DamagedFileError, InputError
from device_profiles.journal import Journal, read_journal
from device_profiles.profile import DeviceProfile
from device_profiles.target import Configuration, Target, Workload
from profiler.campaign import VisitFailedError, WorkerLostError
from search.constraints import Budget
from search.exported_model import ExportedModel
from search.verification import Progress, run_verification
from search.verification_plan import CANDIDATE, VerificationPlan
from search.verification_record import FileRecord
from search.verification_result import Verification
from supernet.architecture import Architecture
from supernet.published import MINILM_L6, REFERENCE_SHAPES

ARCHITECTURE = Architecture(4, 312, 1200, 12, 312)
ROUNDS = 8  # the profile's `max_visits`
VISITS_A_ROUND = 1 + len(REFERENCE_SHAPES)


class Killed(BaseException):
    """What `kill -9` looks like from inside."""


@pytest.fixture
def plan_of(make_profile: Callable[..., Path], make_model: Callable[..., Path]) -> Any:
    """Makes a plan against a profile of the fake device."""
    profile = DeviceProfile.load(make_profile(configs=4))
    models: dict[str, ExportedModel] = {}

    def make(budget: Budget, name: str = "model", **changes: Any) -> VerificationPlan:
        if name not in models:
            models[name] = ExportedModel.read(make_model(name))
        values = {"workload": Workload(), "target": Target(), **changes}
        return VerificationPlan.make(models[name], profile, budget, **values)

    return make


@pytest.fixture
def true_ms(fake_device: Callable[..., Any]) -> float:
    """The quiet latency of the file on the fake device."""
    return float(fake_device().quiet_ms(Configuration(ARCHITECTURE)))


def verify(path: Path, plan: VerificationPlan, bench: Any, **options: Any) -> Verification:
    with Journal(path / "verification.jsonl") as journal:
        return run_verification(
            plan, journal, bench.open, clock_s=bench.clock_s, sleep_s=bench.sleep_s, **options
        )


def generous(true_ms: float, factor: float = 1.2, **values: Any) -> Budget:
    return Budget(max_latency_ms=true_ms * factor, **values)


@pytest.mark.parametrize("statistic", ["quiet", "p50"])
def test_a_file_within_its_budget_passes_after_the_fixed_number_of_visits(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float, statistic: str
) -> None:
    bench = make_bench()
    plan = plan_of(generous(true_ms, statistic=statistic))
    found = verify(tmp_path, plan, bench)
    assert found.outcome == "passed"
    assert found.passed
    assert found.measured_ms is not None
    assert found.upper_ms is not None
    assert true_ms <= found.measured_ms < found.upper_ms < true_ms * 1.03
    assert f"{statistic} is {found.measured_ms:.4g} ms, with 95% confidence" in found.reason
    assert bench.workers_opened == ROUNDS
    assert bench.hashes.count(plan.model.sha256) == ROUNDS
    assert bench.hashes.count(None) == ROUNDS * len(REFERENCE_SHAPES)
    assert found.speedup == pytest.approx(
        bench.quiet_ms(Configuration(REFERENCE_SHAPES[0].architecture)) / true_ms, rel=0.02
    )
    assert found.drift == pytest.approx(0, abs=0.02)


def test_every_round_visits_the_file_and_each_reference_once_in_changing_order(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    bench = make_bench()
    verify(tmp_path, plan_of(generous(true_ms)), bench)
    visited = [configuration.architecture for configuration in bench.visited]
    rounds = [
        tuple(visited[start : start + VISITS_A_ROUND])
        for start in range(0, len(visited), VISITS_A_ROUND)
    ]
    expected = {ARCHITECTURE, *(shape.architecture for shape in REFERENCE_SHAPES)}
    assert all(set(order) == expected for order in rounds)
    assert len(set(rounds)) > 1


def test_a_file_above_its_budget_fails(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    found = verify(tmp_path, plan_of(generous(true_ms, 0.9)), make_bench())
    assert found.outcome == "failed"
    assert "which is above the budget" in found.reason


def test_a_file_that_reads_within_its_budget_but_may_well_be_above_it_fails(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    for name in ("generous", "tight"):
        (tmp_path / name).mkdir()
    first = verify(tmp_path / "generous", plan_of(generous(true_ms)), make_bench())
    assert first.measured_ms is not None
    assert first.upper_ms is not None
    budget = Budget(max_latency_ms=(first.measured_ms + first.upper_ms) / 2)
    found = verify(tmp_path / "tight", plan_of(budget), make_bench())
    assert (found.measured_ms, found.upper_ms) == (first.measured_ms, first.upper_ms)
    assert found.outcome == "failed"


@pytest.mark.parametrize("factor", [0.9, 1.2])
def test_a_file_with_a_verdict_is_never_measured_again(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float, factor: float
) -> None:
    plan = plan_of(generous(true_ms, factor))
    first = verify(tmp_path, plan, make_bench())
    bench = make_bench(seed=8)
    assert verify(tmp_path, plan, bench) == first
    assert bench.visited == []


def test_one_journal_holds_the_verdicts_of_several_files(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    budget = generous(true_ms, 1.1)
    slow = verify(
        tmp_path,
        plan_of(budget, "first"),
        make_bench(slowdown=lambda _, __, is_file: 1.3 if is_file else 1.0),
    )
    bench = make_bench()
    quick = verify(tmp_path, plan_of(budget, "second"), bench)
    assert (slow.outcome, quick.outcome) == ("failed", "passed")
    assert verify(tmp_path, plan_of(budget, "first"), make_bench()) == slow


@pytest.mark.parametrize("after", [1, 2, 3, 4, 11, 23])
def test_a_verification_killed_at_any_visit_and_resumed_equals_an_unbroken_one(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float, after: int
) -> None:
    plan = plan_of(generous(true_ms))
    for name in ("unbroken", "resumed"):
        (tmp_path / name).mkdir()
    unbroken = verify(tmp_path / "unbroken", plan, make_bench(noise=0))

    def kill(visits: int) -> None:
        if visits == after:
            raise Killed

    with pytest.raises(Killed):
        verify(tmp_path / "resumed", plan, make_bench(noise=0, before=kill))
    bench = make_bench(noise=0)
    resumed = verify(tmp_path / "resumed", plan, bench)
    whole = after // VISITS_A_ROUND  # whole rounds are kept, a torn one is made again
    assert len(bench.visited) == (ROUNDS - whole) * VISITS_A_ROUND
    figures = ("outcome", "reason", "measured_ms", "upper_ms", "speedup_lower", "drift")
    assert [getattr(resumed, name) for name in figures] == [
        getattr(unbroken, name) for name in figures
    ]
    assert len(resumed.tries[-1].rounds) == ROUNDS


def test_rounds_in_which_the_references_are_slow_are_made_up_for(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    bench = make_bench(slowdown=lambda worker, *_: 1.3 if worker in (2, 5, 6) else 1.0)
    found = verify(tmp_path, plan_of(generous(true_ms, 1.1)), bench)
    assert found.outcome == "passed"
    document = found.to_json()
    assert (document["visits"], document["rounds_rejected"]) == (ROUNDS, 3)
    counted = [part["counted"] for part in document["tries"][0]["rounds"]]
    assert [index for index, kept in enumerate(counted, start=1) if not kept] == [2, 5, 6]


def test_a_slow_visit_of_the_file_alone_counts_all_the_same(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    def slowdown(worker: int, _: Configuration, is_file: bool) -> float:  # noqa: FBT001
        return 1.5 if is_file and worker <= 5 else 1.0

    bench = make_bench(slowdown=slowdown)
    found = verify(tmp_path, plan_of(generous(true_ms)), bench)
    assert found.outcome == "failed"
    assert bench.workers_opened == ROUNDS


def test_on_a_machine_that_is_slower_than_its_profile_it_waits_and_then_says_so(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    bench = make_bench(slowdown=lambda *_: 1.09)
    seen: list[Progress] = []
    found = verify(tmp_path, plan_of(generous(true_ms, 2.0)), bench, on_progress=seen.append)
    assert found.outcome == "undecided"
    assert "references are 8.9% slower than in the profile (BERT-base 8.9%" in found.reason
    assert "or profile it again" in found.reason
    assert bench.slept_s == [30, 60, 120, 90]
    assert [part.waiting_s for part in seen if part.waiting_s] == bench.slept_s
    assert found.to_json()["waits_s"] == bench.slept_s
    assert len(found.tries) == 5
    assert found.elapsed_s == pytest.approx(bench.now_s, abs=0.1)


def test_a_machine_that_is_faster_than_its_profile_is_not_the_one_profiled_either(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    bench = make_bench(slowdown=lambda *_: 0.9)
    found = verify(tmp_path, plan_of(generous(true_ms)), bench, max_wait_s=0)
    assert found.outcome == "undecided"
    assert "% faster than in the profile" in found.reason
    assert bench.slept_s == []


def test_a_machine_that_recovers_while_it_waits_gives_a_verdict(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    bench = make_bench(slowdown=lambda worker, *_: 1.2 if worker <= ROUNDS else 1.0)
    found = verify(tmp_path, plan_of(generous(true_ms, 1.1)), bench)
    assert found.outcome == "passed"
    assert [bool(attempt.void) for attempt in found.tries] == [True, False]
    assert bench.slept_s == [30]


def test_what_was_left_undecided_begins_anew_and_counts_its_waits_anew(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    plan = plan_of(generous(true_ms))
    first = verify(tmp_path, plan, make_bench(slowdown=lambda *_: 1.2), max_wait_s=40)
    assert (first.outcome, len(first.tries)) == ("undecided", 3)
    busy = make_bench(slowdown=lambda *_: 1.2)
    assert verify(tmp_path, plan, busy, max_wait_s=40).outcome == "undecided"
    assert busy.slept_s == [30, 10]
    last = verify(tmp_path, plan, make_bench())
    assert last.outcome == "passed"
    assert [attempt.number for attempt in last.tries] == [7]


def test_a_machine_that_never_settles_is_said_to_be_restless(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    bench = make_bench(slowdown=lambda worker, *_: 1.1**worker)
    found = verify(tmp_path, plan_of(generous(true_ms)), bench, max_wait_s=0)
    assert found.outcome == "undecided"
    assert "only 2 of 16 rounds were quiet, of 8 needed" in found.reason
    assert bench.workers_opened == 2 * ROUNDS
    assert found.measured_ms is None


@pytest.mark.parametrize(("speedup", "outcome"), [(10, "passed"), (20, "failed")])
def test_a_speed_up_is_judged_beside_its_reference_on_a_machine_that_is_slow_throughout(
    tmp_path: Path, plan_of: Any, make_bench: Any, speedup: float, outcome: str
) -> None:
    bench = make_bench(slowdown=lambda *_: 1.4)
    found = verify(tmp_path, plan_of(Budget(min_speedup=speedup)), bench)
    assert found.outcome == outcome
    assert "times as fast as BERT-base beside it" in found.reason
    assert found.speedup is not None
    assert found.speedup_lower is not None
    assert found.speedup_lower < found.speedup
    assert (found.speedup_lower >= speedup) == (outcome == "passed")


def test_a_speed_up_is_not_judged_where_the_references_have_moved_apart(
    tmp_path: Path, plan_of: Any, make_bench: Any
) -> None:
    def slowdown(_: int, configuration: Configuration, is_file: bool) -> float:  # noqa: FBT001
        del is_file
        return 1.3 if configuration.architecture == REFERENCE_SHAPES[0].architecture else 1.0

    plan = plan_of(Budget(min_speedup=10))
    found = verify(tmp_path, plan, make_bench(slowdown=slowdown), max_wait_s=0)
    assert found.outcome == "undecided"
    assert "references have moved apart by 29%" in found.reason


def test_a_speed_up_may_be_counted_against_any_shape_beside_it(
    tmp_path: Path, plan_of: Any, make_bench: Any
) -> None:
    teacher = Architecture(12, 312, 1200, 12, 312)
    plan = plan_of(Budget(min_speedup=2, speedup_reference=teacher))
    found = verify(tmp_path, plan, make_bench())
    assert found.outcome == "passed"
    assert "as fast as 12-312-1200-12-312 beside it" in found.reason
    assert [check.ratio is None for check in found.references] == [False, False, True]


def test_too_few_runs_for_a_percentile_leave_it_undecided_after_the_same_visits(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    bench = make_bench()
    found = verify(tmp_path, plan_of(generous(true_ms, statistic="p95")), bench)
    assert found.outcome == "undecided"
    assert found.reason.startswith("p95 needs 130 runs, and 8 visits of it made 40")
    assert bench.workers_opened == ROUNDS
    assert bench.slept_s == []
    assert {check.statistic for check in found.references} == {"p50"}
    assert found.known_ms["p50"] is not None


@pytest.mark.parametrize("error", [VisitFailedError("no room"), WorkerLostError("signal 9")])
def test_a_round_in_which_a_visit_fails_is_void_and_made_again(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float, error: Exception
) -> None:
    def fail(visits: int) -> None:
        if visits == 4:
            bench.hashes.append("failed")  # so that it fails once
            raise error

    bench = make_bench(before=fail)
    found = verify(tmp_path, plan_of(generous(true_ms)), bench)
    assert found.outcome == "passed"
    assert bench.workers_opened == ROUNDS + 1
    assert found.to_json()["rounds_failed"] == 1
    assert str(error) in found.tries[-1].failures[0]


def test_a_file_that_cannot_be_measured_is_undecided_and_says_why(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    def slowdown(_: int, __: Configuration, is_file: bool) -> float:  # noqa: FBT001
        if is_file:
            raise VisitFailedError("InvalidGraph: no such operator")
        return 1.0

    bench = make_bench(slowdown=slowdown)
    plan = plan_of(generous(true_ms))
    found = verify(tmp_path, plan, bench)
    assert found.outcome == "undecided"
    assert found.reason == "3 rounds failed, the last: candidate: InvalidGraph: no such operator"
    assert bench.slept_s == []
    assert verify(tmp_path, plan, make_bench()).outcome == "passed"


def test_another_machine_is_refused_by_field_and_nothing_is_measured(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    bench = make_bench()
    bench.host = {**bench.host, "governor": "powersave"}
    with pytest.raises(InputError, match="governor test / powersave"):
        verify(tmp_path, plan_of(generous(true_ms)), bench)
    assert bench.visited == []


def test_a_journal_of_another_budget_is_refused(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    verify(tmp_path, plan_of(generous(true_ms)), make_bench())
    bench = make_bench()
    with pytest.raises(InputError, match="another budget, workload, target or profile"):
        verify(tmp_path, plan_of(generous(true_ms, 1.3)), bench)
    assert bench.visited == []


def test_a_latency_needs_a_reference_of_the_profile_and_a_speed_up_brings_its_own(
    plan_of: Any,
) -> None:
    with pytest.raises(InputError, match="no reference row for 7 tokens, batch 1"):
        plan_of(Budget(max_latency_ms=1.0), workload=Workload(1, 7))
    plan = plan_of(
        Budget(min_speedup=2, speedup_reference=MINILM_L6.architecture), workload=Workload(1, 7)
    )
    assert [reference.name for reference in plan.references] == ["MiniLM-L6"]


def test_a_profile_made_under_an_emulator_is_refused(
    make_profile: Callable[..., Path], make_model: Callable[..., Path], fake_device: Any
) -> None:
    host = {**fake_device().host, "emulated": True}
    profile = DeviceProfile.load(make_profile(configs=2, host=host))
    model = ExportedModel.read(make_model())
    with pytest.raises(InputError, match="under an emulator"):
        VerificationPlan.make(
            model, profile, Budget(max_latency_ms=1), workload=Workload(), target=Target()
        )


def test_the_result_is_json_with_every_visit(
    tmp_path: Path, plan_of: Any, make_bench: Any, true_ms: float
) -> None:
    plan = plan_of(generous(true_ms))
    document = json.loads(json.dumps(verify(tmp_path, plan, make_bench()).to_json()))
    assert document["model_sha256"] == plan.model.sha256
    assert document["architecture"] == str(ARCHITECTURE)
    assert (document["sequence_length"], document["graph_variant"]) == (128, "plain")
    assert document["quiet_ms"] < document["p50_ms"]
    assert document["p95_ms"] is None
    (attempt,) = document["tries"]
    visits = [part["visits"] for part in attempt["rounds"]]
    assert {name for part in visits for name in part} == set(plan.configurations)
    assert all(part[CANDIDATE]["minimum_ms"] <= part[CANDIDATE]["median_ms"] for part in visits)
    by_name = {row["name"]: row for row in document["references"]}
    assert by_name["BERT-base"]["ratio"] == pytest.approx(1, abs=0.02)
    assert len(read_journal(tmp_path / "verification.jsonl")) == 1 + ROUNDS * VISITS_A_ROUND + 1


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "surprise", "model_sha256": "a", "elapsed_s": 1, "try": 1},
        {"kind": "verdict", "model_sha256": "a", "elapsed_s": 1, "outcome": "perhaps"},
        {"kind": "verdict", "model_sha256": "a", "elapsed_s": 1, "outcome": "passed"},
        {"kind": "visit", "model_sha256": "a", "elapsed_s": 1, "try": 1, "of": "b", "runs_ns": [1]},
    ],
)
def test_a_journal_of_something_else_is_refused_with_the_line(record: dict[str, Any]) -> None:
    with pytest.raises(DamagedFileError, match="journal line 1 is no record of a verification"):
        FileRecord.from_journal([record], "a", (CANDIDATE,))
