from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from autotinybert.errors import InputError
from supernet.tokenizer_files import (
    check_tokenizer_files,
    read_tokenizer_files,
    tokenizer_settings,
)
from supernet.tokenizer_padding import tokenizer_class

Files = dict[str, bytes]


def test_the_files_of_a_tokenizer_are_read_and_no_others(
    tmp_path: Path, tokenizer_files: Files
) -> None:
    for name, content in {**tokenizer_files, "thesis.tex": b""}.items():
        (tmp_path / name).write_bytes(content)
    assert read_tokenizer_files(tmp_path) == tokenizer_files


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt"])
def test_one_of_two_files_is_enough(tmp_path: Path, tokenizer_files: Files, name: str) -> None:
    (tmp_path / name).write_bytes(tokenizer_files[name])
    assert set(read_tokenizer_files(tmp_path)) == {name}


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no tokenizer in .*: copy tokenizer.json or vocab.txt"):
        read_tokenizer_files(tmp_path)
    (tmp_path / "vocab.txt").mkdir()
    with pytest.raises(InputError, match="cannot read"):
        read_tokenizer_files(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt"])
def test_a_token_without_a_row_is_refused(tokenizer_files: Files, name: str) -> None:
    files = {name: tokenizer_files[name]}
    check_tokenizer_files(files, 31)
    with pytest.raises(InputError, match="has the token id 30, but the word embedding has 30 rows"):
        check_tokenizer_files(files, 30)


def test_added_tokens_and_vocabularies_that_are_lists_count() -> None:
    bare = {"model": {"type": "Unigram", "vocab": [["a", 0.0], ["b", 0.0]]}}
    added = {**bare, "added_tokens": [{"id": 7}]}
    for document, largest in ((bare, 1), (added, 7)):
        files = {"tokenizer.json": json.dumps(document).encode()}
        check_tokenizer_files(files, largest + 1)
        with pytest.raises(InputError, match=f"token id {largest},"):
            check_tokenizer_files(files, largest)


def test_a_token_that_unicode_takes_for_the_end_of_a_line_is_one_token() -> None:
    check_tokenizer_files({"vocab.txt": "a\n\u2028\nb\n".encode()}, 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b""),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", b'{"model": {}}'),
        ("tokenizer.json", b'{"model": {"vocab": {}}}'),
        ("tokenizer.json", b'{"model": {"vocab": {"a": "b"}}}'),
        ("vocab.txt", b"\xff\xfe"),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b"[]"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_by_name(name: str, content: bytes) -> None:
    with pytest.raises(InputError, match=f"{name} .*copy the teacher's again"):
        check_tokenizer_files({name: content}, 100)


def test_settings_are_those_of_the_config_file(tokenizer_files: Files) -> None:
    assert tokenizer_settings(tokenizer_files)["do_lower_case"] is True
    assert tokenizer_settings({}) == {}


def test_only_word_pieces_are_taken_for_berts(tokenizer_files: Files) -> None:
    assert tokenizer_class(tokenizer_files) == "BertTokenizer"
    assert tokenizer_class({"vocab.txt": b""}) == "BertTokenizer"
    pairs = Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).to_str().encode()
    assert tokenizer_class({"tokenizer.json": pairs}) == "PreTrainedTokenizerFast"
