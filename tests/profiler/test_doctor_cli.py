from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autotinybert.command import run_command
from profiler.cli import profile_device
from profiler.doctor_cli import answer_of
from profiler.finding import Finding

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*argv: object) -> tuple[int, str, str]:
        code = run_command(profile_device, "profile-device", [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_this_machine_is_examined_without_a_target_or_a_folder(cli: Cli) -> None:
    code, text, error = cli("--doctor", "--json")
    answer = json.loads(text)
    assert error == ""
    assert code == (0 if answer["fit"] else 1)
    levels = {finding["what"]: finding["level"] for finding in answer["findings"]}
    assert {"CPU governor", "other load", "steal time", "re-test", "disk"} <= set(levels)
    assert answer["fit"] == ("bad" not in levels.values())
    assert answer["ssh"] is None


def test_exit_code_and_last_line_say_whether_it_is_fit() -> None:
    warning = Finding("warn", "CPU boost", "on", "echo 0")
    good = answer_of([Finding("ok", "clock", "tsc"), warning], {"cpu_model": "X"}, "pi")
    assert good.exit_code == 0
    lines = str(good.text).splitlines()
    assert lines[0] == "pi: X"
    assert lines[-2:] == ["           mend: echo 0", "fit to measure on (0 bad, 1 to know of)"]
    bad = answer_of([warning, Finding("bad", "other load", "2 cores", "kill 7")], {}, None)
    assert bad.exit_code == 1
    assert str(bad.text).endswith("not fit to measure on (1 bad, 1 to know of)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--target is needed: cpu-x86, cpu-arm, gpu-cuda, gpu-tensorrt"),
        (("--target", "cpu-x86"), "--out is needed"),
        (("--out", "absent"), "--target is needed"),
        (("--doctor", "--ssh", "-oProxyCommand=sh"), "is no host"),
        (("--doctor", "--ssh-python", "python3"), "--ssh-python is for another machine"),
        (("--doctor", "--ssh-config", "config"), "--ssh-config is for another machine"),
        (("--doctor", "--ssh", "pi", "--ssh-config", "absent"), "--ssh-config absent is no file"),
        (("--doctor", "--target", "cpu-x86"), "--doctor measures no profile and takes no --target"),
        (("--doctor", "--cpus", "0", "--minutes", "9"), "takes no --minutes: leave it out"),
        (("--doctor", "--recheck", "absent"), "takes no --recheck: leave it out"),
        (("--doctor", "--seed", "3"), "takes no --seed: leave it out"),
        (("--doctor", "--out", "absent", "--overwrite"), "takes no --overwrite: leave it out"),
    ],
)
def test_wrong_input_is_one_line(cli: Cli, options: tuple[object, ...], message: str) -> None:
    code, out, error = cli(*options)
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert not Path("absent").exists()
