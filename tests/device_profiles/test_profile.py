from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import canonical_json, sha256_text
from device_profiles.profile import (
    JOURNAL_FILE,
    LATENCIES_FILE,
    PROFILE_FILE,
    DeviceProfile,
    check_same_key,
)
from device_profiles.rows import rows_of
from device_profiles.target import Target, Workload
from supernet.architecture import Architecture
from supernet.published import MINILM_L6

MakeProfile = Callable[..., Path]


def test_a_saved_profile_reads_back(make_profile: MakeProfile) -> None:
    profile = DeviceProfile.load(make_profile(configs=25))
    assert profile.target == "cpu-x86"
    assert len(profile.measurements) == 27
    assert set(profile.measurements.verdicts) == {"ok"}
    assert [row["name"] for row in profile.references] == ["BERT-base", "MiniLM-L6"]
    assert profile.references[0]["latency_ms"] > profile.references[1]["latency_ms"]


def test_further_references_are_named_by_their_shape(make_profile: MakeProfile) -> None:
    teacher = Architecture(4, 312, 1200, 12, 312)
    references = [teacher, MINILM_L6.architecture]
    profile = DeviceProfile.load(make_profile(configs=3, references=references))
    names = [row["name"] for row in profile.references]
    assert sorted(names) == ["4-312-1200-12-312", "BERT-base", "MiniLM-L6"]
    by_name = {row["name"]: row for row in profile.references}
    assert by_name[str(teacher)]["latency_ms"] < by_name["MiniLM-L6"]["latency_ms"]
    assert len(profile.measurements) == 3 + 3


def test_rows_on_disk_are_those_that_follow_from_the_journal(make_profile: MakeProfile) -> None:
    profile = DeviceProfile.load(make_profile(configs=25))
    rows = rows_of(profile.campaign(), profile.protocol)
    np.testing.assert_allclose(
        profile.measurements.statistics["latency_ms"],
        [row.latency_ms or np.nan for row in rows],
        rtol=1e-6,
    )
    assert np.isnan(profile.measurements.statistics["p99_ms"]).all()


def test_workloads_and_targets_are_columns_of_one_profile(make_profile: MakeProfile) -> None:
    profile = DeviceProfile.load(
        make_profile(
            configs=3,
            workloads=[Workload(1, 32), Workload(2, 128)],
            targets=[Target(threads=1), Target(threads=2)],
        )
    )
    assert len(profile.measurements) == (3 + 2) * 4
    assert {values[:3] for values in profile.measurements.slices} == {
        (32, 1, 1),
        (32, 1, 2),
        (128, 2, 1),
        (128, 2, 2),
    }
    assert len(profile.references) == 2 * 4


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(
            [JOURNAL_FILE, LATENCIES_FILE, PROFILE_FILE], ["edited", "truncated", "emptied"]
        ),
        (JOURNAL_FILE, "removed"),
        (LATENCIES_FILE, "removed"),
        (PROFILE_FILE, "infinite"),
    ],
)
def test_a_torn_truncated_or_edited_file_is_refused_by_name(
    make_profile: MakeProfile, name: str, damage: str
) -> None:
    folder = make_profile(configs=3)
    path = folder / name
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    elif damage == "infinite":
        path.write_bytes(content.replace(b'"elapsed_s": ', b'"elapsed_s": 1e999, "x": '))
    elif damage == "edited":
        path.write_bytes(content.replace(b"128", b"129", 1))
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(DamagedFileError, match=name):
        DeviceProfile.load(folder)


def test_an_unfinished_profile_says_how_to_go_on(make_profile: MakeProfile) -> None:
    folder = make_profile(configs=3)
    (folder / PROFILE_FILE).unlink()
    with pytest.raises(InputError, match="unfinished: run the same profile-device command again"):
        DeviceProfile.load(folder)


def test_a_folder_without_a_profile_says_how_to_make_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="make one with profile-device"):
            DeviceProfile.load(folder)


def rewritten(folder: Path, **changes: Any) -> Path:
    """A profile whose document was changed by somebody who knows how to sign it."""
    path = folder / PROFILE_FILE
    document = {**json.loads(path.read_text()), **changes}
    document.pop("sha256")
    path.write_text(json.dumps({**document, "sha256": sha256_text(canonical_json(document))}))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, "schema version 99, this version reads up to 2"),
        ({"schema_version": 1}, "of before visits were checked for competing load: profile"),
        ({"kind": "sandwich"}, "is no device profile"),
        ({"checksums": None}, "has no checksums"),
        ({"protocol": {"visits": 4}}, "protocol: its keys"),
        ({"protocol": None}, "protocol: its keys"),
    ],
)
def test_a_document_of_another_kind_or_version_is_refused(
    make_profile: MakeProfile, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        DeviceProfile.load(rewritten(make_profile(configs=3), **changes))


def test_profiles_of_different_machines_do_not_mix_and_the_fields_are_named(
    make_profile: MakeProfile,
) -> None:
    first = DeviceProfile.load(make_profile("first", configs=3))
    other_host = {**first.host, "onnxruntime_version": "1.1", "cpu_count": 4}
    second = DeviceProfile.load(make_profile("second", configs=3, host=other_host))
    check_same_key([first, first])
    with pytest.raises(InputError, match=r"cpu_count 2 / 4; onnxruntime_version 1\.0 / 1\.1"):
        check_same_key([first, second])
