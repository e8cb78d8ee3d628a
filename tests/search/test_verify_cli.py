"""`verify-model`: with a bench in place of a device, and once with real children."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from autotinybert.command import Answer, run_command
from autotinybert.errors import InputError
from autotinybert.files import read_signed_json
from device_profiles.journal import Journal, read_journal
from device_profiles.profile import JOURNAL_FILE as CAMPAIGN_FILE
from device_profiles.profile import DeviceProfile, save_profile
from device_profiles.protocol import Protocol
from device_profiles.provider_options import CUDA_PROVIDER
from device_profiles.rows import rows_of
from device_profiles.target import Configuration, Target, Workload
from profiler.campaign import run_campaign
from profiler.host import host_facts
from profiler.plan import Plan
from search.cli import prepare_score, scored, verify_into, verify_model
from search.constraints import Budget
from search.exported_model import ExportedModel
from search.file_score import SCORE_FILE, load_score
from search.verification import JOURNAL_FILE, local_worker
from search.verification_plan import VerificationPlan, choose_slice
from search.verification_result import VERIFICATION_FILE
from supernet.architecture import Architecture
from supernet.cli import export_model, extract_model
from supernet.heads import Head, head_shapes
from supernet.onnx_graph import build_encoder
from supernet.published import MINILM_L6
from supernet.weights import weight_shapes

Cli = Callable[..., tuple[int, str, str]]

SMALL = Architecture(1, 24, 40, 3, 27)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*argv: object) -> tuple[int, str, str]:
        code = run_command(verify_model, "verify-model", [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def plan_of(make_profile: Callable[..., Path], make_model: Callable[..., Path]) -> Any:
    profile = DeviceProfile.load(make_profile(configs=4))
    model = ExportedModel.read(make_model())

    def make(max_latency_ms: float) -> VerificationPlan:
        budget = Budget(max_latency_ms=max_latency_ms)
        return VerificationPlan.make(model, profile, budget, workload=Workload(), target=Target())

    return make


def into(out: Path, plan: VerificationPlan, bench: Any, **options: Any) -> Answer:
    return verify_into(
        out,
        plan,
        bench.open,
        clock_s=bench.clock_s,
        sleep_s=bench.sleep_s,
        **{"max_wait_s": 0.0, **options},
    )


def document_of(out: Path) -> dict[str, Any]:
    return read_signed_json(
        out / VERIFICATION_FILE, kind="verification", schema_version=1, remedy="verify anew"
    )


@pytest.mark.parametrize(
    ("limit_ms", "outcome", "code"), [(20.0, "passed", 0), (10.0, "failed", 1)]
)
def test_a_verdict_is_written_printed_and_never_made_again(
    tmp_path: Path, plan_of: Any, make_bench: Any, limit_ms: float, outcome: str, code: int
) -> None:
    out = tmp_path / "out"
    answer = into(out, plan_of(limit_ms), make_bench())
    assert answer.exit_code == code
    assert f"{outcome}: p50 is " in str(answer.text)
    assert "BERT-base, p50" in str(answer.text)
    assert f"8 visits in 7 s; wrote {out}" in str(answer.text)
    document = document_of(out)
    assert document["outcome"] == answer.data["outcome"] == outcome
    assert len(document["tries"][0]["rounds"]) == 8
    before = (out / VERIFICATION_FILE).read_bytes()
    for options in ({}, {"overwrite": True}):
        bench = make_bench()
        again = into(out, plan_of(limit_ms), bench, **options)
        assert (again.exit_code, again.data["finished_before"]) == (code, True)
        assert "had its verdict before; nothing was measured" in str(again.text)
        assert bench.visited == []
        assert (out / VERIFICATION_FILE).read_bytes() == before


def test_what_is_undecided_is_written_and_goes_on_with_the_same_command(
    tmp_path: Path, plan_of: Any, make_bench: Any
) -> None:
    out = tmp_path / "out"
    answer = into(out, plan_of(20.0), make_bench(slowdown=lambda *_: 1.2))
    assert answer.exit_code == 1
    assert "undecided: references are 20" in str(answer.text)
    assert document_of(out)["outcome"] == "undecided"
    answer = into(out, plan_of(20.0), make_bench())
    assert (answer.exit_code, answer.data["finished_before"]) == (0, False)
    assert document_of(out)["outcome"] == "passed"


def test_another_request_is_refused_or_replaces_the_verdict_when_told_to(
    tmp_path: Path, plan_of: Any, make_bench: Any
) -> None:
    out = tmp_path / "out"
    into(out, plan_of(10.0), make_bench())
    with pytest.raises(InputError, match=r"different request \(another budget\)"):
        into(out, plan_of(20.0), make_bench())
    assert into(out, plan_of(20.0), make_bench(), overwrite=True).exit_code == 0
    assert document_of(out)["outcome"] == "passed"


def test_another_machine_is_refused_and_nothing_is_written(
    tmp_path: Path, cli: Cli, make_profile: Callable[..., Path], make_model: Callable[..., Path]
) -> None:
    out = tmp_path / "out"
    code, stdout, error = cli(
        *("--model", make_model(), "--profile", make_profile(configs=2)),
        *("--max-latency", "12ms", "--out", out),
    )
    assert (code, stdout) == (2, "")
    assert "not the machine and build that were profiled" in error
    assert "cpu_model Test CPU / " in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "either --max-latency 12ms or --speedup 7"),
        (("--max-latency", "12ms", "--speedup", "7"), "either --max-latency 12ms or --speedup 7"),
        (("--max-latency", "12"), "--max-latency 12 has no unit: write 12ms (or us, s)"),
        (("--speedup", "-1"), "a speed-up of -1 is no budget"),
        (("--speedup", "7", "--speedup-reference", "BERT"), "'BERT' is no architecture"),
        (("--max-latency", "1s", "--budget-statistic", "p99"), "no budget statistic 'p99'"),
        (("--max-latency", "1s", "--sequence-length", 64), "sequence length 64 was not profiled"),
        (("--max-latency", "1s", "--threads", 2), "has 128 tokens, batch 1, 1 thread"),
        (("--max-latency", "1s", "--max-wait", "-1"), "see verify-model --help"),
        (("--max-latency", "1s", "--profile", "absent"), "no device profile in absent"),
        (("--max-latency", "1s", "--model", "absent"), "no model in absent"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    cli: Cli,
    make_profile: Callable[..., Path],
    make_model: Callable[..., Path],
    options: tuple[object, ...],
    message: str,
) -> None:
    out = tmp_path / "out"
    folders = ("--model", make_model(), "--profile", make_profile(configs=2))
    code, stdout, error = cli(*folders, "--out", out, *options)
    assert (code, stdout) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onnx_sha256": "0" * 64}, "model.onnx is torn, truncated or edited"),
        ({"onnx_sha256": None}, "config.json is damaged"),
        ({"architecture": 5}, "config.json is damaged"),
        ({"architecture": "5-6"}, "'5-6' is no architecture"),
        ({"graph_variant": "magic"}, "no graph variant 'magic'"),
        ({"graph_variant": "attention"}, "graph variant attention was not profiled"),
        ({"precision": "int8"}, "precision int8, graph variant plain was not profiled"),
        ({"precision": "int4"}, "config.json is damaged (no precision 'int4')"),
    ],
)
def test_a_folder_that_is_not_as_it_was_exported_is_refused(
    tmp_path: Path,
    cli: Cli,
    make_profile: Callable[..., Path],
    make_model: Callable[..., Path],
    changes: dict[str, Any],
    message: str,
) -> None:
    options = ("--profile", make_profile(configs=2), "--max-latency", "1s")
    code, _, error = cli("--model", make_model(**changes), "--out", tmp_path / "out", *options)
    assert (code, error.count("\n")) == (2, 1)
    assert message in error


def test_a_folder_without_our_part_of_the_configuration_is_refused(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    folder = make_model()
    for text in ("{}", '{"autotinybert": 3}'):
        (folder / "config.json").write_text(text)
        with pytest.raises(InputError, match="is of another program"):
            ExportedModel.read(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="no model in"):
        ExportedModel.read(folder)


def test_workload_and_target_are_the_only_ones_profiled_or_those_that_are_said(
    make_profile: Callable[..., Path],
) -> None:
    one = DeviceProfile.load(make_profile("one", configs=2, workloads=[Workload(2, 64)]))
    assert choose_slice(one, graph_variant="plain", precision="fp32") == (Workload(2, 64), Target())
    several = DeviceProfile.load(
        make_profile(
            "several",
            configs=2,
            workloads=[Workload(1, 32), Workload(1, 64)],
            targets=[Target(), Target(threads=2)],
        )
    )
    with pytest.raises(InputError, match=r"has several workloads and targets \(32 tokens"):
        choose_slice(several, graph_variant="plain", precision="fp32", threads=2)
    chosen = choose_slice(
        several, graph_variant="plain", precision="fp32", sequence_length=64, threads=2
    )
    assert chosen == (Workload(1, 64), Target(threads=2))
    gpu = Target(provider=CUDA_PROVIDER, provider_options="use_tf32=0")
    profiled = DeviceProfile.load(make_profile("gpu", configs=2, targets=[gpu]))
    assert choose_slice(profiled, graph_variant="plain", precision="fp32") == (Workload(), gpu)


def test_a_file_is_verified_on_the_cpus_that_its_profile_was_pinned_to(plan_of: Any) -> None:
    cpu = str(max(os.sched_getaffinity(0)))
    plan = plan_of(5.0)
    for key, pinned in (({**plan.key, "pinned_cpus": cpu}, cpu), (plan.key, "")):
        worker = local_worker(dataclasses.replace(plan, key=key))()
        try:
            assert worker.host["pinned_cpus"] == pinned
        finally:
            worker.close()


def test_the_slice_of_a_profile_is_the_one_of_the_files_precision(
    make_profile: Callable[..., Path],
) -> None:
    targets = [Target(), Target(precision="int8")]
    profile = DeviceProfile.load(make_profile(configs=2, targets=targets))
    for target in targets:
        chosen = choose_slice(profile, graph_variant="plain", precision=target.precision)
        assert chosen == (Workload(), target)


@pytest.fixture
def quick_profile(tmp_path: Path, fake_device: Callable[..., Any]) -> Path:
    """A profile with the key of this machine, of one reference, quick to verify against."""
    folder = tmp_path / "quick"
    folder.mkdir()
    host, device = host_facts(), fake_device()
    device.host = host
    protocol = Protocol(
        visits=1,
        planned_visits=2,
        max_visits=2,
        min_time_s=0.001,
        min_runs=6,
        slow_factor=1000.0,
        most_waiting_share=1.0,
    )
    configurations = tuple(
        Configuration(shape, Workload(1, 4)) for shape in (MINILM_L6.architecture, SMALL)
    )
    with Journal(folder / CAMPAIGN_FILE) as journal:
        campaign = run_campaign(
            Plan(configurations, 2, 1, 0),
            protocol,
            journal,
            device.open,
            host=host,
            clock_s=device.clock_s,
        )
        save_profile(
            folder,
            target="cpu-x86",
            host=host,
            protocol=protocol,
            arguments=[],
            campaign=campaign,
            rows=rows_of(campaign, protocol),
        )
    return folder


@pytest.fixture(params=["encoder", "classifier"])
def small_model(
    request: pytest.FixtureRequest, tmp_path: Path, make_model: Callable[..., Path]
) -> Path:
    rng = np.random.default_rng(0)
    labels = ("no", "yes")
    weights, head_weights = (
        {name: rng.normal(0, 0.02, shape).astype("f4") for name, shape in shapes.items()}
        for shapes in (
            weight_shapes(SMALL, vocab_size=50),
            head_shapes("classification", SMALL.hidden_size, len(labels)),
        )
    )
    head = Head("classification", labels, head_weights) if request.param == "classifier" else None
    onnx.save(build_encoder(SMALL, weights=weights, head=head).model, tmp_path / "small.onnx")
    content = (tmp_path / "small.onnx").read_bytes()
    return make_model("small", architecture=str(SMALL), content=content)


def test_a_real_file_is_measured_by_real_children(
    tmp_path: Path, cli: Cli, quick_profile: Path, small_model: Path
) -> None:
    out = tmp_path / "out"
    # Against its only reference, and so low that no noise is too much.
    budget = ("--speedup", "0.001", "--speedup-reference", MINILM_L6.architecture)
    command = ("--model", small_model, "--profile", quick_profile, *budget, "--out", out, "--json")
    code, text, _ = cli(*command)
    answer = json.loads(text)
    assert (code, answer["outcome"]) == (0, "passed")
    assert answer["architecture"] == str(SMALL)
    assert answer["sequence_length"] == 4
    assert 0 < answer["quiet_ms"] <= answer["p50_ms"] <= answer["upper_ms"]
    assert document_of(out)["speedup_lower"] == answer["speedup_lower"]
    records = read_journal(out / JOURNAL_FILE)
    assert [record["kind"] for record in records] == ["verification", *["visit"] * 4, "verdict"]
    code, text, _ = cli(*command)
    assert (code, json.loads(text)["finished_before"]) == (0, True)


def test_a_file_is_measured_and_scored_by_one_command(
    tmp_path: Path, make_profile: Callable[..., Path], make_bench: Any, supernet_folder: Path
) -> None:
    encoder, exported = tmp_path / "encoder", tmp_path / "exported"
    extract_model(supernet=supernet_folder, architecture="2-128-256-12-180", out=encoder)
    export_model(model=encoder, out=exported)
    model = ExportedModel.read(exported)
    plan = VerificationPlan.make(
        model,
        DeviceProfile.load(make_profile(configs=4)),
        Budget(max_latency_ms=20.0),
        workload=Workload(),
        target=Target(),
    )
    out = tmp_path / "out"
    bench = make_bench()
    answer = scored(into(out, plan, bench), out, prepare_score(model, encoder))
    assert answer.exit_code == 0
    assert "passed: p50 is " in str(answer.text)
    assert "held-out distillation loss of the fp32 file: " in str(answer.text)
    assert answer.data["held_out"] == load_score(out)["splits"]
    again = scored(into(out, plan, make_bench()), out, prepare_score(model, encoder))
    assert again.data == {**answer.data, "finished_before": True}
    other = VerificationPlan.make(
        model,
        DeviceProfile.load(tmp_path / "profile"),
        Budget(max_latency_ms=30.0),
        workload=Workload(),
        target=Target(),
    )
    into(out, other, make_bench(), overwrite=True)
    assert not (out / SCORE_FILE).exists(), "what another request left is gone"


def test_an_encoder_that_was_not_exported_is_refused_before_anything_is_measured(
    tmp_path: Path, cli: Cli, make_profile: Callable[..., Path], make_model: Callable[..., Path]
) -> None:
    out = tmp_path / "out"
    folders = ("--model", make_model(), "--profile", make_profile(configs=2), "--out", out)
    code, stdout, error = cli(*folders, "--max-latency", "1s", "--score-with", tmp_path)
    assert (code, stdout, error.count("\n")) == (2, "", 1)
    assert "no encoder in" in error
    assert not out.exists()
