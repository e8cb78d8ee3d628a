"""A BERT folder with a vocabulary small enough to read, in the exact files of Hugging Face."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    *("the", "a", "of", "and", "is", "in", "to", "this", "that", "token", "model", "returns"),
    *("given", "value", "list", "word", "sentence", "one", "two", "number", "document", "The"),
    *("Model", "caf\u00e9", "cafe", "un", "##aff", "##able", "##ing", "##s", "##ed", "play"),
)
CHARACTERS = string.ascii_letters + string.digits + "\u00e9\u00fc\u4e2d\u6587"
VOCABULARY = [
    *SPECIAL,
    *WORDS,
    *string.punctuation,
    *CHARACTERS,
    *(f"##{character}" for character in CHARACTERS),
]


def tokenizer_document(vocabulary: list[str], **changes: Any) -> dict[str, Any]:
    """A `tokenizer.json` as a sentence encoder's folder has it: it truncates and pads."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    added = [
        {
            "id": ids[token],
            "special": True,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for token in SPECIAL
        if token in ids
    ]
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
        **changes,
    }


@pytest.fixture
def make_bert_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with the tokenizer files asked for."""

    def make(
        name: str = "bert",
        *,
        document: bool = True,
        vocabulary: bool = False,
        tokens: list[str] = VOCABULARY,
        config: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if document:
            (folder / "tokenizer.json").write_text(
                json.dumps(tokenizer_document(tokens, **changes))
            )
        if vocabulary:
            (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
        if config is not None:
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.fixture
def bert_folder(make_bert_folder: Callable[..., Path]) -> Path:
    return make_bert_folder()
