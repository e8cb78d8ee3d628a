"""Sources: files, folders, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from autotinybert.errors import InputError
from supernet.corpus_text import corpus_identity, read_documents, source_files
from supernet.text_document import MAX_DOCUMENT_CHARACTERS, Document, Tally
from supernet.text_files import DocumentText

SPLIT = DocumentText()


def read(source: Path, how: DocumentText = SPLIT) -> list[tuple[str, ...]]:
    return [document.sentences for document in read_documents(str(source), how, Tally())]


def test_a_file_has_a_sentence_a_line_and_documents_between_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbf\n\nFirst  one.\r\nSecond\tone.\n \n\nThird \xc3\xa9.")
    assert read(path) == [("First one.", "Second one."), ("Third \u00e9.",)]
    groups = {document.group for document in read_documents(str(path), SPLIT, Tally())}
    assert len(groups) == 2


def test_a_group_is_named_by_its_text_and_not_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("A.\n\nB.\n\nA.\n")
    (tmp_path / "two").write_text("B.\n\nA.\n")
    one, two = (
        set(read_documents(str(tmp_path / name), SPLIT, Tally())) for name in ("one", "two")
    )
    assert one == two


def test_a_gzipped_file_reads_as_the_file(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One.\nTwo.\n\nThree.\n")
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(b"One.\nTwo.\n\nThree.\n"))
    assert read(tmp_path / "text.txt") == read(tmp_path / "text.txt.gz")


def test_a_document_of_jsonl_is_split_into_sentences(tmp_path: Path) -> None:
    texts = ["This is one. This is  two!\nA title\n\nIt has, e.g. this.", "Another."]
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(json.dumps({"body": text, "id": 1}) for text in texts) + "\n\n")
    assert read(path, DocumentText("body")) == [
        ("This is one.", "This is two!", "A title", "It has, e.g. this."),
        ("Another.",),
    ]
    assert read(path, DocumentText("body", "lines"))[0] == (
        *("This is one. This is two!", "A title", "It has, e.g. this."),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not valid JSON"),
        ("[" * 100_000, "line 2 is not valid JSON"),
        ('"text"', "line 2 has no text under 'text': say with --text-key"),
        ('{"body": "A."}', "line 2 has no text under 'text'"),
        ('{"text": 1}', "line 2 has no text under 'text'"),
        ('{"text": "A.\\u0000"}', "line 2 holds a zero byte"),
        ('{"text": "A.\\ud83d"}', "line 2 holds half a character"),
    ],
)
def test_a_line_that_is_no_document_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text('{"text": "A."}\n' + line + "\n")
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_folder_is_read_in_the_order_of_its_names_and_other_files_are_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text("Two.")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "One."}\n'))
    (tmp_path / "c.txt").write_text("Three.")
    (tmp_path / "README.md").write_text("Not this.")
    tally = Tally()
    found = list(read_documents(str(tmp_path), SPLIT, tally))
    assert [document.sentences for document in found] == [("One.",), ("Two.",), ("Three.",)]
    assert tally.files == 3


def test_the_identity_of_a_folder_is_that_of_its_names_and_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one.txt").write_text("One.")
    first = corpus_identity(str(folder))
    (folder / "notes.md").write_text("Not read.")
    assert corpus_identity(str(folder)) == first
    (folder / "one.txt").rename(folder / "two.txt")
    renamed = corpus_identity(str(folder))
    (folder / "two.txt").write_text("Two.")
    assert len({first, renamed, corpus_identity(str(folder))}) == 3
    assert corpus_identity("python-docs") == "python-docs"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read corpus .*No such file"),
        (b"fine\n\nnot \xff fine\n", "line 3 is not UTF-8 text"),
        ("utf-16".encode("utf-16-be"), "line 1 holds a zero byte"),
        (b"x" * (17 * 2**20), "line 1 is longer than 16 MiB"),
    ],
)
def test_a_file_that_is_no_text_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"plain text", gzip.compress(b"One.\n" * 99)[:-9]])
def test_a_file_that_is_no_whole_gzip_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"text.gz is torn or no gzip file"):
        read(path)


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("x = 1")
    with pytest.raises(InputError, match=r"is a folder without text: put files of .txt"):
        source_files(tmp_path)


def test_a_file_without_empty_lines_is_taken_for_several_documents(tmp_path: Path) -> None:
    sentence = "a" * 100_000
    count = 2 * MAX_DOCUMENT_CHARACTERS // len(sentence) + 1
    (tmp_path / "text").write_text("\n".join([sentence] * count))
    sizes = [
        document.characters for document in read_documents(str(tmp_path / "text"), SPLIT, Tally())
    ]
    assert sizes == [MAX_DOCUMENT_CHARACTERS, MAX_DOCUMENT_CHARACTERS, len(sentence)]


def test_documents_are_values() -> None:
    assert Document("g", ("a",)) == Document("g", ("a",))
