"""What tests of the predictor's commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autotinybert.command import run_command


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; returns its exit code, stdout and stderr."""

    def run(function: Callable[..., Any], *argv: object) -> tuple[int, str, str]:
        code = run_command(function, function.__name__.replace("_", "-"), [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
