from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from autotinybert.errors import InputError
from supernet.corpus_text import (
    Document,
    python_folders,
    read_corpus_text,
    read_python_docs,
    read_text_file,
)


def write_modules(folder: Path, **modules: str) -> Path:
    for name, docstring in modules.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""{docstring}"""\n', encoding="utf-8")
    return folder


def test_docstrings_are_read_in_order_and_nothing_is_run(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(
        '"""This is the first of the sentences."""\n'
        "raise SystemExit('this module was run')\n"
        "if True:\n"
        "    class Thing:\n"
        '        """This is the second of them."""\n'
        "        async def go(self):\n"
        '            """This is the third of them."""\n'
        "def last():\n"
        '    """This is the last of them."""\n'
        "    return '''This is a string but not a docstring.'''\n"
    )
    text = read_python_docs([tmp_path])
    assert [document.sentences for document in text.documents] == [
        ("This is the first of the sentences.",),
        ("This is the second of them.",),
        ("This is the third of them.",),
        ("This is the last of them.",),
    ]
    assert {document.group for document in text.documents} == {"package"}
    assert text.complete


def test_broken_files_are_counted_and_warnings_do_not_leak(tmp_path: Path) -> None:
    write_modules(tmp_path, good="This is a sentence of the module.")
    (tmp_path / "template.py").write_text("def {{ name }}(): pass")
    (tmp_path / "zero.py").write_bytes(b"\0")
    (tmp_path / "long.py").write_text("x = 1\n" * 200_000)
    (tmp_path / "escape.py").write_text("'''An escape \\d in the text.'''\nx = 1 is 1\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        text = read_python_docs([tmp_path])
    assert caught == []
    assert (text.files, text.files_skipped) == (5, 3)


def test_half_a_surrogate_pair_is_dropped(tmp_path: Path) -> None:
    write_modules(tmp_path, half="This is half \\ud83d of a pair in a text.")
    (document,) = read_python_docs([tmp_path]).documents
    assert document.sentences == ("This is half of a pair in a text.",)


def test_a_sentence_occurs_once_however_it_is_dressed(tmp_path: Path) -> None:
    write_modules(
        tmp_path,
        one="This is said twice in the text. The first has this one.",
        two="THIS is *said* twice, in the text! The second has that one.",
    )
    text = read_python_docs([tmp_path])
    said = [sentence for document in text.documents for sentence in document.sentences]
    assert sum("twice" in sentence for sentence in said) == 1
    assert len(said) == 3
    assert text.repeated_sentences == 1


def test_a_cap_takes_whole_modules_in_an_order_that_does_not_depend_on_it(tmp_path: Path) -> None:
    names = {f"m{index}": f"This is what the module says of {index}." for index in range(40)}
    write_modules(tmp_path, **names)
    everything = read_python_docs([tmp_path])
    part = read_python_docs([tmp_path], max_characters=everything.characters // 2)
    assert not part.complete
    assert 15 <= len(part.documents) <= 25
    assert list(part.documents) == list(everything.documents)[: len(part.documents)]
    assert read_python_docs([tmp_path]) == everything


def test_the_first_folder_counts_where_two_have_a_module(tmp_path: Path) -> None:
    first = write_modules(tmp_path / "a", same="This is the first of the two.")
    second = write_modules(tmp_path / "b", same="This is the second of the two.")
    (document,) = read_python_docs([first, second]).documents
    assert document.sentences == ("This is the first of the two.",)


def test_site_packages_within_a_folder_are_another_folder(tmp_path: Path) -> None:
    others = {"site-packages__other": "This is a text of another's."}
    write_modules(tmp_path, mine="This is a text of mine.", **others)
    assert read_python_docs([tmp_path]).files == 1


def test_this_interpreter_has_a_library_and_packages() -> None:
    folders = python_folders()
    assert (folders[0] / "ast.py").exists()
    assert any((folder / "numpy").is_dir() for folder in folders)
    assert Path.cwd() not in folders
    assert len(set(folders)) == len(folders)


def test_a_file_has_a_sentence_a_line_and_documents_between_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbf\n\nFirst  one.\r\nSecond\tone.\n \n\nThird \xc3\xa9.")
    text = read_text_file(path)
    assert [document.sentences for document in text.documents] == [
        ("First one.", "Second one."),
        ("Third \u00e9.",),
    ]
    assert len({document.group for document in text.documents}) == 2


def test_a_group_is_named_by_its_text_and_not_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("A.\n\nB.\n\nA.\n")
    (tmp_path / "two").write_text("B.\n\nA.\n")
    one, two = (read_text_file(tmp_path / name) for name in ("one", "two"))
    assert one.repeated_sentences == 1
    assert set(one.documents) == set(two.documents)


def test_a_cap_takes_whole_documents_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("aaaa\nbbbb\n\ncccc\n\ndddd\n")
    text = read_corpus_text(str(tmp_path / "text"), max_characters=9)
    assert [document.sentences for document in text.documents] == [("aaaa", "bbbb"), ("cccc",)]
    assert not text.complete
    assert read_corpus_text(str(tmp_path / "text")).complete


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read corpus .*No such file"),
        (b"", "holds no sentence"),
        (b" \n\n\t\n", "holds no sentence"),
        (b"fine\n\nnot \xff fine\n", "line 3 is not UTF-8 text"),
        ("utf-16".encode("utf-16-be"), "line 1 holds a zero byte"),
    ],
)
def test_a_file_that_is_no_corpus_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_corpus_text(str(path))
    assert "\n" not in str(error.value)


def test_a_folder_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read corpus .*directory"):
        read_corpus_text(str(tmp_path))


def test_folders_without_docstrings_are_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sentence"):
        read_python_docs([tmp_path])


def test_a_cap_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="-1 characters"):
        read_python_docs([tmp_path], max_characters=-1)


def test_documents_are_values() -> None:
    assert Document("g", ("a",)) == Document("g", ("a",))
