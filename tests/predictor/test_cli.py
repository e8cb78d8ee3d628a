from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device_profiles.profile import LATENCIES_FILE
from device_profiles.target import Target, Workload
from predictor.cli import fit_predictor
from predictor.predict_cli import predict_latency
from predictor.store import load_predictor
from supernet.architecture import Architecture, to_matrix

MakeProfile = Callable[..., Path]
ROOT = Path(__file__).resolve().parent.parent.parent
COLUMNS = "num_layers,hidden_size,ffn_size,num_heads,qkv_size"


Cli = Callable[..., tuple[int, str, str]]


def test_a_profile_becomes_a_predictor_that_predicts(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    out = tmp_path / "predictor"
    code, text, _ = cli(fit_predictor, make_profile(rivals=True), "--out", out)
    assert code == 0
    assert "cost-terms" in text
    assert "TinyBERT-4" in text
    assert {path.name for path in out.iterdir()} == {
        "predictor.json",
        "training_rows.csv",
        "lookup_table.csv",
        "request.json",
    }
    (tmp_path / "shapes.csv").write_text(f'note,{COLUMNS}\n"x, y",4,312,1200,12,312\n')
    code, text, _ = cli(predict_latency, "--predictor", out, "--csv", tmp_path / "shapes.csv")
    assert code == 0
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["note"] == "x, y"
    assert 0 < float(row["latency_low_ms"]) < float(row["latency_ms"])
    assert float(row["latency_ms"]) < float(row["latency_high_ms"])


def test_the_same_request_again_says_so_and_another_is_refused(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile, out = make_profile(), tmp_path / "predictor"
    assert cli(fit_predictor, profile, "--out", out)[0] == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, text, _ = cli(fit_predictor, profile, "--out", out)
    assert (code, "was fitted before" in text) == (0, True)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    code, _, error = cli(fit_predictor, profile, "--out", out, "--seed", 1)
    assert code == 2
    assert "different request (seed was 0)" in error
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert cli(fit_predictor, profile, "--out", out, "--seed", 1, "--overwrite")[0] == 0


def test_a_report_is_written_when_asked_for(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    out = tmp_path / "predictor"
    assert (
        cli(fit_predictor, make_profile(), "--report", "--baselines", "quick", "--out", out)[0] == 0
    )
    assert (out / "report.html").read_text().startswith("<!doctype html>")


def test_measurements_made_elsewhere_are_fitted(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    path, out = make_profile() / LATENCIES_FILE, tmp_path / "predictor"
    code, text, _ = cli(fit_predictor, "--csv", path, "--out", out, "--json")
    assert code == 0
    answer = json.loads(text)
    assert answer["rows"] == 42
    assert answer["slices"][0]["held_out_accuracy"]["cost-terms"]["mape"] < 0.02
    assert json.loads((out / "predictor.json").read_text())["measurement_key"] is None


def test_profiles_of_one_machine_are_fitted_together(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    first, second = make_profile("first", configs=15), make_profile("second", configs=15, seed=1)
    code, text, _ = cli(fit_predictor, first, second, "--out", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(text)["rows"] == 34


def fit_of(cli: Cli, profile: Path, out: Path) -> Path:
    assert cli(fit_predictor, profile, "--out", out)[0] == 0
    return out


def test_rows_of_several_workloads_are_each_predicted_under_their_own(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile(
        workloads=[Workload(1, 32), Workload(1, 128)], targets=[Target(threads=2)]
    )
    predictor = fit_of(cli, profile, tmp_path / "predictor")
    shapes = tmp_path / "shapes.csv"
    shape = "4,312,1200,12,312"
    shapes.write_text(f"{COLUMNS},sequence_length\n{shape},128\n{shape},32\n{shape},128\n")
    code, text, _ = cli(predict_latency, "--predictor", predictor, "--csv", shapes, "--json")
    assert code == 0
    rows = json.loads(text)["rows"]
    assert rows[0] == rows[2]
    assert rows[1]["latency_ms"] < rows[0]["latency_ms"]
    shapes.write_text(f"{COLUMNS},sequence_length\n{shape},64\n")
    code, _, error = cli(predict_latency, "--predictor", predictor, "--csv", shapes)
    assert code == 2
    assert "64 tokens, batch 1, 2 threads, fp32, plain was not measured" in error


def test_rows_of_both_precisions_are_each_predicted_under_their_own(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile(targets=[Target(), Target(precision="int8")])
    predictor = fit_of(cli, profile, tmp_path / "predictor")
    shape = Architecture(4, 312, 1200, 12, 312)
    line = ",".join(map(str, shape.row))
    shapes = tmp_path / "shapes.csv"
    shapes.write_text(f"{COLUMNS},precision\n{line},fp32\n{line},int8\n")
    code, text, _ = cli(predict_latency, "--predictor", predictor, "--csv", shapes, "--json")
    assert code == 0
    rows = {row["precision"]: row["latency_ms"] for row in json.loads(text)["rows"]}
    for part in load_predictor(predictor).slices:
        (precision,) = [name for name in rows if name in part.slice]
        expected = part.predict(to_matrix([shape]), "quiet").latency_ms[0]
        assert rows.pop(precision) == pytest.approx(expected)
    assert not rows
    shapes.write_text(f"{COLUMNS},precision\n{line},fp16\n")
    code, _, error = cli(predict_latency, "--predictor", predictor, "--csv", shapes)
    assert (code, error.count("\n")) == (2, 1)
    assert "1 thread, fp16, plain was not measured" in error


def test_empty_target_fields_are_predicted_as_the_default(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    predictor = fit_of(cli, make_profile(), tmp_path / "predictor")
    shapes = tmp_path / "shapes.csv"
    shapes.write_text(f"{COLUMNS},graph_variant\n4,312,1200,12,312,\n4,312,1200,12,312,plain\n")
    code, text, _ = cli(predict_latency, "--predictor", predictor, "--csv", shapes, "--json")
    assert code == 0
    first, second = json.loads(text)["rows"]
    assert first["latency_ms"] == second["latency_ms"]


def test_columns_of_an_earlier_prediction_are_replaced(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile()
    predictor = fit_of(cli, profile, tmp_path / "predictor")
    code, text, _ = cli(
        predict_latency, "--predictor", predictor, "--csv", profile / LATENCIES_FILE
    )
    assert code == 0
    header = text.splitlines()[0].split(",")
    assert header.count("latency_ms") == 1
    assert header[-3:] == ["latency_ms", "latency_low_ms", "latency_high_ms"]


def test_a_median_is_predicted_on_request(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    predictor = fit_of(cli, make_profile(), tmp_path / "predictor")
    shapes = tmp_path / "shapes.csv"
    shapes.write_text(f"{COLUMNS}\n4,312,1200,12,312\n")
    options = ("--predictor", predictor, "--csv", shapes, "--json")
    quiet, median = (
        json.loads(cli(predict_latency, *options, "--statistic", name)[1])["rows"][0]["latency_ms"]
        for name in ("quiet", "p50")
    )
    assert quiet < median


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\x00\x01", "binary file"),
        (f"{COLUMNS}\n4,312,1200,12,312\n", "lacks the column latency_ms"),
        (f"{COLUMNS},latency_ms\n4,312,1200,12,312,-3\n", "line 2: latency_ms is '-3'"),
        (f"{COLUMNS},latency_ms\n4,312,1200,12,312,nan\n", "line 2: latency_ms is 'nan'"),
        (f"{COLUMNS},latency_ms\n4,312,1200,12,312,slow\n", "line 2: latency_ms is 'slow'"),
        (f"{COLUMNS},latency_ms\n4,312,1200,12,310,3\n", "line 2: qkv_size 310 is not divisible"),
        (f"{COLUMNS},latency_ms\n4,312,1200,12,312,3\n", "has 1 usable architectures"),
    ],
)
def test_measurements_that_are_not_right_are_one_line_and_nothing_is_written(
    cli: Cli, tmp_path: Path, text: str, message: str
) -> None:
    path, out = tmp_path / "mine.csv", tmp_path / "out"
    path.write_text(text)
    code, stdout, error = cli(fit_predictor, "--csv", path, "--out", out)
    assert code == 2
    assert stdout == ""
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_profiles_of_different_machines_are_refused_by_field(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    from device_profiles.profile import DeviceProfile

    first = make_profile("first")
    host = {**DeviceProfile.load(first).host, "kernel": "6.6.6"}
    code, _, error = cli(
        fit_predictor, first, make_profile("second", host=host), "--out", tmp_path / "out"
    )
    assert code == 2
    assert "kernel test / 6.6.6" in error


def test_an_emulated_machine_is_refused(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    from device_profiles.profile import DeviceProfile

    host = {**DeviceProfile.load(make_profile("real")).host, "emulated": True}
    profile = make_profile("emulated", host=host)
    code, _, error = cli(fit_predictor, profile, "--out", tmp_path / "out")
    assert (code, error.count("\n")) == (2, 1)
    assert "under an emulator" in error
    assert "--allow-emulated" in error
    assert not (tmp_path / "out").exists()


def test_an_emulated_machine_that_was_asked_for_is_stamped_on_all_that_comes_of_it(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    from device_profiles.profile import DeviceProfile

    host = {**DeviceProfile.load(make_profile("real")).host, "emulated": True}
    profile, out = make_profile("emulated", host=host), tmp_path / "out"
    asked = (
        fit_predictor,
        profile,
        "--allow-emulated",
        "--report",
        "--baselines",
        "quick",
        "--baselines",
        "quick",
        "--out",
        out,
    )
    code, text, _ = cli(*asked)
    assert (code, "an emulator was measured, and not the device" in text) == (0, True)
    assert json.loads((out / "predictor.json").read_text())["measurement_key"]["emulated"] is True
    assert "an emulator was measured, and not the device" in (out / "report.html").read_text()
    again = json.loads(cli(*asked, "--json")[1])
    assert (again["finished_before"], again["emulated"]) == (True, True)
    real = tmp_path / "real-out"
    code, text, _ = cli(fit_predictor, tmp_path / "real", "--allow-emulated", "--out", real)
    assert (code, "emulator" in text) == (0, False)
    assert json.loads((real / "predictor.json").read_text())["measurement_key"]["emulated"] is False


def test_a_folder_with_something_else_in_it_is_refused(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    code, _, error = cli(fit_predictor, make_profile(), "--out", tmp_path / "out")
    assert code == 2
    assert "other files (thesis.tex)" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_profile_named_twice_and_a_folder_fitted_into_itself_are_refused(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile()
    code, _, error = cli(fit_predictor, profile, profile, "--out", tmp_path / "out")
    assert (code, "named twice" in error) == (2, True)
    before = sorted(profile.iterdir())
    code, _, error = cli(fit_predictor, profile, "--out", profile, "--overwrite")
    assert (code, "is what the predictor is fitted to" in error) == (2, True)
    assert sorted(profile.iterdir()) == before


def test_a_finished_folder_that_lost_a_file_is_made_whole(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile, out = make_profile(), tmp_path / "out"
    assert cli(fit_predictor, profile, "--report", "--baselines", "quick", "--out", out)[0] == 0
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in ("predictor.json", "report.html"):
        (out / name).unlink()
        code, text, _ = cli(
            fit_predictor, profile, "--report", "--baselines", "quick", "--out", out
        )
        assert (code, "wrote" in text) == (0, True)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_a_page_of_an_earlier_fit_does_not_stay_beside_a_new_one(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert (
        cli(fit_predictor, make_profile("a"), "--report", "--baselines", "quick", "--out", out)[0]
        == 0
    )
    assert cli(fit_predictor, make_profile("b", seed=1), "--out", out, "--overwrite")[0] == 0
    assert not (out / "report.html").exists()


def test_a_statistic_that_few_rows_have_is_left_out_and_stops_nothing(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    with (make_profile(configs=18) / LATENCIES_FILE).open() as file:
        rows = list(csv.DictReader(file))
    for row in rows[:2]:
        row["p50_ms"] = ""
    with (tmp_path / "mine.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    options = ("--csv", tmp_path / "mine.csv", "--out", tmp_path / "out", "--json")
    code, text, _ = cli(fit_predictor, *options)
    assert code == 0
    assert json.loads(text)["slices"][0]["statistics"] == ["quiet"]


def test_a_line_of_an_unmeasured_workload_is_named_with_what_was_assumed(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile(workloads=[Workload(1, 16)])
    predictor = fit_of(cli, profile, tmp_path / "predictor")
    (tmp_path / "shapes.csv").write_text(f"{COLUMNS}\n4,312,1200,12,312\n")
    options = ("--predictor", predictor, "--csv", tmp_path / "shapes.csv")
    code, _, error = cli(predict_latency, *options)
    assert code == 2
    assert "shapes.csv line 2: 128 tokens" in error
    assert "sequence_length 128 and batch_size 1 assumed" in error


def test_a_reader_that_has_seen_enough_is_no_error(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    predictor = fit_of(cli, make_profile(), tmp_path / "predictor")
    shapes = tmp_path / "shapes.csv"
    shapes.write_text(f"{COLUMNS}\n" + "4,312,1200,12,312\n" * 50_000)
    code = "from predictor.predict_cli import predict_latency_main as main; main()"
    command = [sys.executable, "-c", code, "--predictor", str(predictor), "--csv", str(shapes)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().endswith("latency_high_ms\n")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    process.stderr.close()


@pytest.mark.parametrize("closed", [False, True], ids=["full", "closed"])
def test_an_error_whose_json_nobody_can_read_still_ends_in_one_line(
    tmp_path: Path,
    closed: bool,  # noqa: FBT001
) -> None:
    code = "from predictor.predict_cli import predict_latency_main as main; main()"
    redirect = ">&-" if closed else "> /dev/full"
    command = f'"{sys.executable}" -c "{code}" --predictor {tmp_path} --csv x --json {redirect}'
    process = subprocess.run(
        ["sh", "-c", command], check=False, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1


def test_neither_or_both_kinds_of_input_are_refused(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile()
    for inputs in ((), (profile, "--csv", profile / LATENCIES_FILE)):
        code, _, error = cli(fit_predictor, *inputs, "--out", tmp_path / "out")
        assert code == 2
        assert "either device profiles or --csv FILE" in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{COLUMNS}\n4,312,1200,12,312\n9,1024,1200,12,312\n", "line 3: hidden_size 1024 is out"),
        (f"{COLUMNS}\n99,312,1200,12,312\n", "line 2: num_layers is 99, which must be from 1"),
        (f"{COLUMNS}\n4,312,1200,12,311\n", "line 2: qkv_size 311 is not divisible by num_heads"),
        ("num_layers,hidden_size\n4,312\n", "lacks the columns ffn_size, num_heads, qkv_size"),
    ],
)
def test_shapes_that_cannot_be_predicted_are_one_line_and_no_output(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path, text: str, message: str
) -> None:
    predictor = fit_of(cli, make_profile(), tmp_path / "predictor")
    (tmp_path / "shapes.csv").write_text(text)
    code, stdout, error = cli(
        predict_latency, "--predictor", predictor, "--csv", tmp_path / "shapes.csv"
    )
    assert code == 2
    assert stdout == ""
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_that_is_no_predictor_is_refused(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile()
    code, _, error = cli(predict_latency, "--predictor", profile, "--csv", profile / LATENCIES_FILE)
    assert code == 2
    assert "make one with fit-predictor" in error
