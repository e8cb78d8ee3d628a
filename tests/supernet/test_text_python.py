from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from supernet.corpus_chunks import chunks
from supernet.text_document import Document, Tally
from supernet.text_python import python_documents, python_folders


def read(
    folders: Sequence[Path], max_characters: int | None = None
) -> tuple[list[Document], Tally]:
    tally = Tally()
    found = chunks(python_documents(folders, tally), tally, max_characters=max_characters)
    return [document for chunk in found for document in chunk], tally


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
    documents, tally = read([tmp_path])
    assert [document.sentences for document in documents] == [
        ("This is the first of the sentences.",),
        ("This is the second of them.",),
        ("This is the third of them.",),
        ("This is the last of them.",),
    ]
    assert {document.group for document in documents} == {"package"}
    assert tally.complete


def test_broken_files_are_counted_and_warnings_do_not_leak(tmp_path: Path) -> None:
    write_modules(tmp_path, good="This is a sentence of the module.")
    (tmp_path / "template.py").write_text("def {{ name }}(): pass")
    (tmp_path / "zero.py").write_bytes(b"\0")
    (tmp_path / "long.py").write_text("x = 1\n" * 200_000)
    (tmp_path / "escape.py").write_text("'''An escape \\d in the text.'''\nx = 1 is 1\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, tally = read([tmp_path])
    assert caught == []
    assert (tally.files, tally.files_skipped) == (5, 3)


def test_half_a_surrogate_pair_is_dropped(tmp_path: Path) -> None:
    write_modules(tmp_path, half="This is half \\ud83d of a pair in a text.")
    (document,) = read([tmp_path])[0]
    assert document.sentences == ("This is half of a pair in a text.",)


def test_a_sentence_occurs_once_however_it_is_dressed(tmp_path: Path) -> None:
    write_modules(
        tmp_path,
        one="This is said twice in the text. The first has this one.",
        two="THIS is *said* twice, in the text! The second has that one.",
    )
    documents, tally = read([tmp_path])
    said = [sentence for document in documents for sentence in document.sentences]
    assert sum("twice" in sentence for sentence in said) == 1
    assert len(said) == 3
    assert tally.repeated_sentences == 1


def test_a_cap_takes_whole_modules_in_an_order_that_does_not_depend_on_it(tmp_path: Path) -> None:
    names = {f"m{index}": f"This is what the module says of {index}." for index in range(40)}
    write_modules(tmp_path, **names)
    everything, whole = read([tmp_path])
    part, tally = read([tmp_path], max_characters=whole.characters // 2)
    assert (whole.complete, tally.complete) == (True, False)
    assert 15 <= len(part) <= 25
    assert part == everything[: len(part)]
    assert read([tmp_path])[0] == everything


def test_the_first_folder_counts_where_two_have_a_module(tmp_path: Path) -> None:
    first = write_modules(tmp_path / "a", same="This is the first of the two.")
    second = write_modules(tmp_path / "b", same="This is the second of the two.")
    (document,) = read([first, second])[0]
    assert document.sentences == ("This is the first of the two.",)


def test_site_packages_within_a_folder_are_another_folder(tmp_path: Path) -> None:
    others = {"site-packages__other": "This is a text of another's."}
    write_modules(tmp_path, mine="This is a text of mine.", **others)
    assert read([tmp_path])[1].files == 1


def test_this_interpreter_has_a_library_and_packages() -> None:
    folders = python_folders()
    assert (folders[0] / "ast.py").exists()
    assert any((folder / "numpy").is_dir() for folder in folders)
    assert Path.cwd() not in folders
    assert len(set(folders)) == len(folders)
