"""What a tokenizer pads with, and what class it is, from its files alone.

BERT's pads with `[PAD]`, id 0, RoBERTa's with `<pad>`, id 1. The attention mask takes padding out
either way; but what trains a model further, or pads for it, should know the token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autotinybert.errors import InputError
from supernet.tokenizer_files import (
    PAIRS_VOCABULARY_FILE,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    tokenizer_settings,
)


@dataclass(frozen=True)
class Padding:
    """The token that fills sequences up.

    Attributes:
        token: its text.
        id: its id.
    """

    token: str = "[PAD]"
    id: int = 0


def padding_of(files: Mapping[str, bytes]) -> Padding:
    """What a tokenizer pads with; BERT's where the files name nothing that they have.

    Args:
        files: by name, as `read_tokenizer_files` gives them.

    Raises:
        InputError: if a file is unreadable.
    """
    ids = _token_ids(files)
    for token in _candidates(files):
        if token in ids:
            return Padding(token, ids[token])
    return Padding()


def tokenizer_class(files: Mapping[str, bytes]) -> str:
    """The class for files that name none: BERT's for word pieces, RoBERTa's for its own pairs."""
    kind = _model_kind(files)
    if kind == "WordPiece":
        return "BertTokenizer"
    ids = _token_ids(files)
    of_roberta = kind == "BPE" and all(token in ids for token in ("<s>", "</s>", "<pad>"))
    return "RobertaTokenizer" if of_roberta else "PreTrainedTokenizerFast"


def _model_kind(files: Mapping[str, bytes]) -> str:
    """The kind of a tokenizer's model, as `tokenizer.json` calls it."""
    if TOKENIZER_FILE in files:
        model = _json_object(files, TOKENIZER_FILE).get("model")
        return str(model.get("type", "WordPiece")) if isinstance(model, dict) else "WordPiece"
    return "WordPiece" if VOCABULARY_FILE in files else "BPE"


def _candidates(files: Mapping[str, bytes]) -> Iterator[str]:
    """Tokens that may be what is padded with, the likeliest first."""
    for document in (tokenizer_settings(files), _json_object(files, SPECIAL_TOKENS_FILE)):
        token = document.get("pad_token")
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            yield token
    padding = _json_object(files, TOKENIZER_FILE).get("padding")
    if isinstance(padding, dict) and isinstance(padding.get("pad_token"), str):
        yield padding["pad_token"]
    yield from ("[PAD]", "<pad>")


def _token_ids(files: Mapping[str, bytes]) -> dict[str, int]:
    """Every token's id; of several files, `tokenizer.json` has the last word."""
    ids: dict[str, int] = {}
    if VOCABULARY_FILE in files:
        try:
            lines = files[VOCABULARY_FILE].decode("utf-8").removesuffix("\n").split("\n")
        except ValueError as error:
            raise _unreadable(VOCABULARY_FILE, error) from error
        ids |= {token: index for index, token in enumerate(lines)}
    try:
        ids |= _json_object(files, PAIRS_VOCABULARY_FILE)
        document = _json_object(files, TOKENIZER_FILE)
        vocabulary = document.get("model", {}).get("vocab", {})
        if isinstance(vocabulary, dict):
            ids |= vocabulary
        else:  # of Unigram models: tokens and their scores, in the order of the ids
            ids |= {token: index for index, (token, _) in enumerate(vocabulary)}
        ids |= {added["content"]: added["id"] for added in document.get("added_tokens") or []}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(TOKENIZER_FILE, error) from error
    return ids


def _json_object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """What a file of JSON says; nothing where it is not there."""
    try:
        document = json.loads(files.get(name, b"{}"))
    except (ValueError, RecursionError) as error:
        raise _unreadable(name, error) from error
    if not isinstance(document, dict):
        raise _unreadable(name, "it does not hold one JSON object")
    return document


def _unreadable(name: str, reason: object) -> InputError:
    return InputError(
        f"{name} of the tokenizer cannot be read ({reason}): copy the teacher's again"
    )
