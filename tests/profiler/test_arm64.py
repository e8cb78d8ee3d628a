"""The base wheel on aarch64 code, run by an emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autotinybert.errors import WorkError
from device_profiles.profile import DeviceProfile
from scripts.arm64_tree import (
    NEEDED_TOOLS,
    UnreachableError,
    debian_mirror,
    main,
    make_tree,
    removed_on_failure,
    run_program,
)
from supernet.published import REFERENCE_SHAPES


@pytest.mark.slow
def test_the_base_wheel_profiles_on_aarch64_code_and_says_that_it_was_emulated(
    tmp_path: Path,
) -> None:
    missing = [tool for tool in NEEDED_TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no {missing[0]} on this machine")
    try:
        python = make_tree(tmp_path / "tree")
    except UnreachableError as error:
        pytest.skip(str(error))
    try:
        done = subprocess.run(
            [
                *(python, "-m", "profiler.cli", "--target", "cpu-arm", "--configs", "2"),
                # Under emulation a run of BERT-base takes seconds for as little as 16 tokens.
                *("--sequence-length", "2", "--out", "profile", "--json"),
            ],
            # In the checkout, its packages would be taken instead of the wheel's.
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(tmp_path / "tree")  # large, and pytest keeps the folders of tests
    # 1: no row is `ok`. An emulator translates code while it runs, so its rows may all be noisy.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert json.loads(done.stdout)["profile"] == "profile"
    profile = DeviceProfile.load(tmp_path / "profile")
    assert profile.target == "cpu-arm"
    assert profile.host["machine"] == "aarch64"
    assert "asimd" in profile.host["isa_flags"]
    assert profile.key["emulated"] is True
    assert profile.host["emulation_evidence"].startswith("the kernel runs ")
    assert len(profile.measurements) == len(REFERENCE_SHAPES) + 2
    assert "rejected" not in profile.measurements.verdicts


@pytest.mark.parametrize(
    ("targets", "mirror"),
    [
        ("", None),
        ("Debian bookworm main http://one/debian/\n", "http://one/debian/"),
        (
            "Debian bookworm contrib http://no/\nDebian bookworm-updates main http://no/\n"
            "Debian bookworm main https://two/debian/\nDebian bookworm main http://three/\n",
            "https://two/debian/",
        ),
        ("Ubuntu noble main http://ubuntu/\nDebian trixie main http://later/\n", None),
        ("Debian bookworm main cdrom://disc/\nDebian bookworm main\n\n", None),
    ],
)
def test_the_mirror_is_the_one_that_apt_has_for_the_suite(targets: str, mirror: str | None) -> None:
    assert debian_mirror(targets) == mirror


def test_a_tree_is_never_made_over_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is there: name a folder that is not" in error or "on this machine: apt-get" in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_tree_that_failed_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tree" / "root").mkdir(parents=True)
    with pytest.raises(WorkError, match="no space"), removed_on_failure(tmp_path / "tree"):
        raise WorkError("no space")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("E: Failed getting release file http://somewhere", UnreachableError),
        ("WARNING: Retrying after connection broken by 'NewConnectionError'", UnreachableError),
        ("ERROR: No matching distribution found for numpy==0.0.0", WorkError),
    ],
)
def test_a_program_that_fails_is_quoted_and_a_dead_network_told_from_a_defect(
    said: str, kind: type[WorkError]
) -> None:
    with pytest.raises(WorkError) as failure:
        run_program([sys.executable, "-c", f"import sys; print('begun'); sys.exit({said!r})"])
    assert type(failure.value) is kind
    assert str(failure.value).endswith(f": {said}")
