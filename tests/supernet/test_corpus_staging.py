from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autotinybert.errors import InputError
from autotinybert.files import OutputFolder
from supernet.corpus import CORPUS_FILES, load_corpus
from supernet.corpus_cli import PreparedCorpus, prepare
from supernet.corpus_staging import open_staging
from supernet.corpus_text import read_documents
from supernet.text_document import Document

Prepare = Callable[[Path], PreparedCorpus]


@pytest.fixture
def prepare_in(bert_folder: Path, tmp_path: Path) -> Prepare:
    source = tmp_path / "text.txt"
    source.write_text("\n\n".join(f"This is document {i} of the list." for i in range(300)))

    def run(out: Path) -> PreparedCorpus:
        return prepare(
            str(source), bert_folder, out, sequence_length=32, max_megabytes=None, overwrite=False
        )

    return run


def hidden(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".request.json.corpus-*"))


def test_nothing_is_in_the_folder_before_it_is_written(prepare_in: Prepare, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    prepared = prepare_in(out)
    assert not out.parent.exists()
    assert len(prepared.corpus.splits["train"]) > 200
    prepared.write()
    assert {path.name for path in out.iterdir()} == {*CORPUS_FILES, "request.json"}
    assert hidden(tmp_path) == []
    first = prepared.corpus.splits["train"].batch([0])[0]
    assert (load_corpus(out).splits["train"].batch([0])[0] == first).all()
    assert prepare_in(out).finished_before


def test_a_corpus_that_is_never_written_is_removed(prepare_in: Prepare, tmp_path: Path) -> None:
    prepared = prepare_in(tmp_path / "out")
    assert len(hidden(tmp_path)) == 1
    del prepared
    gc.collect()
    assert hidden(tmp_path) == []


def test_an_interrupted_preparation_goes_on_and_ends_with_the_same_bytes(
    prepare_in: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_in(tmp_path / "whole").write()

    def interrupted(*arguments: object) -> Iterator[Document]:
        documents = read_documents(*arguments)  # type: ignore[arg-type]
        yield from (document for document, _ in zip(documents, range(150), strict=False))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("supernet.corpus_preparation.read_documents", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_in(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (staging,) = hidden(tmp_path)
    assert staging.is_dir()
    prepare_in(tmp_path / "out").write()
    for name in CORPUS_FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert hidden(tmp_path) == []


def test_what_another_request_left_is_not_used(tmp_path: Path) -> None:
    first = open_staging(tmp_path / "out", {"a": 1})
    (first / "part-0000000.safetensors").write_bytes(b"x")
    assert open_staging(tmp_path / "out", {"a": 1}) == first
    assert (first / "part-0000000.safetensors").exists()
    assert open_staging(tmp_path / "out", {"a": 2}) == first
    assert not (first / "part-0000000.safetensors").exists()


def test_it_is_found_again_when_folders_above_were_made(tmp_path: Path) -> None:
    out = tmp_path / "run" / "corpus"
    first = open_staging(out, {"a": 1})
    assert first.parent == tmp_path
    out.mkdir(parents=True)
    assert open_staging(out, {"a": 1}) == first


def test_a_folder_in_which_it_stands_is_nobodys_work(tmp_path: Path) -> None:
    staging = open_staging(tmp_path, {"a": 1})
    assert staging.parent == tmp_path
    assert OutputFolder.claim(tmp_path, "any", {}, files=("x",)).state == "new"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".request.json.corpus-here").write_text("a file")
    with pytest.raises(InputError, match="cannot write in"):
        open_staging(tmp_path / "out", {})
