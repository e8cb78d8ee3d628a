"""Every reader of profiles, predictors, spaces and searches, driven with mutated files.

Of a mutated file a reader says in one line what is wrong, or it reads what it read before. There
is no other way out: no traceback, no hang, no silent acceptance.
"""

from __future__ import annotations

import json
import operator
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.blocks import read_blocks
from device_profiles.comparison import compare_profiles
from device_profiles.journal import Journal, read_journal
from device_profiles.measurements import STATISTICS, read_measurements
from device_profiles.profile import (
    BLOCKS_FILE,
    JOURNAL_FILE,
    LATENCIES_FILE,
    PROFILE_FILE,
    DeviceProfile,
)
from device_profiles.rows import rows_of
from device_profiles.target import Configuration
from device_profiles.visits import CampaignRecord
from predictor.cli import fit_predictor
from predictor.lookup_table import LookupTable
from predictor.store import PREDICTOR_FILE, load_predictor
from profiler.answer import profile_answer
from profiler.recheck import choose_rows
from search.evaluation import Evaluation
from search.result import JOURNAL_FILE as EVALUATED
from search.result import (
    SEARCH_FILE,
    Candidate,
    SearchResult,
    load_search,
    read_evaluations,
    save_search,
)
from search.verification_record import FileRecord
from supernet.architecture import Architecture, to_matrix
from supernet.score import HeldOutScore
from supernet.space_file import load_space
from tests.mutations import (
    LONG,
    QUICK,
    REFUSED,
    Change,
    Path_,
    changed_json,
    mutated_bytes,
    outcome,
    picture,
    sign,
    with_duplicate_key,
)

Read = Callable[[Path], object]


def anything(_found: object, _expected: object) -> bool:
    """A file without a checksum says what stands in it now."""
    return True


def some_of_it(found: Sequence[object], expected: Sequence[object]) -> bool:
    """Of a journal that goes on, whole lines at the end may be lost; those that are there count."""
    return all(item in expected for item in found)


@dataclass(frozen=True)
class Reader:
    """A reader, and a folder that holds what it reads.

    Attributes:
        folder: a whole instance.
        file: what is mutated in it.
        read: reads the folder, uses what it read, and returns a picture of it.
        accepts: whether what was read of a mutated file, and what stood there, may be so.
        signed: whether the file has a checksum of itself.
        free: places of a JSON document that are kept and not read.
        optional: places of a JSON document that may be missing, but are nothing of another kind.
    """

    folder: Path
    file: str
    read: Read
    accepts: Callable[[Any, Any], bool] = operator.eq
    signed: bool = True
    free: Sequence[Path_] = ()
    optional: Sequence[Path_] = ()


def profile_picture(folder: Path) -> object:
    """Reads a profile and puts it to every use that this side of the program has for one."""
    profile = DeviceProfile.load(folder)
    compare_profiles(profile, profile).to_json()
    campaign = profile.campaign()
    rows_of(campaign, profile.protocol)
    choose_rows(profile, 5)
    json.dumps(profile_answer(profile).data)
    known = vars(profile) | {"folder": None, "document": None}
    return picture([known, campaign])


def blocks_picture(folder: Path) -> object:
    blocks = read_blocks(folder / BLOCKS_FILE)
    if LookupTable.has_enough(blocks):
        LookupTable.measured(blocks)
    return picture(blocks)


def predictor_picture(folder: Path) -> object:
    predictor = load_predictor(folder)
    for part in predictor.slices:
        bounds = to_matrix([Architecture(*row) for row in ([1, 128, 128, 12, 180],)])
        if not len(part.out_of_range(bounds)):
            part.predict(bounds, "quiet")
    return picture(predictor)


def search_picture(folder: Path) -> object:
    found = load_search(folder)
    found.ranked()
    return picture(found)


def read_json_space(folder: Path) -> object:
    return load_space(str(folder / "small.json")).size


def read_toml_space(folder: Path) -> object:
    return load_space(str(folder / "small.toml")).size


