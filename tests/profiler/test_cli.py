"""`profile-device`, with real children and real sessions of very short sequences."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autotinybert.command import run_command
from device_profiles.journal import Journal, read_journal
from device_profiles.profile import JOURNAL_FILE, PROFILE_FILE, DeviceProfile
from profiler.answer import profile_answer
from profiler.cli import profile_device
from profiler.host import host_facts

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = {"x86_64": "cpu-x86", "aarch64": "cpu-arm"}[host_facts()["machine"]]
CPU = min(os.sched_getaffinity(0))
OTHER = {"cpu-x86": "cpu-arm", "cpu-arm": "cpu-x86"}[TARGET]

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*argv: object) -> tuple[int, str, str]:
        code = run_command(profile_device, "profile-device", [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def shapes_file(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.csv"
    path.write_text(
        "qkv_size,num_heads,ffn_size,hidden_size,num_layers\n24,2,32,16,1\n48,4,64,32,2\n"
    )
    return path


def test_this_machine_is_profiled_and_the_profile_is_finished(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "profile"
    request = ("--target", TARGET, "--architectures", shapes_file(tmp_path), "--out", out)
    load = ("--under-load",)  # whatever else runs while the tests do
    workloads = ("--sequence-length", 4, "--sequence-length", 8)
    options = (*request, *load, "--reference", "2-16-40-2-24", *workloads, "--json")
    code, text, _ = cli(*options)
    assert code == 0
    answer = json.loads(text)
    assert sum(answer["rows"].values()) == (2 + 2 + 1) * 2
    names = {row["name"] for row in answer["reference_rows"]}
    assert names == {"BERT-base", "MiniLM-L6", "2-16-40-2-24"}
    profile = DeviceProfile.load(out)
    assert {values[0] for values in profile.measurements.slices} == {4, 8}
    assert answer["reference_rows"][0]["latency_ms"] > 0
    before = (out / JOURNAL_FILE).read_bytes()
    code, text, _ = cli(*options)
    assert (code, json.loads(text)["finished_before"]) == (0, True)
    assert (out / JOURNAL_FILE).read_bytes() == before
    (out / PROFILE_FILE).unlink()  # it follows from the journal
    code, text, _ = cli(*options)
    assert (code, json.loads(text)["rows"]) == (0, answer["rows"])
    assert (out / JOURNAL_FILE).read_bytes() == before
    arguments = DeviceProfile.load(out).document["arguments"]
    assert arguments[-5:] == ["--sequence-length", "8", "--under-load", "--seed", "0"]
    assert "shapes.csv" in arguments
    assert str(tmp_path) not in (out / PROFILE_FILE).read_text()
    for other in (request, (*options, "--reference", "1-16-40-2-24")):
        code, _, error = cli(*other)
        assert code == 2
        assert "different request" in error
    if answer["rows"]["ok"] < 3:
        return  # what a check of it says is tested elsewhere
    code, text, _ = cli("--recheck", out, "--configs", 3, "--json")
    check = json.loads(text)
    assert code == int(check["verdict"] != "holds")
    assert (len(check["rows"]), check["key_differences"]) == (3, [])


@pytest.mark.slow
def test_a_pinned_campaign_says_where_it_measured(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "profile"
    request = ("--target", TARGET, "--architectures", shapes_file(tmp_path), "--out", out)
    options = (*request, "--sequence-length", 4, "--cpus", CPU)
    assert cli(*options)[0] == 0
    profile = DeviceProfile.load(out)
    assert profile.host["pinned_cpus"] == profile.key["pinned_cpus"] == str(CPU)
    assert "--cpus" in profile.document["arguments"]
    assert cli(*options)[0] == 0
    code, _, error = cli(*request, "--sequence-length", 4)
    assert code == 2
    assert "different request" in error


@pytest.mark.slow
def test_a_campaign_killed_with_signal_9_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "profile"
    command = [
        *(sys.executable, "-m", "profiler.cli", "--target", TARGET, "--sequence-length", "4"),
        *("--architectures", str(shapes_file(tmp_path)), "--out", str(out), "--under-load"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    journal = out / JOURNAL_FILE
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and first.poll() is None:
        if journal.exists() and journal.read_bytes().count(b'"kind":"visit"') >= 5:
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    acknowledged = read_journal(journal, allow_torn_end=True)
    assert len(acknowledged) >= 5
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert read_journal(journal)[: len(acknowledged)] == acknowledged
    assert len(DeviceProfile.load(out).measurements) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "toaster"), "no target 'toaster'"),
        (("--target", OTHER), f"use --target {TARGET} here"),
        (("--target", "gpu-cuda"), f"use --target {TARGET} here"),
        (("--provider-option", "device_id=0"), "CPUExecutionProvider has no option 'device_id'"),
        (("--cpus", "one"), "'one' is no list of CPUs: write it as 0,2-3"),
        (("--cpus", "8000"), "CPU 8000 is not one that may be used here"),
        (("--cpus", CPU, "--threads", 2), f"2 threads on 1 CPUs ({CPU})"),
        (("--threads", 500), "cores: use at most"),
        (("--threads", 0), "threads must be an integer from 1"),
        (("--sequence-length", 513), "sequence length must be an integer from 1 to 512"),
        (("--batch-size", -1), "batch size must be an integer from 1"),
        (("--graph-variant", "magic"), "use plain, folded, attention"),
        (("--precision", "int4"), "no precision 'int4': use fp32, fp16, int8"),
        (("--precision", "int8", "--precision", "fp16"), "fp16 on a CPU"),
        (("--space", "atlantis"), "no space 'atlantis': use kd, mlm, hf-native"),
        (("--configs", 0), "see profile-device --help"),
        (("--minutes", "soon"), "see profile-device --help"),
        (("--percentile", 96), "no percentile 96 is reported: choose one of 50, 90, 95, 99"),
        (("--minutes", "inf"), "--minutes inf is no time"),
        (("--minutes", "nan"), "see profile-device --help"),
        (("--space", "kd", "--architectures", "x.csv"), "leave out --configs, --space and --with"),
        (("--within", "1-8-8-1-8", "--architectures", "x.csv"), "leave out --configs, --space and"),
        (("--within", "small"), "'small' is no architecture"),
        (("--within", "2-64-512-12-384"), "kd: hidden_size begins at 128 there, and the SuperPLM"),
        (("--within", "1-128-132-12-180", "--configs", 3), "holds 2 shapes: ask for fewer"),
        (("--reference", "12-768-3072-11-768"), "not divisible by num_heads 11"),
        (("--architectures", "absent.csv"), "cannot read absent.csv"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    cli: Cli, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    out = tmp_path / "profile"
    code, stdout, error = cli("--target", TARGET, "--out", out, *options)
    assert code == 2
    assert stdout == ""
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--target is needed: cpu-x86"),
        (("--target", TARGET), "--out is needed"),
        (("--recheck", "absent"), "no device profile in absent"),
        (("--recheck", "absent", "--target", TARGET), "--recheck takes --target from the profile"),
        (("--recheck", "absent", "--rivals"), "--recheck takes --rivals from the profile"),
    ],
)
def test_what_a_campaign_needs_and_a_check_does_not_is_said(
    cli: Cli, options: tuple[object, ...], message: str
) -> None:
    code, stdout, error = cli(*options)
    assert (code, stdout) == (2, "")
    assert message in error
    assert error.count("\n") == 1


def test_a_running_campaign_is_safe_from_overwrite(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "profile"
    out.mkdir()
    with Journal(out / JOURNAL_FILE) as journal:
        journal.append({"kind": "stopped", "reason": "not yet"})
        shapes = shapes_file(tmp_path)
        code, _, error = cli(
            "--target", TARGET, "--out", out, "--architectures", shapes, "--overwrite"
        )
    assert code == 2
    assert "another campaign is writing" in error
    assert len(read_journal(out / JOURNAL_FILE)) == 1


def test_a_campaign_without_a_row_that_is_ok_has_failed(make_profile: Callable[..., Path]) -> None:
    good, bad = make_profile("good", configs=2), make_profile("bad", configs=2, broken=True)
    assert profile_answer(DeviceProfile.load(good)).exit_code == 0
    answer = profile_answer(DeviceProfile.load(bad))
    assert answer.exit_code == 1
    assert "no row is ok" in str(answer.text)


def test_an_impossible_architecture_is_named_by_its_line(cli: Cli, tmp_path: Path) -> None:
    path = shapes_file(tmp_path)
    path.write_text(path.read_text() + "25,2,32,16,1\n")
    code, _, error = cli("--target", TARGET, "--out", tmp_path / "out", "--architectures", path)
    assert code == 2
    assert "shapes.csv line 4: qkv_size 25 is not divisible by num_heads 2" in error


def test_a_folder_with_something_else_in_it_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    code, _, error = cli("--target", TARGET, "--out", tmp_path)
    assert code == 2
    assert "other files (thesis.tex)" in error
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
