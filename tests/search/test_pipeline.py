"""The whole path on a bench in place of a device: every other stage is the real one."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from autotinybert.command import Answer
from autotinybert.errors import InputError, OccupiedFolderError, WorkError
from autotinybert.files import OutputFolder
from device_profiles.journal import Journal
from device_profiles.measurements import architecture_columns
from device_profiles.profile import JOURNAL_FILE, PROFILE_FILES, DeviceProfile, save_profile
from device_profiles.protocol import Protocol
from device_profiles.table import read_table
from device_profiles.target import Target, Workload
from device_profiles.visits import rows_of
from profiler.campaign import run_campaign
from profiler.cli import profile_answer
from profiler.host import host_facts
from profiler.plan import make_plan, sample_architectures
from search.cli import verify_into
from search.constraints import Budget
from search.evaluation import Evaluation
from search.exported_model import ExportedModel
from search.outcome import outcome_of, outcome_text
from search.pipeline import (
    COMMANDS,
    PathRequest,
    Stages,
    WholePath,
    command_line,
    ordered_candidates,
)
from search.report import path_report
from search.result import Candidate, SearchResult
from search.verification_plan import VerificationPlan
from search.verification_result import VERIFICATION_FILE
from supernet.architecture import Architecture, from_matrix
from supernet.model_folder import load_model_folder
from supernet.score import HeldOutScore
from supernet.space_file import load_space

TEACHER = Architecture(3, 192, 320, 12, 192)


class Bench:
    """Commands whose measuring is done by a fake device; the others are the real ones.

    Attributes:
        called: the names of the commands, in order.
        slowdown: of exported files, by how many were verified before.
    """

    def __init__(self, make_device: Callable[..., Any], slowdown: Callable[[int], float]) -> None:
        self.called: list[str] = []
        self._make_device = make_device
        self._slowdown = slowdown
        self._verified = 0
        self._host = host_facts()

    @property
    def commands(self) -> Mapping[str, Callable[..., Answer]]:
        def counted(name: str, function: Callable[..., Answer]) -> Callable[..., Answer]:
            def run(*arguments: Any, **options: Any) -> Answer:
                self.called.append(name)
                return function(*arguments, **options)

            return run

        measuring = {"profile-device": self.profile_device, "verify-model": self.verify_model}
        return {name: counted(name, value) for name, value in {**COMMANDS, **measuring}.items()}

    def profile_device(self, *, out: Path, overwrite: bool = False, **options: Any) -> Answer:
        request = {name: str(value) for name, value in options.items()}
        folder = OutputFolder.claim(
            out, "profile-device", request, files=PROFILE_FILES, overwrite=overwrite
        )
        if folder.state == "finished":
            return profile_answer(DeviceProfile.load(out), finished_before=True)
        if "architectures" in options:
            shapes = from_matrix(architecture_columns(read_table(options["architectures"])))
            references = []
        else:
            largest = Architecture.parse(options["within"])
            space = load_space(options["space"]).clipped(largest)
            shapes = sample_architectures(space, options["configs"], options["seed"])
            references = [Architecture.parse(name) for name in options["reference"]]
        plan = make_plan(
            shapes,
            workloads=[Workload()],
            targets=[Target()],
            rivals=False,
            seed=options["seed"],
            references=references,
        )
        device = self._make_device(seed=options["seed"])
        device.host = self._host
        protocol = Protocol()
        folder.create()
        with Journal(out / JOURNAL_FILE, fresh=folder.state == "new") as journal:
            folder.begin([])
            campaign = run_campaign(
                plan, protocol, journal, device.open, host=self._host, clock_s=device.clock_s
            )
            save_profile(
                out,
                target="cpu-x86",
                host=self._host,
                protocol=protocol,
                arguments=[],
                campaign=campaign,
                rows=rows_of(campaign, protocol),
                references=references,
            )
            folder.finish()
        return profile_answer(DeviceProfile.load(out))

    def verify_model(
        self, *, model: Path, profile: Path, max_latency: str, out: Path, **_: Any
    ) -> Answer:
        exported = ExportedModel.read(model)
        plan = VerificationPlan.make(
            exported,
            DeviceProfile.load(profile),
            Budget(max_latency_ms=float(max_latency.removesuffix("ms"))),
            workload=Workload(),
            target=Target(),
        )
        factor = self._slowdown(self._verified)
        self._verified += 1
        device = self._make_device(seed=3, slowdown=lambda *where: factor if where[-1] else 1.0)
        device.host = self._host
        return verify_into(
            out,
            plan,
            device.open,
            clock_s=device.clock_s,
            sleep_s=device.sleep_s,
            max_wait_s=0.0,
        )


@pytest.fixture
def request_of(teacher_folder: Path, text_file: Path) -> Callable[..., PathRequest]:
    def make(max_latency_ms: float = 2.0, **changes: Any) -> PathRequest:
        options: dict[str, Any] = {
            "teacher": str(teacher_folder),
            "largest": TEACHER,
            "target": "cpu-x86",
            "budget": Budget(max_latency_ms=max_latency_ms),
            "corpus": str(text_file),
            "space": "kd",
            "profile": None,
            "configs": 30,
            "sequence_length": 128,
            "batch_size": 1,
            "threads": 1,
            "graph_variant": "plain",
            "training_sequence_length": 16,
            "max_megabytes": None,
            "supernet_minutes": 0.01,
            "train_minutes": 0.005,
            "method": "evolved",
            "evaluations": 12,
            "shortlist": 4,
            "tries": 3,
            "seed": 0,
        }
        return PathRequest(**{**options, **changes})

    return make


def path_in(out: Path, request: PathRequest, bench: Bench, **options: Any) -> WholePath:
    out.mkdir(exist_ok=True)
    clock = itertools.count(0.0, 1.0)
    path = WholePath(out, request, clock_s=lambda: next(clock), commands=bench.commands, **options)
    path.read_corpus(Path(request.teacher))
    return path


def test_the_path_ends_with_a_verified_model_and_a_report(
    tmp_path: Path, make_bench: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = Bench(make_bench, slowdown=lambda _: 1.0)
    out = tmp_path / "out"
    path = path_in(out, request_of(), bench)
    tries = path.run()
    assert [found.outcome for found in tries] == ["passed"]
    assert tries[0].stage == "model", "the trained file was verified, not only the slice"
    assert bench.called == [
        "profile-device",
        "fit-predictor",
        "train-supernet",
        "search-architecture",
        "profile-device",
        "extract-model",
        "export-model",
        "verify-model",
        "train-model",
        "export-model",
        "verify-model",
    ]
    model = load_model_folder(out / "model")
    verification = json.loads((out / "model" / VERIFICATION_FILE).read_text())
    assert verification["model_sha256"] == model.onnx_sha256
    assert verification["upper_ms"] <= 2.0
    assert "within the budget of 2 ms" in (out / "model" / "README.md").read_text()

    outcome = outcome_of(path, tries)
    assert outcome["outcome"] == "passed"
    assert outcome["architecture"] == str(model.architecture)
    text = outcome_text(outcome)
    assert f"wrote {out / 'model'}" in text
    assert "training the SuperPLM" in text
    page = path_report(path, tries, outcome)
    assert page.count("<svg") == 6
    assert "What was searched" in page
    assert "train-supernet --teacher" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page), "no request leaves the file"


def test_what_is_finished_is_not_done_again(
    tmp_path: Path, make_bench: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = Bench(make_bench, slowdown=lambda _: 1.0)
    out = tmp_path / "out"
    path_in(out, request_of(), bench).run()
    before = {found: found.stat().st_mtime_ns for found in out.rglob("*.safetensors")}
    again = path_in(out, request_of(), Bench(make_bench, slowdown=lambda _: 9.0)).run()
    assert again[-1].outcome == "passed", "the recorded verdict counts, not a second try"
    after = {found: found.stat().st_mtime_ns for found in out.rglob("*.safetensors")}
    kept = {found for found in before if "model/" not in str(found.relative_to(out))}
    assert {found: after[found] for found in kept} == {found: before[found] for found in kept}


def test_a_candidate_that_fails_is_followed_by_the_next_best(
    tmp_path: Path, make_bench: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = Bench(make_bench, slowdown=lambda verified: 1.5 if verified == 0 else 1.0)
    out = tmp_path / "out"
    tries = path_in(out, request_of(max_latency_ms=1.5), bench).run()
    assert [found.outcome for found in tries] == ["failed", "passed"]
    assert tries[0].stage == "slice", "what is too slow is not trained"
    assert tries[0].candidate.loss <= tries[1].candidate.loss
    assert load_model_folder(out / "model").architecture == tries[1].candidate.architecture
    recorded = json.loads((out / VERIFICATION_FILE).read_text())
    assert [row["verification"]["outcome"] for row in recorded["tries"]] == ["failed", "passed"]


def test_no_model_is_handed_out_when_every_candidate_is_over_its_budget(
    tmp_path: Path, make_bench: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = Bench(make_bench, slowdown=lambda _: 2.0)
    out = tmp_path / "out"
    path = path_in(out, request_of(max_latency_ms=1.5), bench)
    (out / "model").mkdir()  # an earlier request's
    tries = path.run()
    assert [found.outcome for found in tries] == ["failed"] * len(tries)
    assert len(tries) > 1
    assert not (out / "model").exists()
    outcome = outcome_of(path, tries)
    assert outcome["model"] is None
    assert "no model met the budget" in outcome_text(outcome)
    assert "No model met the budget" in path_report(path, tries, outcome)


def test_a_budget_below_what_is_reachable_ends_before_anything_is_trained(
    tmp_path: Path, make_bench: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = Bench(make_bench, slowdown=lambda _: 1.0)
    path = path_in(tmp_path / "out", request_of(max_latency_ms=0.1), bench)
    with pytest.raises(InputError, match=r"nothing in space kd meets 0.1 ms: the lowest p50"):
        path.run()
    assert bench.called == ["profile-device", "fit-predictor"]


def test_another_request_is_refused_unless_it_may_overwrite(
    tmp_path: Path, make_bench: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = Bench(make_bench, slowdown=lambda _: 1.0)
    out = tmp_path / "out"
    path_in(out, request_of(), bench).run()
    profiled = (out / "profile" / "profile.json").stat().st_mtime_ns
    other = request_of(evaluations=10)
    with pytest.raises(OccupiedFolderError, match="search"):
        path_in(out, other, Bench(make_bench, slowdown=lambda _: 1.0)).run()
    tries = path_in(out, other, Bench(make_bench, slowdown=lambda _: 1.0), overwrite=True).run()
    assert tries[-1].outcome == "passed"
    assert (out / "profile" / "profile.json").stat().st_mtime_ns == profiled, "it stayed the same"


def test_a_stage_that_fails_ends_the_path_and_its_cost_is_kept(
    tmp_path: Path, make_bench: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = Bench(make_bench, slowdown=lambda _: 1.0)
    commands = {**bench.commands, "profile-device": lambda **_: Answer({}, "no row is ok", 1)}
    out = tmp_path / "out"
    out.mkdir()
    clock = itertools.count(0.0, 1.0)
    path = WholePath(out, request_of(), clock_s=lambda: next(clock), commands=commands)
    with pytest.raises(WorkError, match="profiling failed: no row is ok"):
        path.run()
    assert Stages.load(out / "stages.json", lambda: 0.0).seconds["profile"] == 1.0


def candidate(name: str, loss: float, latency_ms: float = 5.0) -> Candidate:
    score = HeldOutScore(loss, 0.0)
    return Candidate(Evaluation(Architecture.parse(name), score, 0.1), latency_ms, latency_ms + 1)


def test_candidates_measured_above_the_budget_are_left_out() -> None:
    names = ["1-8-8-1-8", "2-8-8-1-8", "3-8-8-1-8"]
    result = SearchResult(
        [candidate(names[0], 0.5), candidate(names[1], 0.4), candidate(names[2], 0.6)],
        limit_ms=6.0,
        statistic="p50",
        facts={},
    )
    measured = {Architecture.parse(names[1]): 6.1, Architecture.parse(names[2]): 5.9}
    ordered = ordered_candidates(result, measured)
    assert [str(found.architecture) for found in ordered] == [names[0], names[2]]


def test_a_command_is_shown_as_it_would_be_typed() -> None:
    line = command_line(
        "fit-predictor",
        [Path("a b")],
        report=True,
        overwrite=False,
        seed=0,
        csv=None,
        threads=[1, 2],
    )
    assert line == "fit-predictor 'a b' --report --seed 0 --threads 1 --threads 2"
