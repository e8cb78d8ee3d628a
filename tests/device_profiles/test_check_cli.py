from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotinybert.command import run_command
from benchmarks.drift_detection import cost_ms
from device_profiles.check_cli import check_latencies
from device_profiles.profile import LATENCIES_FILE
from supernet.architecture import ARCHITECTURE_FIELDS, to_matrix
from supernet.space import kd_space

Cli = Callable[..., tuple[int, str, str]]
MakeProfile = Callable[..., Path]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command; returns its exit code, stdout and stderr."""

    def run(*argv: object) -> tuple[int, str, str]:
        code = run_command(check_latencies, "check-latencies", [str(value) for value in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def table(slow: slice = slice(0, 0), rows: int = 120) -> dict[str, list[Any]]:
    """A file's columns, measured elsewhere, with rows that are 25 % too slow."""
    rng = np.random.default_rng(0)
    shapes = to_matrix(kd_space().sample(rng, rows))
    latencies = cost_ms(shapes) * np.exp(0.01 * rng.exponential(size=rows))
    latencies[slow] *= 1.25
    columns: dict[str, list[Any]] = dict(zip(ARCHITECTURE_FIELDS, shapes.T.tolist(), strict=True))
    return {**columns, "latency_ms": latencies.tolist()}


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def checked(cli: Cli, *argv: object) -> dict[str, Any]:
    code, text, error = cli(*argv, "--json")
    assert (code, error) == (0, "")
    found: dict[str, Any] = json.loads(text)
    return found


def test_slow_rows_are_listed_by_row_line_and_remedy_and_are_no_failure(
    cli: Cli, tmp_path: Path
) -> None:
    path = write(tmp_path / "mine.csv", table(slice(40, 70)))
    assert checked(cli, path)["suspect_rows"] == list(range(40, 70))
    code, text, _ = cli(path)
    assert code == 0
    assert "30 suspect rows: measure these again" in text
    assert "slow stretch, +25%: rows 40 to 69 (lines 42 to 71)" in text


def test_a_clean_file_has_no_suspect_rows(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", table())
    assert checked(cli, path)["suspect_rows"] == []
    assert "no suspect rows" in cli(path)[1]


def test_rows_keep_their_numbers_where_others_have_no_latency(cli: Cli, tmp_path: Path) -> None:
    columns = table(slice(40, 70))
    for row in (0, 3, 50, 90):
        columns["latency_ms"][row] = ""
    found = checked(cli, write(tmp_path / "mine.csv", columns))
    assert found["suspect_rows"] == [row for row in range(40, 70) if row != 50]
    assert (found["rows"], found["rows_checked"]) == (120, 116)
    assert (found["findings"][0]["first_line"], found["findings"][0]["last_line"]) == (42, 71)


def test_latency_columns_are_added_and_other_measurements_are_no_features(
    cli: Cli, tmp_path: Path
) -> None:
    columns = table(slice(40, 70))
    total = columns.pop("latency_ms")
    columns["latency_mean_encoder"] = [0.3 * value for value in total]
    columns["latency_mean_decoder"] = [0.7 * value for value in total]
    columns["latency_std_encoder"] = [0.01 * value for value in total]
    columns["p50_ms"] = [1.07 * value for value in total]
    columns["id"] = list(range(7, 127))
    columns["count"] = list(range(120))
    columns["device"] = ["a, b"[:1]] * 120
    path = write(tmp_path / "mine.csv", columns)
    options = ("--latency-column", "latency_mean_encoder", "--latency-column")
    found = checked(cli, path, *options, "latency_mean_decoder", "--ignore", "num_heads")
    assert found["suspect_rows"] == list(range(40, 70))
    assert found["features"] == [name for name in ARCHITECTURE_FIELDS if name != "num_heads"]
    assert set(found["columns_passed_over"]) == {
        *("num_heads", "latency_std_encoder", "p50_ms", "id", "count", "device"),
    }


def test_kinds_in_words_are_features(cli: Cli, tmp_path: Path) -> None:
    columns = table()
    rng = np.random.default_rng(1)
    columns["device"] = rng.choice(["old", "new"], 120).tolist()
    factors = {"old": 2.0, "new": 1.0}
    columns["latency_ms"] = [
        value * factors[kind]
        for value, kind in zip(columns["latency_ms"], columns["device"], strict=True)
    ]
    found = checked(cli, write(tmp_path / "mine.csv", columns))
    assert "device is old" in found["features"]
    assert found["explained"] > 0.99
    assert found["suspect_rows"] == []


def test_a_file_sorted_by_a_column_is_not_judged_and_says_so(cli: Cli, tmp_path: Path) -> None:
    columns = table(slice(40, 70))
    order = np.argsort(columns["hidden_size"], kind="stable").tolist()
    columns = {name: [values[row] for row in order] for name, values in columns.items()}
    path = write(tmp_path / "mine.csv", columns)
    assert checked(cli, path)["suspect_rows"] == []
    assert "misfit and drift cannot be told apart" in cli(path)[1]


def test_our_own_latencies_and_the_profile_itself_can_be_checked(
    cli: Cli, make_profile: MakeProfile
) -> None:
    profile = make_profile()
    found = checked(cli, profile / LATENCIES_FILE)
    assert found["suspect_rows"] == []
    assert not {"visits", "runs", "verdict", "p50_ms"} & set(found["features"])
    found = checked(cli, profile)
    assert (found["slow_visits"], found["suspect_rows"]) == ([], [])
    assert "0 of 252 visits were made while the machine was slow" in cli(profile)[1]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", (), "is empty"),
        ("a,b\n1,2\n", (), "has no column latency_ms: name it with --latency-column"),
        ("a,latency_ms\n1,x\n", (), "line 2: latency_ms is 'x'"),
        ("a,latency_ms\n1,-3\n", (), "line 2: latency_ms is '-3'"),
        ("a,latency_ms\n1,\n", (), "no row with a latency"),
        ("a,latency_ms\n1,2\n", ("--ignore", "c"), "lacks the column c"),
        ("a,latency_ms\n1,2\n", ("--latency-column", "c"), "lacks the column c"),
        ("a,latency_ms\n1,2\n", ("--latency-column", "a", "--ignore", "a"), "both"),
        ("a,b\n1,2\n", ("--latency-column", "a", "--latency-column", "a"), "twice"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    cli: Cli, tmp_path: Path, text: str, options: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    code, stdout, error = cli(path, *options)
    assert (code, stdout, error.count("\n")) == (2, "", 1)
    assert message in error


def test_a_folder_that_is_no_profile_and_options_with_a_profile_are_refused(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    assert cli(tmp_path)[0] == 2
    code, _, error = cli(make_profile(), "--ignore", "num_heads")
    assert (code, "are for files" in error) == (2, True)