def measurements_picture(folder: Path) -> object:
    return picture(read_measurements(folder / LATENCIES_FILE)) | {"sha256": "", "source": ""}


def read_evaluation_journal(folder: Path) -> object:
    with Journal(folder / EVALUATED) as journal:
        return picture(list(read_evaluations(journal).items()))


# There are too few runs for some, and then nothing stands there.
PERCENTILES: Sequence[Path_] = [
    ("reference_rows", "*", name) for name in STATISTICS if name != "latency_ms"
]
SPACE = {
    "name": "small",
    "num_layers": [1, 2],
    "hidden_size": {"min": 8, "max": 16, "step": 4},
    "ffn_size": [16, 32],
    "num_heads": [2],
    "qkv_size": {"per_head": 4},
}
SPACE_TOML = (
    'name = "small"\nnum_layers = [1, 2]\nhidden_size = {min = 8, max = 16, step = 4}\n'
    "ffn_size = [16, 32]\nnum_heads = [2]\nqkv_size = {per_head = 4}\n"
)
EVALUATIONS = [
    Evaluation(
        Architecture(layers, 128, 256, 12, 180),
        HeldOutScore({"scores": 0.25, "hidden": 0.5}),
        0.125,
    )
    for layers in (1, 2, 3)
]


@pytest.fixture(scope="session")
def readers(
    tmp_path_factory: pytest.TempPathFactory, make_profile_in: Callable[..., Path]
) -> dict[str, Reader]:
    root = tmp_path_factory.mktemp("readers")
    profile = make_profile_in(root, configs=22, blocks=True)
    fit_predictor([profile], out=root / "predictor")
    (root / "space").mkdir()
    (root / "space" / "small.json").write_text(json.dumps(SPACE))
    (root / "space" / "small.toml").write_text(SPACE_TOML)
    search = root / "search"
    search.mkdir()
    facts = {"method": "evolved", "unverified": False}
    candidates = [Candidate(found, 5.1, 5.3) for found in EVALUATIONS]
    save_search(search, SearchResult(candidates, 12.0, "p50", facts))
    with Journal(search / EVALUATED) as journal:
        for found in EVALUATIONS:
            journal.append({"kind": "evaluation", **found.to_json()})
    space = root / "space"
    # What was measured before there were such options has none.
    older: list[Path_] = [
        ("reference_rows", "*", "provider_options"),
        ("slices", "*", "slice", "provider_options"),
    ]
    host_facts: Sequence[Path_] = [
        ("created_utc",),
        ("arguments",),
        ("quiet_probe_ns",),  # null where the device has no probe
        ("host", "*"),
        ("measurement_key", "*"),
        *PERCENTILES,
        *older,
    ]
    # A list of sizes is as good as a range.
    defaults: Sequence[Path_] = [("name",), ("hidden_size",), ("hidden_size", "step")]
    kept: list[Path_] = [("measurement_key",), ("measurement_key_hash",), ("seed",), ("target",)]
    kept += [*PERCENTILES, *older]
    kept += [("slices", "*", "statistics", name) for name in ("p50", "p90")]
    # A table that was not measured has no factors.
    missing: list[Path_] = [("slices", "*", "models", "lookup-table", "calibration")]
    return {
        "profile": Reader(profile, PROFILE_FILE, profile_picture, free=host_facts),
        "journal of a campaign": Reader(profile, JOURNAL_FILE, profile_picture),
        "latencies of a profile": Reader(profile, LATENCIES_FILE, profile_picture),
        "measurements": Reader(profile, LATENCIES_FILE, measurements_picture, anything),
        "blocks of a profile": Reader(profile, BLOCKS_FILE, profile_picture),
        "blocks": Reader(profile, BLOCKS_FILE, blocks_picture, anything),
        "predictor": Reader(
            root / "predictor", PREDICTOR_FILE, predictor_picture, free=kept, optional=missing
        ),
        "space in JSON": Reader(
            space, "small.json", read_json_space, anything, signed=False, free=defaults
        ),
        "space in TOML": Reader(space, "small.toml", read_toml_space, anything, signed=False),
        "search": Reader(search, SEARCH_FILE, search_picture, free=[("facts",), ("best",)]),
        "journal of a search": Reader(search, EVALUATED, read_evaluation_journal, some_of_it),
    }


