from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import InputError
from supernet.tokenizer import load_tokenizer, special_ids, vocabulary_size

MakeFolder = Callable[..., Path]

TEXTS = [
    "This is a sentence.",
    "The MODEL returns the value; unaffable playing, played.",
    "Caf\u00e9 cafe\u0301 \u00fcber CAF\u00c9",
    "one\u4e2d\u6587two",
    "smile \U0001f600 and \u00df\u0130\u0131",
    "x" * 150,
    "x" * 99,
    "tab\tnew\nline\u00a0space\u200bzero\x00nul",
    "a[SEP]b [MASK] [PAD] [mask]",
    "don't -- e.g. #1 a_b c.d(e)=f",
    "",
    "  ",
]


@pytest.mark.parametrize(
    "config",
    [
        None,
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True},
        {"tokenize_chinese_chars": False, "strip_accents": None},
    ],
)
@pytest.mark.parametrize("kind", ["document", "vocabulary"])
def test_texts_are_tokenised_as_transformers_does(
    make_bert_folder: MakeFolder, kind: str, config: dict[str, Any] | None
) -> None:
    from transformers import BertTokenizer

    folder = make_bert_folder(
        document=kind == "document", vocabulary=kind == "vocabulary", config=config
    )
    ours = load_tokenizer(folder)
    theirs = BertTokenizer.from_pretrained(str(folder))
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
        pair = ours.encode(text, TEXTS[0])
        expected = theirs(text, TEXTS[0])
        assert pair.ids == expected["input_ids"]
        assert pair.type_ids == expected["token_type_ids"]
    ids = ours.encode(TEXTS[1]).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert special_ids(ours) == {
        name: getattr(theirs, f"{name}_token_id") for name in ("pad", "unk", "cls", "sep", "mask")
    }


def test_truncation_and_padding_of_the_file_are_reset(bert_folder: Path) -> None:
    tokenizer = load_tokenizer(bert_folder)
    assert len(tokenizer.encode("a").ids) == 3
    assert len(tokenizer.encode("a " * 50).ids) == 52
    assert tokenizer.truncation is None
    assert tokenizer.padding is None


def test_a_vocabulary_written_on_another_system_is_the_same(
    make_bert_folder: MakeFolder,
) -> None:
    unix = make_bert_folder("unix", document=False, vocabulary=True)
    dos = make_bert_folder("dos", document=False, vocabulary=True)
    (dos / "vocab.txt").write_bytes((unix / "vocab.txt").read_bytes().replace(b"\n", b"\r\n"))
    assert load_tokenizer(dos).get_vocab() == load_tokenizer(unix).get_vocab()


def test_a_vocabulary_with_gaps_needs_rows_up_to_its_highest_id(
    make_bert_folder: MakeFolder,
) -> None:
    folder = make_bert_folder()
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["vocab"]["extra"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(document))
    assert vocabulary_size(load_tokenizer(folder)) == 5001


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "not valid JSON"),
        ('{"model": {"type": "BPE"}}', "is damaged"),
        ("{}", "is damaged"),
        ('{"model": {"type": "WordPiece"}}', "is damaged"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_damaged_or_foreign_tokenizer_is_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as error:
        load_tokenizer(tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["document", "vocabulary"])
def test_a_tokenizer_without_special_tokens_says_which_it_lacks(
    make_bert_folder: MakeFolder, kind: str
) -> None:
    folder = make_bert_folder(
        document=kind == "document", vocabulary=kind == "vocabulary", tokens=["[UNK]", "[CLS]", "a"]
    )
    with pytest.raises(InputError, match=r"lacks \[PAD\], \[SEP\], \[MASK\]"):
        load_tokenizer(folder)


def test_a_folder_without_a_tokenizer_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer in .*tokenizer.json or vocab.txt"):
        load_tokenizer(tmp_path)


def test_a_configuration_with_another_type_is_refused(make_bert_folder: MakeFolder) -> None:
    folder = make_bert_folder(config={"do_lower_case": "no"})
    with pytest.raises(InputError, match="do_lower_case 'no': it must be true, false or null"):
        load_tokenizer(folder)
