from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autotinybert.errors import DamagedFileError, InputError
from device_profiles.measurements import read_measurements
from device_profiles.profile import DeviceProfile
from predictor.fitting import fit_slices
from predictor.model import LatencyPredictor
from predictor.store import (
    LOOKUP_FILE,
    PREDICTOR_FILE,
    TRAINING_FILE,
    load_predictor,
    save_predictor,
)
from supernet.architecture import Architecture, to_matrix
from supernet.space import kd_space


@pytest.fixture
def stored(make_profile: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    profile = DeviceProfile.load(make_profile(configs=40))

    def store(name: str) -> Path:
        fits = fit_slices(profile.measurements)
        predictor = LatencyPredictor(
            [fit.predictor for fit in fits],
            profile.key,
            profile.target,
            profile.references,
            ["profile"],
        )
        folder = tmp_path / name
        folder.mkdir()
        save_predictor(folder, predictor, fits, seed=0)
        return folder

    return store


def test_a_predictor_reads_back_and_predicts_the_same(
    stored: Callable[[str], Path], make_profile: Callable[..., Path]
) -> None:
    measurements = DeviceProfile.load(make_profile("again", configs=40)).measurements
    (fit,) = fit_slices(measurements)
    read = load_predictor(stored("predictor"))
    shapes = to_matrix(kd_space().sample(np.random.default_rng(0), 500))
    for statistic in ("quiet", "p50"):
        ours = fit.predictor.predict(shapes, statistic)
        theirs = read.slices[0].predict(shapes, statistic)
        np.testing.assert_array_equal(ours.latency_ms, theirs.latency_ms)
        np.testing.assert_array_equal(ours.high_ms, theirs.high_ms)
    assert read.target == "cpu-x86"
    assert read.key is not None
    assert read.references[0]["name"] == "BERT-base"


def test_the_same_measurements_and_seed_give_the_same_bytes(stored: Callable[[str], Path]) -> None:
    first, second = stored("first"), stored("second")
    for name in (PREDICTOR_FILE, TRAINING_FILE, LOOKUP_FILE):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_predictor_from_before_there_were_provider_options_still_answers(
    stored: Callable[[str], Path],
) -> None:
    from autotinybert.files import canonical_json, sha256_text

    path = stored("predictor") / PREDICTOR_FILE
    expected = load_predictor(path.parent).slices[0].slice
    document = json.loads(path.read_text())
    document.pop("sha256")
    del document["slices"][0]["slice"]["provider_options"]
    path.write_text(json.dumps({**document, "sha256": sha256_text(canonical_json(document))}))
    assert load_predictor(path.parent).slices[0].slice == expected


@pytest.mark.parametrize("damage", ["edited", "truncated", "emptied", "signed nonsense"])
def test_a_damaged_predictor_is_refused(stored: Callable[[str], Path], damage: str) -> None:
    from autotinybert.files import canonical_json, sha256_text

    path = stored("predictor") / PREDICTOR_FILE
    text = path.read_text()
    if damage == "signed nonsense":
        document = json.loads(text)
        document["slices"][0]["chosen"] = "crystal ball"
        document.pop("sha256")
        document["sha256"] = sha256_text(canonical_json(document))
        path.write_text(json.dumps(document))
    else:
        changed = {"edited": text.replace("12", "13", 1), "truncated": text[:500], "emptied": ""}
        path.write_text(changed[damage])
    with pytest.raises(DamagedFileError, match=r"fit it again|make it anew"):
        load_predictor(path.parent)


def test_other_documents_and_later_versions_are_refused(
    stored: Callable[[str], Path], tmp_path: Path
) -> None:
    path = stored("predictor") / PREDICTOR_FILE
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "schema_version": 3}))
    with pytest.raises(InputError, match="schema version 3, this version reads up to 2"):
        load_predictor(path.parent)
    path.write_text("{}")
    with pytest.raises(DamagedFileError, match="is no latency predictor"):
        load_predictor(path.parent)
    with pytest.raises(InputError, match=r"no predictor in .*: make one with fit-predictor"):
        load_predictor(tmp_path)


def test_training_rows_are_a_measurements_file(stored: Callable[[str], Path]) -> None:
    folder = stored("predictor")
    rows = read_measurements(folder / TRAINING_FILE)
    assert len(rows) == 42
    (fit,) = fit_slices(rows)
    assert fit.predictor.rows == 42


def test_the_lookup_table_is_a_spreadsheet_of_blocks(stored: Callable[[str], Path]) -> None:
    with (stored("predictor") / LOOKUP_FILE).open() as file:
        rows = list(csv.DictReader(file))
    assert {row["block"] for row in rows} == {"embedding", "attention", "ffn", "head"}
    assert all(float(row["latency_ms"]) >= 0 for row in rows)
    ffn = [float(row["latency_ms"]) for row in rows if row["block"] == "ffn"]
    assert ffn[-1] == max(ffn)


GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize("folder", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_a_predictor_of_every_schema_version_still_says_what_it_said(folder: Path) -> None:
    """`expected.json` was written beside each by the version that made it."""
    predictor = load_predictor(folder)
    expected = json.loads((folder / "expected.json").read_text())
    shapes = to_matrix([Architecture.parse(name) for name in expected["model_ids"]])
    for statistic, columns in expected["statistics"].items():
        found = predictor.slices[0].predict(shapes, statistic)
        for name, values in columns.items():
            np.testing.assert_allclose(getattr(found, name), values, rtol=1e-9)


def test_there_is_a_golden_predictor_of_every_schema_version() -> None:
    from predictor.store import SCHEMA_VERSION

    names = [f"version-{number}" for number in range(1, SCHEMA_VERSION + 1)]
    assert sorted(path.name for path in GOLDEN.iterdir()) == names