NAMES = (
    *("profile", "journal of a campaign", "latencies of a profile", "measurements", "predictor"),
    *("blocks of a profile", "blocks", "space in JSON", "space in TOML", "search"),
    "journal of a search",
)
DOCUMENTS = ("profile", "predictor", "space in JSON", "search")


@pytest.fixture
def scratch(readers: dict[str, Reader], tmp_path: Path) -> Callable[[str], tuple[Reader, Path]]:
    """A copy of what a reader reads, to do anything to."""

    def make(name: str) -> tuple[Reader, Path]:
        reader = readers[name]
        return reader, Path(shutil.copytree(reader.folder, tmp_path / "copy"))

    return make


def check_bytes(reader: Reader, folder: Path, content: bytes, expected: object) -> None:
    (folder / reader.file).write_bytes(content)
    found = outcome(lambda: reader.read(folder))
    assert found is REFUSED or reader.accepts(found, expected)


Scratch = Callable[[str], tuple[Reader, Path]]


@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_file_is_refused_in_one_line_or_reads_the_same(
    scratch: Scratch, name: str
) -> None:
    reader, folder = scratch(name)
    whole = (folder / reader.file).read_bytes()
    expected = reader.read(folder)

    @QUICK
    @given(mutated_bytes(whole))
    def check(content: bytes) -> None:
        check_bytes(reader, folder, content, expected)

    check()


def check_document(reader: Reader, folder: Path, data: st.DataObject, whole: Any) -> None:
    change = data.draw(changed_json(whole))
    text = sign(change.document) if reader.signed else json.dumps(change.document)
    (folder / reader.file).write_text(text)
    found = outcome(lambda: reader.read(folder))
    if found is REFUSED or change.touches([("sha256",), *reader.free]):
        return
    if change.removed and any(
        len(change.where) == len(place) and change.touches([place]) for place in reader.optional
    ):
        return
    assert not change.of_another_kind(whole), f"took {change.value!r} at {change.where}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_signed_anew_with_a_value_of_another_kind_is_refused(
    scratch: Scratch, name: str
) -> None:
    reader, folder = scratch(name)
    whole = json.loads((folder / reader.file).read_text())

    @QUICK
    @given(st.data())
    def check(data: st.DataObject) -> None:
        check_document(reader, folder, data, whole)

    check()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_key_that_stands_there_twice_is_refused(scratch: Scratch, name: str) -> None:
    reader, folder = scratch(name)
    path = folder / reader.file
    text = path.read_text()
    for key in json.loads(text):
        path.write_text(with_duplicate_key(text, key))
        assert outcome(lambda: reader.read(folder)) is REFUSED, key


def read_verification(records: Sequence[Any]) -> object:
    return picture(FileRecord.from_journal(records, "f" * 64, ("candidate", "reference")))


VISIT = {
    "kind": "visit",
    "model_sha256": "f" * 64,
    "try": 1,
    "round": 1,
    "position": 1,
    "of": "candidate",
    "runs_ns": [10, 11],
    "started_s": 0.5,
    "elapsed_s": 1.5,
}
VERIFICATION = [
    VISIT,
    {**VISIT, "position": 2, "of": "reference"},
    {**VISIT, "kind": "failure", "error": "out of memory"},
    {**VISIT, "kind": "void", "reason": "a busy machine", "wait_s": 60.0},
    {**VISIT, "kind": "verdict", "outcome": "failed", "reason": "too slow"},
]


