from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotinybert.errors import DamagedFileError, InputError, WorkError
from device_profiles.journal import Journal, read_journal

RECORDS = [{"kind": "visit", "number": number, "runs_ns": [1, 2, number]} for number in range(5)]


def written(path: Path) -> Path:
    with Journal(path) as journal:
        for record in RECORDS:
            journal.append(record)
    return path


def test_what_was_appended_reads_back(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    assert read_journal(path) == RECORDS
    with Journal(path) as journal:
        assert journal.records == RECORDS


@pytest.mark.parametrize("keep", range(1, 40, 3))
def test_a_torn_last_line_is_dropped_when_the_campaign_goes_on(tmp_path: Path, keep: int) -> None:
    path = written(tmp_path / "journal")
    whole = path.read_bytes()
    start_of_last = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: start_of_last + keep])
    with pytest.raises(DamagedFileError, match="line 5 is torn"):
        read_journal(path)
    with Journal(path) as journal:
        assert journal.records == RECORDS[:4]
        journal.append(RECORDS[4])
    assert path.read_bytes() == whole


def test_damage_before_the_last_line_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"[1,2,2]", b"[1,2,9]")
    path.write_bytes(b"".join(lines))
    with pytest.raises(DamagedFileError, match="line 3 is torn or edited"):
        read_journal(path)
    before = path.read_bytes()
    with pytest.raises(DamagedFileError, match="line 3"):
        Journal(path)
    assert path.read_bytes() == before


@given(position=st.integers(0, 10**6), byte=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_no_change_of_a_byte_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    path = written(tmp_path_factory.mktemp("journal") / "journal")
    content = bytearray(path.read_bytes())
    position %= len(content)
    if content[position] == byte:
        return
    content[position] = byte
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedFileError):
        read_journal(path)


def test_a_second_writer_is_refused_while_the_first_is_there(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    with Journal(path), pytest.raises(InputError, match="another campaign is writing"):
        Journal(path)
    with Journal(path) as journal:
        assert len(journal.records) == 5


def refuse(descriptor: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "write", [lambda descriptor, data: os.write(descriptor, data[:7]), refuse], ids=["short", "no"]
)
def test_a_full_disk_leaves_the_journal_whole_and_says_how_to_go_on(
    tmp_path: Path, write: Callable[[int, bytes], int]
) -> None:
    path = written(tmp_path / "journal")
    with (
        Journal(path, write=write) as journal,
        pytest.raises(WorkError, match=r"No space left on device; .* the same command again"),
    ):
        journal.append({"kind": "visit"})
    assert read_journal(path) == RECORDS
    with Journal(path) as journal:
        journal.append({"kind": "visit"})
    assert len(read_journal(path)) == len(RECORDS) + 1


def test_lines_are_plain_json_with_a_checksum(tmp_path: Path) -> None:
    line = written(tmp_path / "journal").read_text().splitlines()[0]
    assert set(json.loads(line)) == {"kind", "number", "runs_ns", "crc32"}


def test_a_journal_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="cannot read"):
        read_journal(tmp_path / "absent")
    with pytest.raises(InputError, match="cannot write"):
        Journal(tmp_path / "absent" / "journal")
