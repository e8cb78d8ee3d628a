"""A tokenizer's files: they travel with an encoder, byte for byte, from teacher to model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotinybert.errors import InputError
from autotinybert.files import whole_binary_file

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
VOCABULARY_FILE = "vocab.txt"
# RoBERTa's, which go together.
PAIRS_VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
# What makes the folder of a model usable as a tokenizer's folder, too.
TOKENIZER_FILES = (
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    SPECIAL_TOKENS_FILE,
    VOCABULARY_FILE,
    PAIRS_VOCABULARY_FILE,
    MERGES_FILE,
)


def read_tokenizer_files(folder: Path) -> dict[str, bytes]:
    """Reads those of `TOKENIZER_FILES` that a folder holds.

    Raises:
        InputError: if neither `tokenizer.json` nor `vocab.txt` is there, nor `vocab.json` with
            `merges.txt`, or one is not readable.
    """
    try:
        files = {
            name: (folder / name).read_bytes()
            for name in TOKENIZER_FILES
            if (folder / name).exists()
        }
    except OSError as error:
        raise InputError(
            f"cannot read {error.filename}: {error.strerror}; give it back or remove it"
        ) from error
    pairs = PAIRS_VOCABULARY_FILE in files and MERGES_FILE in files
    if TOKENIZER_FILE not in files and VOCABULARY_FILE not in files and not pairs:
        raise InputError(
            f"no tokenizer in {folder}: copy {TOKENIZER_FILE} or {VOCABULARY_FILE} of the teacher "
            f"into it, or {PAIRS_VOCABULARY_FILE} and {MERGES_FILE}"
        )
    return files


def write_tokenizer_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a tokenizer's files into a folder that is already there.

    Raises:
        InputError: if the folder cannot be written.
    """
    for name, content in files.items():
        with whole_binary_file(folder / name) as file:
            file.write(content)


def check_tokenizer_files(files: Mapping[str, bytes], vocab_size: int) -> None:
    """Checks that every token has a row in a word embedding of `vocab_size` rows.

    A larger id would be an index out of range, and only once a text happens to contain it.

    Raises:
        InputError: if a file is unreadable, or has a token without a row.
    """
    tokenizer_settings(files)
    for name, largest in (
        (TOKENIZER_FILE, _largest_id_in_json),
        (VOCABULARY_FILE, _largest_id_in_lines),
        (PAIRS_VOCABULARY_FILE, _largest_id_in_pairs),
    ):
        if name not in files:
            continue
        try:
            found = largest(files[name])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{name} of the tokenizer cannot be read ({error}): copy the teacher's again"
            ) from error
        if found >= vocab_size:
            raise InputError(
                f"{name} of the tokenizer has the token id {found}, but the word embedding has "
                f"{vocab_size} rows: copy the tokenizer that the encoder was trained with"
            )


def tokenizer_settings(files: Mapping[str, bytes]) -> dict[str, Any]:
    """What `tokenizer_config.json` says; nothing where it is not there.

    Raises:
        InputError: if it is not one JSON object.
    """
    try:
        settings = json.loads(files.get(TOKENIZER_CONFIG_FILE, b"{}"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{TOKENIZER_CONFIG_FILE} is not valid JSON ({error}): copy the teacher's again"
        ) from error
    if not isinstance(settings, dict):
        raise InputError(
            f"{TOKENIZER_CONFIG_FILE} does not hold one JSON object: copy the teacher's again"
        )
    return settings


def _largest_id_in_json(content: bytes) -> int:
    document = json.loads(content)
    vocabulary = document["model"]["vocab"]  # token to id; in Unigram models a list of pairs
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    added = [token["id"] for token in document.get("added_tokens") or []]
    return max(int(number) for number in (*ids, *added))


def _largest_id_in_pairs(content: bytes) -> int:
    return max(int(number) for number in json.loads(content).values())


def _largest_id_in_lines(content: bytes) -> int:
    # Not splitlines: a token may be a character that Unicode takes for the end of a line.
    return len(content.decode("utf-8").removesuffix("\n").split("\n")) - 1