@pytest.mark.parametrize(
    "kind", ["campaign", "round", "visit", "failure", "cut", "extended", "stopped"]
)
def test_a_record_of_a_campaign_with_a_value_of_another_kind_is_refused(
    readers: dict[str, Reader], kind: str
) -> None:
    path = readers["journal of a campaign"].folder / JOURNAL_FILE
    whole = read_journal(path)
    common = {"configuration": 0, "round": 1, "block": 1, "elapsed_s": 2.0}
    added = [Configuration(Architecture.parse("3-256-512-4-256")).to_json()]
    made: dict[str, Any] = {
        "failure": {**common, "error": "hung"},
        "cut": {"configurations": 3},
        "extended": {"configurations": added, "promised_error": 0.03},
    }
    record = next((found for found in whole if found["kind"] == kind), None)
    record = {"kind": kind, **made[kind]} if record is None else record
    head = [] if kind == "campaign" else whole[:1]
    CampaignRecord.from_journal([*head, record])

    @QUICK
    @given(changed_json(record))
    def check(change: Change) -> None:
        found = outcome(lambda: picture(CampaignRecord.from_journal([*head, change.document])))
        kept = change.touches([("facts", "*"), ("measurement_key", "*")])
        assert found is REFUSED or kept or not change.of_another_kind(record), change

    check()


@pytest.mark.parametrize("index", range(len(VERIFICATION)))
def test_a_record_of_a_verification_with_a_value_of_another_kind_is_refused(index: int) -> None:
    record = VERIFICATION[index]
    read_verification(VERIFICATION)

    @QUICK
    @given(changed_json(record))
    def check(change: Change) -> None:
        records = [*VERIFICATION[:index], change.document, *VERIFICATION[index + 1 :]]
        found = outcome(lambda: read_verification(records))
        # A record of another file is passed over; of a verdict only some values are read.
        unread = {*record} - READ_OF[str(record["kind"])] | {"model_sha256"}
        kept = change.touches([(name,) for name in unread])
        assert found is REFUSED or kept or not change.of_another_kind(record), change

    check()


READ_OF = {
    "visit": {"kind", "try", "round", "position", "of", "runs_ns", "started_s", "elapsed_s"},
    "failure": {"kind", "try", "error", "elapsed_s"},
    "void": {"kind", "try", "reason", "wait_s", "elapsed_s"},
    "verdict": {"kind", "outcome", "reason", "elapsed_s"},
}


@pytest.mark.parametrize("record", [None, [], "visit", 7, {}, {"kind": ["visit"]}])
def test_a_journal_line_that_is_no_record_is_refused(record: Any) -> None:
    assert outcome(lambda: CampaignRecord.from_journal([record])) is REFUSED
    assert outcome(lambda: read_verification([record])) is REFUSED


@pytest.mark.parametrize(
    "change",
    [
        {"runs_ns": "123"},
        {"runs_ns": {"1": 2}},
        {"runs_ns": [1.5]},
        {"runs_ns": [True]},
        {"runs_ns": [10**400]},
        {"started_s": "1"},
        {"elapsed_s": 10**400},
        {"elapsed_s": -1.0},
        {"configuration": True},
        {"facts": []},
        {"block": 0},
    ],
)
def test_a_visit_with_a_value_that_python_would_convert_is_refused(
    readers: dict[str, Reader], change: dict[str, Any]
) -> None:
    whole = read_journal(readers["journal of a campaign"].folder / JOURNAL_FILE)
    head, visit = whole[:2], whole[2]
    assert CampaignRecord.from_journal([*head, visit]).visits
    assert outcome(lambda: CampaignRecord.from_journal([*head, {**visit, **change}])) is REFUSED


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_mutations_are_refused_or_read_the_same(scratch: Scratch, name: str) -> None:
    reader, folder = scratch(name)
    whole = (folder / reader.file).read_bytes()
    document = json.loads(whole) if name in DOCUMENTS else None
    expected = reader.read(folder)

    @LONG
    @given(st.data())
    def check(data: st.DataObject) -> None:
        if document is not None and data.draw(st.booleans()):
            check_document(reader, folder, data, document)
        else:
            check_bytes(reader, folder, data.draw(mutated_bytes(whole)), expected)

    check()
