from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from device_profiles.measurements import read_measurements
from device_profiles.profile import LATENCIES_FILE, DeviceProfile
from device_profiles.target import Target
from predictor.cli import fit_predictor
from predictor.store import load_predictor
from supernet.architecture import ARCHITECTURE_FIELDS

MakeProfile = Callable[..., Path]
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fit(cli: Cli) -> Cli:
    """Runs `fit-predictor`; returns its exit code, stdout and stderr."""
    return partial(cli, fit_predictor)


def few_rows(profile: Path, shapes: Path, out: Path, factor: float = 1.0) -> Path:
    """The rows of a profile whose shapes a CSV file names, their latencies times a factor."""
    with shapes.open() as file:
        wanted = {tuple(row.values()) for row in csv.DictReader(file)}
    with (profile / LATENCIES_FILE).open() as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if tuple(row[name] for name in ARCHITECTURE_FIELDS) in wanted]
    for row in kept:
        for name in ("latency_ms", "p50_ms"):
            row[name] = str(float(row[name]) * factor)
    with out.open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(kept)
    return out


@pytest.fixture
def known(fit: Cli, make_profile: MakeProfile, tmp_path: Path) -> Path:
    out = tmp_path / "known"
    assert fit(make_profile("one-thread"), "--out", out)[0] == 0
    return out


def test_three_suggested_shapes_of_another_target_make_a_predictor(
    fit: Cli, make_profile: MakeProfile, known: Path, tmp_path: Path
) -> None:
    shapes = tmp_path / "shapes.csv"
    code, text, _ = fit("--transfer-from", known, "--suggest", 3, "--out", shapes)
    assert (code, f"profile-device --architectures {shapes}" in text) == (0, True)
    other = make_profile("two-threads", targets=[Target(threads=2)])
    rows = few_rows(other, shapes, tmp_path / "few.csv", factor=1.7)
    out = tmp_path / "new"
    code, text, _ = fit("--csv", rows, "--transfer-from", known, "--out", out)
    assert code == 0
    assert "resembles" in text
    (part,) = load_predictor(out).slices
    truth = DeviceProfile.load(other).measurements
    inside = [
        row for row in range(len(truth)) if not len(part.out_of_range(truth.architectures[[row]]))
    ]
    predicted = part.predict(truth.architectures[inside]).latency_ms
    errors = abs(predicted / (1.7 * truth.statistics["latency_ms"][inside]) - 1)
    assert errors.mean() < 0.03
    assert read_measurements(out / "training_rows.csv").architectures.shape == (3, 5)
    again = fit("--csv", rows, "--transfer-from", known, "--out", out)
    assert (again[0], "was fitted before" in again[1]) == (0, True)


def test_a_device_that_resembles_none_is_told_so_and_nothing_is_written(
    fit: Cli, make_profile: MakeProfile, known: Path, tmp_path: Path
) -> None:
    shapes = tmp_path / "shapes.csv"
    assert fit("--transfer-from", known, "--suggest", 6, "--out", shapes)[0] == 0
    rows = few_rows(make_profile("other"), shapes, tmp_path / "few.csv")
    lines = rows.read_text().splitlines()
    place = lines[0].split(",").index("latency_ms")
    for number in range(1, len(lines)):
        fields = lines[number].split(",")
        fields[place] = str([0.5, 40.0][number % 2])  # nothing that sizes explain
        lines[number] = ",".join(fields)
    rows.write_text("\n".join(lines) + "\n")
    out = tmp_path / "new"
    code, stdout, error = fit("--csv", rows, "--transfer-from", known, "--out", out)
    assert (code, stdout) == (1, "")
    assert "does not resemble this device" in error
    assert not (out / "predictor.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--suggest", 3), "--suggest N goes with --transfer-from"),
        (("--transfer-from", "known", "--suggest", 2), "a transfer needs 3 or more"),
        (("--transfer-from", "nowhere"), "no predictor in"),
        (("--transfer-from", "known", "--transfer-from", "known"), "named twice"),
    ],
)
def test_what_cannot_be_transferred_is_one_line(
    fit: Cli, known: Path, tmp_path: Path, options: tuple[Any, ...], message: str
) -> None:
    named = {"known": known, "nowhere": tmp_path / "nowhere"}
    argv = [named.get(each, each) for each in options]
    code, _, error = fit(*argv, "--out", tmp_path / "out")
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
    assert not (tmp_path / "out").exists()


def test_fewer_than_three_shapes_are_refused(
    fit: Cli, make_profile: MakeProfile, known: Path, tmp_path: Path
) -> None:
    shapes = tmp_path / "shapes.csv"
    fit("--transfer-from", known, "--suggest", 3, "--out", shapes)
    rows = few_rows(make_profile("other"), shapes, tmp_path / "few.csv")
    rows.write_text("\n".join(rows.read_text().splitlines()[:3]) + "\n")
    code, _, error = fit("--csv", rows, "--transfer-from", known, "--out", tmp_path / "out")
    assert (code, "needs 3 different shapes of the new device, not 2" in error) == (2, True)
    assert json.loads(fit("--csv", rows, "--out", tmp_path / "o", "--json")[1])["error"]
