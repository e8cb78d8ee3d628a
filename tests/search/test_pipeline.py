"""The whole path on a bench in place of a device: every other stage is the real one."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotinybert.command import Answer
from autotinybert.errors import DamagedFileError, InputError, OccupiedFolderError, WorkError
from device_profiles.profile import DeviceProfile
from search.candidates import ordered_candidates
from search.constraints import Budget
from search.evaluation import Evaluation
from search.outcome import outcome_of, outcome_text
from search.path_checks import CheckedRequest
from search.path_request import PathRequest
from search.pipeline import WholePath
from search.pipeline_cli import run_path
from search.report import path_report
from search.result import Candidate, load_search
from search.stages import Stages, command_line
from search.verification_result import VERIFICATION_FILE
from supernet.architecture import Architecture
from supernet.model_folder import load_model_folder
from supernet.score import HeldOutScore

TEACHER = Architecture(3, 192, 320, 12, 192)


@pytest.fixture
def request_of(teacher_folder: Path, text_file: Path) -> Callable[..., PathRequest]:
    def make(max_latency_ms: float = 2.0, **changes: Any) -> PathRequest:
        options: dict[str, Any] = {
            "teacher": str(teacher_folder),
            "largest": TEACHER,
            "target": "cpu-x86",
            "budget": Budget(max_latency_ms=max_latency_ms),
            "corpus": str(text_file),
            "task": None,
            "train": None,
            "dev": None,
            "max_score_drop": None,
            "space": "kd",
            "profile": None,
            "configs": 30,
            "sequence_length": 128,
            "batch_size": 1,
            "threads": 1,
            "precision": "fp32",
            "graph_variant": "plain",
            "training_sequence_length": 16,
            "max_megabytes": None,
            "supernet_minutes": 0.01,
            "train_minutes": 0.005,
            "method": "evolved",
            "evaluations": 12,
            "shortlist": 4,
            "tries": 3,
            "max_wait": 0.0,
            "seed": 0,
        }
        return PathRequest(**{**options, **changes})

    return make


def path_in(out: Path, request: PathRequest, bench: Any, **options: Any) -> WholePath:
    out.mkdir(exist_ok=True)
    clock = itertools.count(0.0, 1.0)
    path = WholePath(out, request, clock_s=lambda: next(clock), commands=bench.commands, **options)
    path.read_corpus(Path(request.teacher))
    return path


def test_the_path_ends_with_a_verified_model_and_a_report(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda _: 1.0)
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


def test_the_path_in_int8_hands_out_an_int8_file_that_was_scored_as_itself(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    out = tmp_path / "out"
    request = request_of(precision="int8")
    path = path_in(out, request, bench_of(lambda _: 1.0))
    tries = path.run()
    assert [found.outcome for found in tries] == ["passed"]
    assert {row[3] for row in DeviceProfile.load(path.profile).measurements.slices} == {"int8"}
    assert load_search(out / "search").facts["slice"]["precision"] == "int8"
    model = load_model_folder(out / "model")
    assert model.precision == tries[0].verification["precision"] == "int8"

    outcome = outcome_of(path, tries)
    losses = outcome["file_score"]["splits"]["test"]
    assert outcome["file_score"]["model_sha256"] == model.onnx_sha256
    assert losses["float32"]["loss"] == pytest.approx(outcome["held_out_loss"]["test"], rel=1e-5)
    assert losses["file"]["loss"] == pytest.approx(losses["float32"]["loss"], rel=0.1)
    said = f"{losses['file']['loss']:.3f} on the test split (in float32 "
    assert "held-out distillation loss of the int8 file: " in outcome_text(outcome)
    assert said in outcome_text(outcome)
    page = path_report(path, tries, outcome)
    assert said in page
    assert "held-out loss of the int8 file; 0 is the teacher" in page
    assert "--precision int8" in page, "what is shown can be typed again"
    card = (out / "model" / "README.md").read_text()
    assert f"{losses['file']['loss']:.3f} for `model.onnx`" in card


def test_what_is_finished_is_not_done_again(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda _: 1.0)
    out = tmp_path / "out"
    path_in(out, request_of(), bench).run()
    before = {found: found.stat().st_mtime_ns for found in out.rglob("*.safetensors")}
    again = path_in(out, request_of(), bench_of(lambda _: 9.0)).run()
    assert again[-1].outcome == "passed", "the recorded verdict counts, not a second try"
    after = {found: found.stat().st_mtime_ns for found in out.rglob("*.safetensors")}
    kept = {found for found in before if "model/" not in str(found.relative_to(out))}
    assert {found: after[found] for found in kept} == {found: before[found] for found in kept}


def test_a_candidate_that_fails_is_followed_by_the_next_best(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda verified: 1.5 if verified == 0 else 1.0)
    out = tmp_path / "out"
    tries = path_in(out, request_of(max_latency_ms=1.5), bench).run()
    assert [found.outcome for found in tries] == ["failed", "passed"]
    assert tries[0].stage == "slice", "what is too slow is not trained"
    assert tries[0].candidate.loss <= tries[1].candidate.loss
    assert load_model_folder(out / "model").architecture == tries[1].candidate.architecture
    recorded = json.loads((out / VERIFICATION_FILE).read_text())
    assert [row["verification"]["outcome"] for row in recorded["tries"]] == ["failed", "passed"]


def test_no_model_is_handed_out_when_every_candidate_is_over_its_budget(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda _: 20.0)
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
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda _: 1.0)
    path = path_in(tmp_path / "out", request_of(max_latency_ms=0.1), bench)
    with pytest.raises(InputError, match=r"nothing in space kd meets 0.1 ms: the lowest p50"):
        path.run()
    assert bench.called == ["profile-device", "fit-predictor"]


def test_another_request_is_refused_unless_it_may_overwrite(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda _: 1.0)
    out = tmp_path / "out"
    path_in(out, request_of(), bench).run()
    profiled = (out / "profile" / "profile.json").stat().st_mtime_ns
    other = request_of(evaluations=10)
    with pytest.raises(OccupiedFolderError, match="search"):
        path_in(out, other, bench_of(lambda _: 1.0)).run()
    tries = path_in(out, other, bench_of(lambda _: 1.0), overwrite=True).run()
    assert tries[-1].outcome == "passed"
    assert (out / "profile" / "profile.json").stat().st_mtime_ns == profiled, "it stayed the same"


def test_a_stage_that_fails_ends_the_path_and_its_cost_is_kept(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda _: 1.0)
    asked: list[bool] = []

    def nothing_ok(*, overwrite: bool = False, **_: Any) -> Answer:
        asked.append(overwrite)
        data = {"rows": {"ok": 0, "noisy": 0, "rejected": 30}, "finished_before": not overwrite}
        return Answer(data, "wrote it", 1)

    commands = {**bench.commands, "profile-device": nothing_ok}
    out = tmp_path / "out"
    out.mkdir()
    clock = itertools.count(0.0, 1.0)
    path = WholePath(out, request_of(), clock_s=lambda: next(clock), commands=commands)
    with pytest.raises(WorkError, match=r"no row of .*profile is ok .*stop other work"):
        path.run()
    assert asked == [False, True], "what is of no use is not kept as the profile"
    assert Stages.load(out / "stages.json", lambda: 0.0).seconds["profile"] == 1.0


def test_a_speedup_is_told_by_what_was_measured_beside_the_file(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda _: 1.0)
    bench.machine = 1.6  # the machine is slower than when it was profiled, all of it alike
    budget = Budget(min_speedup=100.0)
    path = path_in(tmp_path / "out", request_of(budget=budget), bench)
    tries = path.run()
    outcome = outcome_of(path, tries)
    assert outcome["outcome"] == "passed"
    assert outcome["faster_than"]["BERT-base"] == pytest.approx(outcome["speedup"])
    assert outcome["speedup_lower"] >= 100.0
    page = path_report(path, tries, outcome)
    assert "faster than it had to be" in page
    assert "100x" in page


def test_an_impossible_budget_under_the_fast_rule_ends_before_training(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda _: 1.0)
    path = path_in(tmp_path / "out", request_of(max_latency_ms=0.8, method="fast"), bench)
    with pytest.raises(InputError, match="under the fast rule meets"):
        path.run()
    assert "train-supernet" not in bench.called


def test_a_verdict_that_was_edited_is_not_believed(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    out = tmp_path / "out"
    path_in(out, request_of(), bench_of(lambda _: 1.0)).run()
    (verdict,) = out.glob("candidates/*/trained-verified/verification.json")
    verdict.write_text(verdict.read_text().replace('"measured_ms": ', '"measured_ms": 0'))
    with pytest.raises(DamagedFileError, match=r"torn, truncated or edited|not valid JSON"):
        path_in(out, request_of(), bench_of(lambda _: 1.0)).run()


def test_a_verdict_without_its_journal_is_measured_again(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    out = tmp_path / "out"
    path_in(out, request_of(), bench_of(lambda _: 1.0)).run()
    for journal in out.glob("candidates/*/*-verified/verification.jsonl"):
        journal.write_bytes(b"")
    tries = path_in(out, request_of(), bench_of(lambda _: 9.0)).run()
    assert tries[-1].outcome == "failed"
    assert not (out / "model").exists()


def test_a_shortlist_that_could_not_be_measured_leaves_the_predictions(
    tmp_path: Path, bench_of: Callable[..., Any], request_of: Callable[..., PathRequest]
) -> None:
    bench = bench_of(lambda _: 1.0)

    def profile_device(*, out: Path, **options: Any) -> Answer:
        broken = "architectures" in options
        bench.broken = broken
        answer = bench.profile_device(out=out, **options)
        return Answer(answer.data, answer.text, 1 if broken else 0)

    commands = {**bench.commands, "profile-device": profile_device}
    out = tmp_path / "out"
    out.mkdir()
    path = WholePath(out, request_of(), clock_s=itertools.count(0.0).__next__, commands=commands)
    path.read_corpus(Path(request_of().teacher))
    tries = path.run()
    assert tries[-1].outcome == "passed"
    assert path.shortlist_ms() == {}
    outcome = outcome_of(path, tries)
    assert "None was measured" in path_report(path, tries, outcome)


def candidate(name: str, loss: float, latency_ms: float = 5.0) -> Candidate:
    score = HeldOutScore({"hidden": loss})
    return Candidate(Evaluation(Architecture.parse(name), score, 0.1), latency_ms, latency_ms + 1)


def test_candidates_measured_or_predicted_above_the_budget_are_left_out() -> None:
    names = ["1-8-8-1-8", "2-8-8-1-8", "3-8-8-1-8", "4-8-8-1-8"]
    losses = (0.5, 0.4, 0.6, 0.1)
    candidates = [candidate(name, loss) for name, loss in zip(names, losses, strict=True)]
    candidates[3] = candidate(names[3], 0.1, latency_ms=5.5)  # its bound is above the budget
    measured = {Architecture.parse(names[1]): 6.1, Architecture.parse(names[2]): 5.9}
    ordered = ordered_candidates([*candidates, candidates[0]], measured, 6.0)
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


def test_a_finished_path_is_told_again_and_handed_out_again_if_its_model_is_gone(
    tmp_path: Path, bench_of: Callable[..., Any], checked_of: Callable[..., CheckedRequest]
) -> None:
    out, checked = tmp_path / "out", checked_of()
    bench = bench_of(lambda _: 1.0)
    first = run_path(out, checked, commands=bench.commands)
    assert (first.exit_code, first.data["finished_before"]) == (0, False)
    again = bench_of(lambda _: 9.0)
    second = run_path(out, checked, commands=again.commands)
    assert (second.exit_code, second.data["finished_before"], again.called) == (0, True, [])
    shutil.rmtree(out / "model")
    third = run_path(out, checked, commands=again.commands)
    assert (third.exit_code, third.data["finished_before"]) == (0, False)
    assert load_model_folder(out / "model").onnx_sha256 == first.data["onnx_sha256"]


def test_no_model_of_another_request_outlives_it(
    tmp_path: Path, bench_of: Callable[..., Any], checked_of: Callable[..., CheckedRequest]
) -> None:
    out = tmp_path / "out"
    bench = bench_of(lambda _: 1.0)
    run_path(out, checked_of(), commands=bench.commands)
    (out / "model" / "notes.txt").write_text("mine")
    with pytest.raises(OccupiedFolderError, match=r"holds what is no model's \(notes.txt\)"):
        run_path(out, checked_of(max_latency_ms=0.1), overwrite=True, commands=bench.commands)
    (out / "model" / "notes.txt").unlink()
    with pytest.raises(InputError, match=r"meets 0.1 ms"):
        run_path(out, checked_of(max_latency_ms=0.1), overwrite=True, commands=bench.commands)
    assert not (out / "model").exists()
    assert not (out / VERIFICATION_FILE).exists()
    assert not (out / "outcome.json").exists()


def test_a_path_without_a_model_is_finished_too_and_an_undecided_one_goes_on(
    tmp_path: Path, bench_of: Callable[..., Any], checked_of: Callable[..., CheckedRequest]
) -> None:
    slow = bench_of(lambda _: 9.0)
    failed = run_path(tmp_path / "failed", checked_of(), commands=slow.commands)
    assert (failed.exit_code, failed.data["outcome"]) == (1, "failed")
    again = run_path(tmp_path / "failed", checked_of(), commands=slow.commands)
    assert (again.exit_code, again.data["finished_before"]) == (1, True)

    busy = bench_of(lambda _: 1.0)
    busy.machine = 1.6
    out = tmp_path / "undecided"
    undecided = run_path(out, checked_of(), commands=busy.commands)
    assert (undecided.exit_code, undecided.data["outcome"]) == (1, "undecided")
    assert "run the same command again to go on" in str(undecided.text)
    busy.machine = 1.0
    assert run_path(out, checked_of(), commands=busy.commands).exit_code == 0


def test_a_changed_text_is_another_request(
    tmp_path: Path,
    bench_of: Callable[..., Any],
    checked_of: Callable[..., CheckedRequest],
    text_file: Path,
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(text_file.read_text())
    bench = bench_of(lambda _: 1.0)
    run_path(tmp_path / "out", checked_of(corpus=str(text)), commands=bench.commands)
    text.write_text(text.read_text() + "\n\na b c d e f g h i j k l\n")
    with pytest.raises(OccupiedFolderError, match="corpus"):
        run_path(tmp_path / "out", checked_of(corpus=str(text)), commands=bench.commands)
