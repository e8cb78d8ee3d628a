"""Files that are whole or absent, and the rule for `--out` folders.

An output folder belongs to one request. `request.json` in it says which, and whether it is
finished, so that the same command typed again resumes or says that it is done, and a different
command never mixes its files with those already there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, AnyStr, Literal

from autotinybert.errors import DamagedFileError, InputError, OccupiedFolderError
from autotinybert.values import parse_json

REQUEST_FILE = "request.json"

_CHECKSUM = "sha256"

OutputState = Literal["new", "unfinished", "finished"]


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text.

    Raises:
        ValueError: for NaN or infinity, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_text(text: str) -> str:
    """The SHA-256 of `text` in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_bytes(content: bytes) -> str:
    """The SHA-256 of `content`, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def whole_file(path: Path) -> AbstractContextManager[IO[str]]:
    """Opens a text file for writing that appears under its name complete or not at all.

    Raises:
        InputError: if the folder cannot be written.
    """
    return _whole(path, lambda descriptor: os.fdopen(descriptor, "w", encoding="utf-8", newline=""))


def whole_binary_file(path: Path) -> AbstractContextManager[IO[bytes]]:
    """Opens a file of bytes for writing that appears under its name complete or not at all.

    Raises:
        InputError: if the folder cannot be written.
    """
    return _whole(path, lambda descriptor: os.fdopen(descriptor, "wb"))


@contextlib.contextmanager
def _whole(path: Path, wrap: Callable[[int], IO[AnyStr]]) -> Iterator[IO[AnyStr]]:
    """Writes through the file that `wrap` makes of a descriptor, then gives it its name."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(
            f"cannot write in {path.parent}: {error.strerror}; choose a folder you can write to"
        ) from error
    try:
        with wrap(descriptor) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a result is as readable as any other new file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        # A full disk does not say which file it was.
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with whole_file(path) as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.write("\n")


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds one object.

    Raises:
        DamagedFileError: if it cannot be read, is no JSON, or is not one object.
    """
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
        canonical_json(value)  # refuses numbers so large that they are read as infinity
    except OSError as error:
        raise DamagedFileError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(
            f"{path} is not valid JSON (torn, truncated or edited?): make it anew"
        ) from error
    if not isinstance(value, dict):
        raise DamagedFileError(f"{path} does not hold one JSON object: make it anew")
    return value


def write_signed_json(path: Path, document: Mapping[str, Any]) -> None:
    """Writes an object with a checksum of itself, whole or not at all."""
    write_json(path, {**document, _CHECKSUM: sha256_text(canonical_json(dict(document)))})


def read_signed_json(path: Path, *, kind: str, schema_version: int, remedy: str) -> dict[str, Any]:
    """Reads what `write_signed_json` wrote.

    Args:
        path: the file.
        kind: what its `kind` must be.
        schema_version: the latest `schema_version` that can be read.
        remedy: what to do if it is damaged.

    Returns:
        The object, without its checksum.

    Raises:
        InputError: if it is of a later version.
        DamagedFileError: if it is of another kind, or was torn, truncated or edited.
    """
    document = read_json_object(path)
    version = document.get("schema_version")
    if document.get("kind") != kind or type(version) is not int or version < 1:
        raise DamagedFileError(f"{path} is no {kind.replace('-', ' ')}: {remedy}")
    if version > schema_version:
        raise InputError(
            f"{path} has schema version {version}, this version reads up to {schema_version}: "
            "update autotinybert"
        )
    if document.pop(_CHECKSUM, None) != sha256_text(canonical_json(document)):
        raise DamagedFileError(f"{path} is torn, truncated or edited: {remedy}")
    return document


def check_apart(out: Path, inputs: Mapping[str, Path]) -> None:
    """Refuses an output folder that is read from: `--overwrite` would destroy it.

    Args:
        out: the folder asked for.
        inputs: folders or files that are read, by what they are.

    Raises:
        InputError: naming the one that it is.
    """
    for what, path in inputs.items():
        if out.resolve() == path.resolve():
            raise InputError(f"--out {out} is {what}: choose another folder")


@dataclass(frozen=True)
class OutputFolder:
    """One command's output folder, and what it already holds.

    Attributes:
        path: the folder; it may not exist yet.
        command: the name of the command that writes it.
        request: everything that decides its contents, as JSON values.
        state: what was found when it was claimed.
    """

    path: Path
    command: str
    request: Mapping[str, Any]
    state: OutputState

    @classmethod
    def claim(
        cls,
        path: Path,
        command: str,
        request: Mapping[str, Any],
        *,
        files: Sequence[str],
        overwrite: bool = False,
    ) -> OutputFolder:
        """Decides what `--out path` means for this request; changes nothing on disk.

        Args:
            path: the folder asked for.
            command: the command's name.
            request: everything that decides the contents.
            files: the names of the files the command writes; a folder that lacks one of them is
                not finished.
            overwrite: replace another request's files, or this one's finished ones, instead of
                refusing. Files that the command does not write are left alone, and what is
                unfinished is resumed all the same.

        Raises:
            OccupiedFolderError: if the folder belongs to something else.
            InputError: if it cannot be read.
        """
        if path.exists() and not path.is_dir():
            raise InputError(f"--out {path} is a file: name a folder")
        try:
            present = {entry.name for entry in path.iterdir()} if path.exists() else set()
        except OSError as error:
            raise InputError(
                f"cannot read --out {path}: {error.strerror}; choose another folder"
            ) from error
        # What a write that was killed left behind is nobody's work.
        ours = tuple(f".{name}." for name in (*files, REQUEST_FILE))
        present = {name for name in present if not name.startswith(ours)}
        # A journal that was opened and not written to is nobody's work either.
        present -= {name for name in files if _is_empty_file(path / name)}
        if not present:
            return cls(path, command, request, "new")
        why = f"holds other files ({', '.join(sorted(present)[:3])})"
        if REQUEST_FILE in present:
            try:
                found = read_json_object(path / REQUEST_FILE)
            except DamagedFileError:
                found = {}
            if found.get("command") == command and found.get("request") == dict(request):
                finished = found.get("status") == "finished" and present.issuperset(files)
                state: OutputState = "unfinished"
                if finished:
                    state = "new" if overwrite else "finished"
                return cls(path, command, request, state)
            why = f"holds a different request ({_difference(found, command, request)})"
        if overwrite:
            return cls(path, command, request, "new")
        raise OccupiedFolderError(
            f"--out {path} {why}: choose another folder, or --overwrite to replace "
            f"{', '.join(files)} in it"
        )

    def create(self) -> None:
        """Makes the folder, if it is not there.

        Raises:
            InputError: if it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make --out {self.path}: {error.strerror}; choose another folder"
            ) from error

    def begin(self, files: Sequence[str]) -> None:
        """Makes the folder, removes the old `files` of a new request, and marks it unfinished.

        Raises:
            InputError: if the folder cannot be written.
        """
        self.create()
        try:
            if self.state == "new":
                for name in files:
                    (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot write --out {self.path}: {error.strerror}; choose another folder"
            ) from error
        self._write("unfinished")

    def finish(self) -> None:
        """Marks the request finished."""
        self._write("finished")

    def _write(self, status: str) -> None:
        write_json(
            self.path / REQUEST_FILE,
            {"command": self.command, "status": status, "request": dict(self.request)},
        )


def _is_empty_file(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def _difference(found: Mapping[str, Any], command: str, request: Mapping[str, Any]) -> str:
    """Names what tells the request found in a folder from the one made now."""
    if found.get("command") != command:
        return f"of {found['command']}" if found.get("command") else "damaged"
    before = found.get("request")
    if not isinstance(before, dict):
        return "unreadable"
    names = sorted(name for name in {*before, *request} if before.get(name) != request.get(name))
    return ", ".join(_describe_change(name, before.get(name)) for name in names[:3])


def _describe_change(name: str, before: object) -> str:
    """What a value was; of lists and hashes, only that it was another."""
    text = json.dumps(before)
    return f"{name} was {text}" if len(text) <= 40 else f"another {name}"
