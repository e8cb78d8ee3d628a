"""Commands on a disk that is full, or a folder that nobody can write to: one line, nothing half.

The disk is the real one with a limit on the size of a file, set in a child process: a write beyond
it fails as on a full disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autotinybert.files import REQUEST_FILE
from device_profiles.journal import read_journal
from device_profiles.profile import JOURNAL_FILE, LATENCIES_FILE, PROFILE_FILE
from profiler.host import host_facts

ROOT = Path(__file__).resolve().parent.parent
TARGET = {"x86_64": "cpu-x86", "aarch64": "cpu-arm"}[host_facts()["machine"]]

# `signal`: a process that writes beyond the limit is killed unless it says otherwise.
LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
module = sys.argv[2]
sys.argv = sys.argv[2:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
FIT = "from predictor.cli import fit_predictor_main as main; main()"


def run(code: str, *argv: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_campaign_on_a_full_disk_stops_in_one_line_and_keeps_what_it_has(
    tmp_path: Path,
) -> None:
    shapes = tmp_path / "shapes.csv"
    shapes.write_text("num_layers,hidden_size,ffn_size,num_heads,qkv_size\n1,16,32,2,24\n")
    out = tmp_path / "profile"
    options = ("profiler.cli", "--target", TARGET, "--sequence-length", 4)
    files = ("--architectures", shapes, "--out", out)
    code, stdout, error = run(LIMITED, 2600, *options, *files)
    assert (code, stdout, error.count("\n")) == (1, "", 1)
    # The write is cut short, or refused, as the limit happens to fall.
    assert "No space left on device" in error or "File too large" in error
    assert "what was measured before is kept: make room, then run the same command" in error
    assert len(read_journal(out / JOURNAL_FILE)) >= 2
    assert json.loads((out / REQUEST_FILE).read_text())["status"] == "unfinished"
    assert not (out / PROFILE_FILE).exists()


def test_a_fit_on_a_full_disk_leaves_no_file_that_is_half_written(
    tmp_path: Path, make_profile: Callable[..., Path]
) -> None:
    profile, out = make_profile(configs=25), tmp_path / "predictor"
    limited = LIMITED.split("module =")[0] + "del sys.argv[1]\n" + FIT
    code, stdout, error = run(limited, 1000, profile, "--out", out)
    assert (code, stdout, error.count("\n")) == (1, "", 1)
    assert "File too large" in error
    assert "make room or fix access, then run it again" in error
    written = {path.name for path in out.iterdir()}
    assert written <= {REQUEST_FILE, "training_rows.csv"}
    code, _, error = run(limited, 10**8, profile, "--out", out)
    assert (code, error) == (0, "")


@pytest.mark.parametrize(
    ("code", "argv"),
    [
        (LIMITED, (10**8, "profiler.cli", "--target", TARGET)),
        (FIT, ("{profile}",)),
    ],
    ids=["profile-device", "fit-predictor"],
)
def test_a_folder_that_cannot_be_made_is_bad_input(
    tmp_path: Path, make_profile: Callable[..., Path], code: str, argv: tuple[object, ...]
) -> None:
    profile = make_profile(configs=25)
    latencies = (profile / LATENCIES_FILE).read_bytes()
    given = [profile if argument == "{profile}" else argument for argument in argv]
    # Below a file nobody can make a folder, whoever they are.
    for out in (profile / LATENCIES_FILE / "below", Path("/proc/nothing/here")):
        result, stdout, error = run(code, *given, "--out", out)
        assert (result, stdout, error.count("\n")) == (2, "", 1)
        assert "--out" in error
        assert "choose another folder" in error
    assert (profile / LATENCIES_FILE).read_bytes() == latencies
