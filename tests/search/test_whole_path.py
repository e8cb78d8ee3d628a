"""`autotinybert` as a program, on this machine: measured for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autotinybert.files import read_signed_json


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_whole_path_survives_a_kill_and_hands_out_nothing_that_was_not_verified(
    tmp_path: Path, teacher_folder: Path, text_file: Path, precision: str
) -> None:
    target = {"x86_64": "cpu-x86", "aarch64": "cpu-arm"}[os.uname().machine]
    out = tmp_path / "out"
    command: list[str | Path] = [
        *(sys.executable, "-m", "search.pipeline_cli", "--json"),
        *("--teacher", teacher_folder, "--target", target, "--corpus", text_file),
        *("--precision", precision),
        # A speed-up is a ratio to what is measured beside it: a noisy machine can be judged, too.
        *("--speedup", "20", "--training-sequence-length", "16", "--configs", "20"),
        *("--supernet-minutes", "0.05", "--train-minutes", "0.05", "--evaluations", "8"),
        *("--shortlist", "4", "--tries", "2", "--out", out),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as first:
        deadline_s = time.monotonic() + 300
        while not (out / "predictor" / "predictor.json").exists():
            assert first.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline_s, "it hangs"
            time.sleep(0.05)
        first.kill()
    profiled = (out / "profile" / "profile.json").stat().st_mtime_ns

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert (out / "profile" / "profile.json").stat().st_mtime_ns == profiled, "measured twice"
    assert (out / "report.html").exists()
    if done.returncode == 0:
        verification = read_signed_json(
            out / "model" / "verification.json", kind="verification", schema_version=1, remedy=""
        )
        assert verification["outcome"] == "passed"
        assert verification["speedup_lower"] >= 20
        assert verification["precision"] == answer["file_score"]["precision"] == precision
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert json.loads(again.stdout)["finished_before"]
    else:
        assert done.returncode == 1, done.stderr
        assert answer["outcome"] in ("failed", "undecided")
        assert answer["model"] is None
        assert not (out / "model").exists()
