from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autotinybert.command import run_command
from device_profiles.compare_cli import compare_profiles_command
from device_profiles.profile import DeviceProfile

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*argv: object) -> tuple[int, str, str]:
        arguments = [str(argument) for argument in argv]
        code = run_command(compare_profiles_command, "compare-profiles", arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_profiles_of_different_machines_are_compared_and_the_difference_is_said(
    cli: Cli, make_profile: Callable[..., Path]
) -> None:
    first = make_profile("a", configs=10)
    host = {**DeviceProfile.load(first).host, "kernel": "6.6.6", "memory_gib": 16.0}
    second = make_profile("b", configs=10, host=host)
    code, out, error = cli(first, second)
    assert (code, error) == (0, "")
    assert "measurement keys differ" in out
    assert "kernel test / 6.6.6" in out
    assert "host: memory_gib 8.0 / 16.0" in out
    assert out.endswith("the same within noise\n")
    code, out, _ = cli(first, second, "--json")
    answer = json.loads(out)
    assert (code, answer["verdict"], answer["same"]) == (0, "the same within noise", True)
    assert answer["key_differences"] == ["kernel test / 6.6.6"]
    assert answer["host_differences"] == {"memory_gib": [8.0, 16.0]}
    assert answer["rows_compared"] == 12
    assert len(answer["quiet"]["worst"]) == 5


def test_nothing_to_compare_is_a_failure_with_the_reason(
    cli: Cli, make_profile: Callable[..., Path]
) -> None:
    code, out, _ = cli(make_profile("a", configs=4), make_profile("b", configs=4, broken=True))
    assert code == 1
    assert "cannot tell: no row is ok in both" in out


def test_what_is_no_profile_is_refused_in_one_line(
    cli: Cli, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    code, out, error = cli(make_profile(configs=4), tmp_path / "absent")
    assert (code, out) == (2, "")
    assert "no device profile in" in error
