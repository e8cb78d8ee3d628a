from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models

from autotinybert.errors import InputError
from supernet.tokenizer_padding import Padding, padding_of, tokenizer_class

Files = dict[str, bytes]


@pytest.mark.parametrize("names", [["tokenizer.json"], ["vocab.txt"]])
def test_a_bert_tokenizer_pads_with_id_0(tokenizer_files: Files, names: list[str]) -> None:
    files = {name: tokenizer_files[name] for name in names}
    assert padding_of(files) == Padding("[PAD]", 0)
    assert tokenizer_class(files) == "BertTokenizer"


@pytest.mark.parametrize("names", [["tokenizer.json"], ["vocab.json", "merges.txt"]])
def test_a_roberta_tokenizer_pads_with_id_1(pair_files: Files, names: list[str]) -> None:
    files = {name: pair_files[name] for name in names}
    assert padding_of(files) == Padding("<pad>", 1)
    assert tokenizer_class(files) == "RobertaTokenizer"


@pytest.mark.parametrize("token", ["[unused]", {"content": "[unused]", "lstrip": False}])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_the_token_that_is_named_counts_where_there_is_one(name: str, token: object) -> None:
    named = json.dumps({"pad_token": token}).encode()
    assert padding_of({"vocab.txt": b"[PAD]\na\n[unused]\n", name: named}) == Padding("[unused]", 2)
    assert padding_of({"vocab.txt": b"a\n[PAD]\n", name: named}) == Padding("[PAD]", 1)


def test_added_tokens_and_the_padding_of_the_file_count() -> None:
    document = {
        "model": {"type": "Unigram", "vocab": [["a", 0.0], ["[filler]", 0.0]]},
        "padding": {"pad_token": "[filler]"},
    }
    assert padding_of({"tokenizer.json": json.dumps(document).encode()}) == Padding("[filler]", 1)
    document["added_tokens"] = [{"content": "[filler]", "id": 7}]
    assert padding_of({"tokenizer.json": json.dumps(document).encode()}) == Padding("[filler]", 7)


def test_a_tokenizer_without_padding_is_filled_with_id_0() -> None:
    pairs = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[])).to_str().encode()
    assert padding_of({"tokenizer.json": pairs}).id == 0
    assert tokenizer_class({"tokenizer.json": pairs}) == "PreTrainedTokenizerFast"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"["),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", b'{"model": 1}'),
        ("tokenizer.json", b'{"added_tokens": [{}]}'),
        ("special_tokens_map.json", b"[]"),
        ("vocab.json", b"1"),
        ("vocab.txt", b"\xff\xfe"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes) -> None:
    with pytest.raises(InputError, match=f"{name} of the tokenizer cannot be read .*copy"):
        padding_of({name: content})
