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
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    default_tokenizer_class,
    tokenizer_settings,
)

# A RoBERTa folder has these two, or a tokenizer.json, or both.
PAIRS_VOCABULARY_FILE = "vocab.json"
PAIRS_MERGES_FILE = "merges.txt"

_SPECIAL_TOKENS_FILE = "special_tokens_map.json"


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
    ids = _token_ids(files)
    general = "PreTrainedTokenizerFast"
    found = default_tokenizer_class(files) if _has_word_pieces(files) else general
    has_roberta_tokens = all(token in ids for token in ("<s>", "</s>", "<pad>"))
    if found == general and has_roberta_tokens and _has_byte_pairs(files):
        return "RobertaTokenizer"
    return found


def _has_word_pieces(files: Mapping[str, bytes]) -> bool:
    return TOKENIZER_FILE in files or VOCABULARY_FILE in files


def _has_byte_pairs(files: Mapping[str, bytes]) -> bool:
    if TOKENIZER_FILE not in files:
        return PAIRS_VOCABULARY_FILE in files
    model = _json_object(files, TOKENIZER_FILE).get("model")
    return isinstance(model, dict) and model.get("type") == "BPE"


def _candidates(files: Mapping[str, bytes]) -> Iterator[str]:
    """Tokens that may be what is padded with, the likeliest first."""
    for document in (tokenizer_settings(files), _json_object(files, _SPECIAL_TOKENS_FILE)):
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
