"""Where a corpus is made before its folder is touched: bad text leaves nothing half-written.

A run that is killed leaves this folder behind, and the same command goes on in it.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import REQUEST_FILE, OutputFolder, read_json_object, write_json
from supernet.corpus import CORPUS_FILE, CORPUS_FILES, TokenCorpus, load_corpus, shard_files


def open_staging(out: Path, request: Mapping[str, Any]) -> Path:
    """The folder in which a corpus for `out` is made, with what the same request left in it.

    It stands in the nearest folder above `out` that exists, or in `out` itself.

    Raises:
        InputError: if it cannot be made.
    """
    folders = [folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir()]
    found = [path for folder in folders if (path := _place(out, folder)).is_dir()]
    staging = found[0] if found else _place(out, folders[0])
    try:
        if staging.is_dir() and _request_in(staging) != dict(request):
            shutil.rmtree(staging)
        staging.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write in {staging.parent}: {error.strerror}; choose a folder you can write to"
        ) from error
    write_json(staging / REQUEST_FILE, dict(request))
    return staging


def _place(out: Path, folder: Path) -> Path:
    name = "-".join(out.absolute().relative_to(folder).parts) or "here"
    # Named like a request that was not written to its end: no command takes it for somebody's work.
    return folder / f".{REQUEST_FILE}.corpus-{name}"


def _request_in(staging: Path) -> dict[str, Any] | None:
    try:
        return read_json_object(staging / REQUEST_FILE)
    except DamagedFileError:
        return None


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus, and the folder that it goes to; nothing of it is there before `write`.

    Attributes:
        folder: of the corpus, claimed.
        corpus: the corpus.
        staging: where it is until it is written; removed with this object, if it never is.
    """

    folder: OutputFolder
    corpus: TokenCorpus
    staging: Path | None = None
    _remove: Callable[[], object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.staging is not None:
            remove = weakref.finalize(self, shutil.rmtree, self.staging, ignore_errors=True)
            object.__setattr__(self, "_remove", remove)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A corpus that is finished.

        Raises:
            InputError: if there is none, or it is damaged.
        """
        return cls(OutputFolder(path, "prepare-corpus", {}, "finished"), load_corpus(path))

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def finished_before(self) -> bool:
        """Whether the folder already holds it."""
        return self.folder.state == "finished"

    def write(self) -> None:
        """Moves the corpus into its folder, unless that already holds it.

        Raises:
            InputError: if the folder cannot be written.
        """
        if self.finished_before or self.staging is None:
            return
        self.folder.begin(CORPUS_FILES)
        try:
            for old in shard_files(self.path):
                old.unlink()
            for path in (*shard_files(self.staging), self.staging / CORPUS_FILE):
                shutil.move(path, self.path / path.name)
        except OSError as error:
            raise InputError(
                f"cannot write --out {self.path}: {error.strerror}; choose another folder"
            ) from error
        self.folder.finish()
        self._remove()
