"""The profiles that are committed beside the modules of `device_profiles` and shipped with them."""

from __future__ import annotations

import getpass
import json
import re
import socket
from pathlib import Path

import pytest

import device_profiles
from device_profiles.measurements import STATISTICS
from device_profiles.profile import (
    JOURNAL_FILE,
    LATENCIES_FILE,
    PROFILE_FILE,
    PROFILE_FILES,
    DeviceProfile,
)
from device_profiles.rows import rows_of
from supernet.published import REFERENCE_SHAPES

MODULES = Path(device_profiles.__file__).parent
FOLDERS = sorted(path.parent for path in MODULES.glob("*/profile.json"))

# All profiles together are to stay a small part of the repository.
MOST_BYTES = 600_000

# A path of somebody's machine; ONNX Runtime's build line and CPU flags hold none.
PATH = re.compile(r"(?<![\w.])(/(home|root|Users|tmp|work|var|opt|mnt|srv|usr)\b|~/|[A-Z]:\\\\)")
# An upstream kernel version, and nothing that a distribution or a builder added.
KERNEL = re.compile(r"\d+(\.\d+)+|unavailable")


def test_profiles_of_real_machines_are_committed() -> None:
    assert FOLDERS, "device_profiles/ holds no profile"


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def profile(request: pytest.FixtureRequest) -> DeviceProfile:
    return DeviceProfile.load(request.param)


def test_it_is_whole_and_small(profile: DeviceProfile) -> None:
    # `request.json` says where a campaign stands; a committed one is finished.
    assert {path.name for path in profile.folder.iterdir()} == set(PROFILE_FILES)
    assert sum(path.stat().st_size for path in profile.folder.iterdir()) < MOST_BYTES


def test_its_rows_follow_from_its_journal(profile: DeviceProfile) -> None:
    rows = rows_of(profile.campaign(), profile.protocol)
    assert [row.verdict for row in rows] == profile.measurements.verdicts
    latencies = profile.measurements.statistics["latency_ms"].tolist()
    for row, latency_ms in zip(rows, latencies, strict=True):
        assert row.latency_ms is None or row.latency_ms == pytest.approx(latency_ms, abs=1e-6)


def test_it_is_good_enough_to_fit(profile: DeviceProfile) -> None:
    verdicts = profile.measurements.verdicts
    assert verdicts.count("ok") >= max(20, 0.9 * len(verdicts))
    assert set(profile.measurements.statistics) == set(STATISTICS)
    assert not profile.key["emulated"]
    named = {row["name"] for row in profile.references if row["verdict"] == "ok"}
    assert named >= {shape.name for shape in REFERENCE_SHAPES}


@pytest.mark.parametrize("name", PROFILE_FILES)
def test_it_says_nothing_of_whose_machine_it_was(profile: DeviceProfile, name: str) -> None:
    text = (profile.folder / name).read_text(encoding="utf-8")
    assert PATH.search(text) is None
    words = set(re.findall(r"[\w-]+", text))
    assert not words & ({socket.gethostname(), getpass.getuser()} - {"localhost"})
    if name == PROFILE_FILE:
        assert KERNEL.fullmatch(json.loads(text)["host"]["kernel"])
    if name == JOURNAL_FILE:
        first = json.loads(text.splitlines()[0])
        assert first["measurement_key"] == profile.key
    if name == LATENCIES_FILE:
        assert text.count("\n") == len(profile.measurements) + 1


@pytest.mark.parametrize(
    "text", ['"--architectures", "/home/someone/shapes.csv"', "No such file: /tmp/x", "in ~/models"]
)
def test_paths_are_found(text: str) -> None:
    assert PATH.search(text)


@pytest.mark.parametrize("text", ["build type=Release, flags: a/b", "CPU 2.4/3.1 GHz, n/a"])
def test_what_is_no_path_is_not_taken_for_one(text: str) -> None:
    assert PATH.search(text) is None
