from __future__ import annotations

import contextlib
import errno
import json
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import pytest

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import (
    REQUEST_FILE,
    OutputFolder,
    canonical_json,
    read_json_object,
    sha256_bytes,
    sha256_file,
    sha256_text,
    whole_binary_file,
    whole_file,
    write_json,
)

FILES = ("result.json",)


def claim(path: Path, *, overwrite: bool = False, **request: object) -> OutputFolder:
    return OutputFolder.claim(path, "do", request, files=FILES, overwrite=overwrite)


@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_a_file_whose_writing_fails_is_not_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def write_half() -> None:
        with contextlib.ExitStack() as stack:
            if kind == "bytes":
                stack.enter_context(whole_binary_file(path)).write(b"half")
            else:
                stack.enter_context(whole_file(path)).write("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    content = bytes(range(256)) + b"\r\n"
    with whole_binary_file(tmp_path / "file") as file:
        file.write(content)
    assert (tmp_path / "file").read_bytes() == content
    assert sha256_file(tmp_path / "file") == sha256_bytes(content)


def test_a_binary_file_is_whole_or_absent_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_binary_file(path) as file:
        file.write(b"\x00\r\n\xff")

    def write_half() -> None:
        with whole_binary_file(path) as file:
            file.write(b"half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_bytes() == b"\x00\r\n\xff"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("open_file", [whole_file, whole_binary_file])
def test_a_full_disk_names_the_file_and_leaves_nothing_behind(
    tmp_path: Path, open_file: Callable[[Path], AbstractContextManager[IO[Any]]]
) -> None:
    def write_to_a_full_disk() -> None:
        with open_file(tmp_path / "file"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*file'"):
        write_to_a_full_disk()
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_json(tmp_path / "ours", {})
    (tmp_path / "other").write_text("")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "other")}
    assert len(modes) == 1


def test_writing_into_a_folder_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write in"), whole_file(tmp_path / "no" / "file"):
        pass


def test_canonical_json_does_not_depend_on_order_and_refuses_nan() -> None:
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_hash_of_a_file_is_that_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert sha256_file(tmp_path / "file") == sha256_text("text")


@pytest.mark.parametrize("content", ["", "{", "[]", "1", "[" * 100_000, "\xff"])
def test_what_is_no_json_object_is_a_damaged_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DamagedFileError, match="file"):
        read_json_object(path)


def test_a_json_object_that_is_not_there_is_a_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="cannot read"):
        read_json_object(tmp_path / "absent")


def test_absent_and_empty_folders_are_new(tmp_path: Path) -> None:
    assert claim(tmp_path / "absent").state == "new"
    (tmp_path / "empty").mkdir()
    assert claim(tmp_path / "empty").state == "new"
    assert not (tmp_path / "absent").exists()


def test_the_same_request_resumes_and_then_is_finished(tmp_path: Path) -> None:
    folder = claim(tmp_path / "out", seed=1)
    folder.begin(FILES)
    assert claim(tmp_path / "out", seed=1).state == "unfinished"
    (tmp_path / "out" / "result.json").write_text("{}")
    folder.finish()
    assert claim(tmp_path / "out", seed=1).state == "finished"
    assert claim(tmp_path / "out", seed=1, overwrite=True).state == "new"
    (tmp_path / "out" / "result.json").unlink()
    assert claim(tmp_path / "out", seed=1).state == "unfinished"


def test_overwrite_does_not_throw_away_what_the_same_request_has_done(tmp_path: Path) -> None:
    claim(tmp_path / "out", seed=1).begin(FILES)
    assert claim(tmp_path / "out", seed=1, overwrite=True).state == "unfinished"


def test_a_damaged_request_is_a_different_one(tmp_path: Path) -> None:
    claim(tmp_path / "out", seed=1).begin(FILES)
    (tmp_path / "out" / REQUEST_FILE).write_text('{"command"')
    with pytest.raises(InputError, match=r"different request \(damaged\)"):
        claim(tmp_path / "out", seed=1)
    assert claim(tmp_path / "out", seed=1, overwrite=True).state == "new"


def test_hidden_files_are_somebodys_work_and_our_own_remains_are_not(tmp_path: Path) -> None:
    (tmp_path / ".result.json.x7").write_text("torn")
    assert claim(tmp_path).state == "new"
    (tmp_path / ".git").mkdir()
    with pytest.raises(InputError, match=r"other files \(.git\)"):
        claim(tmp_path)


def test_a_different_request_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    claim(tmp_path / "out", seed=1, space="kd").begin(FILES)
    with pytest.raises(InputError, match=r"different request \(seed was 1\).*--overwrite"):
        claim(tmp_path / "out", seed=2, space="kd")
    with pytest.raises(InputError, match="of other"):
        OutputFolder.claim(_renamed(tmp_path / "out", "other"), "do", {"seed": 1}, files=FILES)


def _renamed(folder: Path, command: str) -> Path:
    document = json.loads((folder / REQUEST_FILE).read_text())
    (folder / REQUEST_FILE).write_text(json.dumps({**document, "command": command}))
    return folder


def test_foreign_files_are_refused_and_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"other files \(thesis.tex\)"):
        claim(tmp_path)
    (tmp_path / "result.json").write_text("old")
    folder = claim(tmp_path, overwrite=True)
    folder.begin(FILES)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert not (tmp_path / "result.json").exists()


def test_resuming_keeps_what_is_there(tmp_path: Path) -> None:
    claim(tmp_path, seed=1).begin(FILES)
    (tmp_path / "result.json").write_text("half")
    claim(tmp_path, seed=1).begin(FILES)
    assert (tmp_path / "result.json").read_text() == "half"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        claim(tmp_path / "file")
    with pytest.raises(InputError, match="cannot make --out"):
        claim(tmp_path / "file" / "below").begin(FILES)
