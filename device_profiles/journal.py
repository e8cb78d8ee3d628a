"""The journal: an append-only record of a campaign that survives a crash at any moment.

One JSON object a line, each with a checksum of its own. A line counts as written once it is on
the disk, so what a campaign acknowledged is never lost. A crash can tear only the last line;
that one is dropped when the campaign goes on. Any other damage is an error.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from autotinybert.errors import DamagedFileError, InputError, WorkError
from autotinybert.files import canonical_json
from autotinybert.values import parse_json

_CHECKSUM = "crc32"


def _encode(record: Mapping[str, Any]) -> bytes:
    checksum = f"{zlib.crc32(canonical_json(dict(record)).encode()):08x}"
    return (canonical_json({**record, _CHECKSUM: checksum}) + "\n").encode()


def _decode(line: bytes) -> dict[str, Any] | None:
    """The record that a line holds, or None if the line is damaged."""
    try:
        record = parse_json(line)
        checksum = record.pop(_CHECKSUM)
        actual = f"{zlib.crc32(canonical_json(record).encode()):08x}"
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return None
    return record if checksum == actual else None


def read_journal(path: Path, *, allow_torn_end: bool = False) -> list[dict[str, Any]]:
    """All records of a journal, in order.

    Args:
        path: the file.
        allow_torn_end: accept a last line that a crash cut short, and leave it out.

    Raises:
        DamagedFileError: if the file cannot be read, or a line is damaged; names the line.
    """
    return _parse(path, allow_torn_end=allow_torn_end)[0]


def _parse(path: Path, *, allow_torn_end: bool) -> tuple[list[dict[str, Any]], int]:
    """The records, and how many bytes of the file they take."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedFileError(f"cannot read {path}: {error.strerror}") from error
    records: list[dict[str, Any]] = []
    valid_bytes = 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        record = _decode(line) if line.endswith(b"\n") else None
        if record is None:
            if number == len(lines) and allow_torn_end:
                break
            raise DamagedFileError(
                f"{path} line {number} is torn or edited: restore the file, or remove the folder "
                "and measure again"
            )
        records.append(record)
        valid_bytes += len(line)
    return records, valid_bytes


class Journal:
    """A journal open for appending, by one process at a time.

    Args:
        path: the file.
        fresh: empty it, once nobody else has it open.
        write: writes bytes to a descriptor and returns how many.

    Attributes:
        path: the file.
        records: what it holds, oldest first.

    Raises:
        InputError: if it cannot be opened, or another process has it open.
        DamagedFileError: if it is damaged anywhere but in its last line.
    """

    def __init__(
        self,
        path: Path,
        *,
        fresh: bool = False,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self.path = path
        self._write = write
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fresh:
                os.ftruncate(self._descriptor, 0)
            self.records, valid_bytes = _parse(path, allow_torn_end=True)
            os.ftruncate(self._descriptor, valid_bytes)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise InputError(
                f"another campaign is writing {path}: wait for it, or choose another --out"
            ) from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record; on return it is on the disk.

        Raises:
            WorkError: if the disk is full or gone; a line cut short by it is taken back.
        """
        line = _encode(record)
        end = os.fstat(self._descriptor).st_size
        try:
            # A short write is how a disk says that it is filling up.
            if self._write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, end)
            raise WorkError(
                f"cannot write {self.path}: {error.strerror}; what was measured before is kept: "
                "make room, then run the same command again to go on"
            ) from error
        self.records.append(json.loads(line))
        self.records[-1].pop(_CHECKSUM)

    def clear(self) -> None:
        """Forgets every record."""
        os.ftruncate(self._descriptor, 0)
        self.records = []

    def close(self) -> None:
        """Closes the file and lets others open it."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
