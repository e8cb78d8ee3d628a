from __future__ import annotations

import json
import os
import signal
from typing import Annotated

import pytest
import typer

from autotinybert.command import Answer, JsonOption, VersionOption, run_command
from autotinybert.errors import InputError, WorkError


def command(
    *,
    mode: Annotated[str, typer.Option()] = "fine",
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Does as it is told."""
    if mode == "bad input":
        raise InputError("the file\nis   wrong")
    if mode == "failed":
        raise WorkError("no device")
    if mode == "full disk":
        raise OSError(28, "No space left on device", "/tmp/x")
    if mode == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    return Answer({"value": 1}, "one", exit_code=1 if mode == "refused" else 0)


@pytest.mark.parametrize(
    ("mode", "exit_code", "message"),
    [
        ("bad input", 2, "the file is wrong"),
        ("failed", 1, "no device"),
        ("full disk", 1, "No space left on device (/tmp/x): make room or fix access, then run it"),
        ("interrupt", 130, "interrupted: run the same command again to go on"),
    ],
)
def test_an_error_is_one_plain_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], mode: str, exit_code: int, message: str
) -> None:
    assert run_command(command, "do", ["--mode", mode]) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"do: {message}")
    assert captured.err.count("\n") == 1


def test_with_json_an_error_is_an_object_on_stdout_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command, "do", ["--mode", "bad input", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {"error": "the file is wrong"}


@pytest.mark.parametrize(
    "argv", [["--nonsense"], ["--mode"], ["extra"]], ids=["option", "value", "argument"]
)
def test_wrong_usage_is_one_line_that_points_to_help(
    capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    assert run_command(command, "do", argv) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "see do --help" in captured.err


def test_an_answer_is_text_or_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command, "do", []) == 0
    assert capsys.readouterr().out == "one\n"
    assert run_command(command, "do", ["--json"]) == 0
    assert capsys.readouterr().out == '{"value": 1}\n'
    assert run_command(command, "do", ["--mode", "refused"]) == 1


def test_help_and_version_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command, "do", ["--help"]) == 0
    assert "Does as it is told." in capsys.readouterr().out
    assert run_command(command, "do", ["--version"]) == 0
    assert capsys.readouterr().out.startswith("autotinybert ")


def test_signal_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_command(command, "do", [])
    assert signal.getsignal(signal.SIGTERM) is before
