"""Tokenizers of families other than BERT's, and the special tokens of all by their roles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers

from autotinybert.errors import InputError
from supernet.tokenizer import load_tokenizer, special_ids, vocabulary_size
from supernet.tokenizer_files import (
    check_tokenizer_files,
    read_tokenizer_files,
)
from supernet.tokenizer_padding import tokenizer_class
from supernet.tokenizer_roles import ROLES, frame_of

TEXTS = [
    "This is a sentence.",
    " This one begins with a space.",
    "Caf\u00e9 \u4e2d\u6587 \U0001f600\ttab",
    "a<mask>b </s> <s>",
    "a <mask> b",
    "",
    "  ",
]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture
def roberta_folder(tmp_path: Path) -> Path:
    """`vocab.json` and `merges.txt`, as RoBERTa's folders have them; [PAD] is not 0."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        ["this is a sentence of the text", "this one begins with a space", "the mask"] * 3,
        vocab_size=320,
        min_frequency=1,
        special_tokens=ROBERTA,
        show_progress=False,
    )
    tokenizer.save_model(str(tmp_path))
    return tmp_path


def roberta_of_transformers(folder: Path) -> Any:
    from transformers import RobertaTokenizerFast

    return RobertaTokenizerFast.from_pretrained(str(folder))


@pytest.mark.parametrize(
    "config",
    [
        None,
        {"add_prefix_space": True},
        {"mask_token": {"content": "<mask>", "lstrip": True, "__type": "AddedToken"}},
    ],
)
@pytest.mark.parametrize("as_document", [False, True])
def test_byte_level_pairs_are_tokenised_as_transformers_does(
    roberta_folder: Path, *, config: dict[str, Any] | None, as_document: bool
) -> None:
    if config is not None:
        (roberta_folder / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = roberta_of_transformers(roberta_folder)
    if as_document:
        theirs.save_pretrained(str(roberta_folder))
        assert (roberta_folder / "tokenizer.json").exists()
    ours = load_tokenizer(roberta_folder)
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
        assert ours.encode(text, TEXTS[0]).ids == theirs(text, TEXTS[0])["input_ids"]
        assert set(ours.encode(text, TEXTS[0]).type_ids) == {0}
    ids = {role: getattr(theirs, f"{role}_token_id") for role in ROLES}
    assert special_ids(ours) == ids
    assert ids["pad"] == 1


def test_the_two_files_travel_together_and_are_checked(roberta_folder: Path) -> None:
    files = read_tokenizer_files(roberta_folder)
    assert set(files) == {"vocab.json", "merges.txt"}
    assert tokenizer_class(files) == "RobertaTokenizer"
    rows = vocabulary_size(load_tokenizer(roberta_folder))
    check_tokenizer_files(files, rows)
    with pytest.raises(
        InputError, match=rf"vocab.json of the tokenizer has the token id {rows - 1}"
    ):
        check_tokenizer_files(files, rows - 1)
    (roberta_folder / "merges.txt").unlink()
    with pytest.raises(InputError, match="no tokenizer in"):
        read_tokenizer_files(roberta_folder)
    with pytest.raises(InputError, match="no tokenizer in"):
        load_tokenizer(roberta_folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [("vocab.json", "{"), ("vocab.json", '{"a": "b"}'), ("merges.txt", "one two three")],
)
def test_damaged_pairs_are_refused(roberta_folder: Path, name: str, content: str) -> None:
    (roberta_folder / name).write_text(content)
    with pytest.raises(InputError, match="is damaged") as error:
        load_tokenizer(roberta_folder)
    assert "\n" not in str(error.value)


def unigram(folder: Path, tokens: list[str]) -> Path:
    vocabulary = [(token, 0.0) for token in tokens] + [("\u2581", -2.0), ("a", -1.0), ("b", -1.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_unigram_model_gets_the_frame_of_its_family(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(unigram(tmp_path, ROBERTA))
    assert special_ids(tokenizer) == {"pad": 1, "unk": 3, "cls": 0, "sep": 2, "mask": 4}
    assert tokenizer.encode("a").tokens[::2] == ["<s>", "a"]
    assert [t for t in tokenizer.encode("a", "b").tokens if t != "\u2581"] == [
        *("<s>", "a", "</s>", "</s>", "b", "</s>")
    ]


def test_tokens_of_unusual_names_are_known_by_what_the_folder_calls_them(tmp_path: Path) -> None:
    names = ["{begin}", "{empty}", "{end}", "{what}", "{hidden}"]
    unigram(tmp_path, names)
    with pytest.raises(InputError, match="lacks <pad>, <s>, </s>, <mask>"):
        load_tokenizer(tmp_path)
    named = dict(
        zip(("cls_token", "pad_token", "sep_token", "unk_token", "mask_token"), names, strict=True)
    )
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(named))
    tokenizer = load_tokenizer(tmp_path)
    assert special_ids(tokenizer) == {"pad": 1, "unk": 3, "cls": 0, "sep": 2, "mask": 4}
    pair = tokenizer.encode("a", "b")
    assert pair.type_ids[:3] == [0, 0, 0]
    assert pair.type_ids[-2:] == [1, 1]


def test_what_a_file_puts_around_a_text_tells_roles(tmp_path: Path) -> None:
    unigram(tmp_path, ["{begin}", "<pad>", "{end}", "<unk>", "<mask>"])
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    document["post_processor"] = {
        "type": "BertProcessing",
        "cls": ["{begin}", 0],
        "sep": ["{end}", 2],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    tokenizer = load_tokenizer(tmp_path)
    assert special_ids(tokenizer) == {"pad": 1, "unk": 3, "cls": 0, "sep": 2, "mask": 4}
    frame = frame_of(tokenizer)
    assert frame is not None
    assert (frame.before, frame.after, frame.between) == ((0,), (2,), (2,))
    assert frame.first_segment == 1


@pytest.mark.parametrize("name", ["special_tokens_map.json", "tokenizer_config.json"])
def test_a_special_token_that_is_none_is_refused(
    make_bert_folder: Callable[..., Path], name: str
) -> None:
    folder = make_bert_folder()
    (folder / name).write_text('{"cls_token": ["[CLS]"]}')
    with pytest.raises(
        InputError, match=rf"{name} has cls_token \['\[CLS\]'\]: it must be a token"
    ):
        load_tokenizer(folder)


def test_the_ids_of_a_tokenizer_from_elsewhere_are_found_by_usual_names(
    bert_folder: Path, roberta_folder: Path
) -> None:
    for folder in (bert_folder, roberta_folder):
        loaded = load_tokenizer(folder)
        assert special_ids(Tokenizer.from_str(loaded.to_str())) == special_ids(loaded)


def test_bert_marks_the_second_of_two_texts_and_roberta_does_not(
    bert_folder: Path, roberta_folder: Path
) -> None:
    of_bert, of_roberta = (frame_of(load_tokenizer(f)) for f in (bert_folder, roberta_folder))
    assert of_bert is not None
    assert of_roberta is not None
    assert (of_bert.single, of_bert.pair, of_bert.first_segment) == (2, 3, 1)
    assert (of_roberta.single, of_roberta.pair, of_roberta.first_segment) == (2, 4, None)
