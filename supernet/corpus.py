"""Token corpora: sequences of tokens in three splits, and the folder that stores them.

- `train`: what is learnt from
- `search`: held out, for judging candidates during a search
- `test`: held out from the search, too

History of the schema of `corpus.json`:

1. The first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import read_signed_json, whole_binary_file, write_signed_json
from autotinybert.values import integer, mapping, text
from supernet.corpus_split import TokenIds, TokenSplit

__all__ = ["TokenCorpus", "TokenIds", "TokenSplit", "load_corpus", "save_corpus"]

SCHEMA_VERSION = 1

CORPUS_FILE = "corpus.json"
SPLITS = ("train", "search", "test")
SHARD_FILES = {name: f"{name}.safetensors" for name in SPLITS}
CORPUS_FILES = (CORPUS_FILE, *SHARD_FILES.values())

_REMEDY = "make it again with prepare-corpus"


@dataclass(frozen=True)
class TokenCorpus:
    """A corpus as tokens.

    Attributes:
        sequence_length: the most tokens of a sequence, [CLS] and [SEP] among them.
        vocab_size: rows that a word embedding needs.
        splits: `train`, `search` and `test`, each with at least one sequence.
        facts: JSON values: source, counts, ids of the special tokens, hash of the tokenizer.
    """

    sequence_length: int
    vocab_size: int
    splits: Mapping[str, TokenSplit]
    facts: Mapping[str, Any]


def save_corpus(folder: Path, corpus: TokenCorpus) -> None:
    """Writes a corpus into a folder that is already there.

    Raises:
        InputError: if the folder cannot be written.
    """
    from safetensors.numpy import save

    hashes = {}
    for name, split in corpus.splits.items():
        tensors = {"input_ids": split.input_ids, "lengths": split.lengths}
        # Of a view, safetensors would write the memory that lies behind it.
        content = save({key: np.ascontiguousarray(value) for key, value in tensors.items()})
        hashes[name] = hashlib.sha256(content).hexdigest()
        with whole_binary_file(folder / SHARD_FILES[name]) as file:
            file.write(content)
    write_signed_json(
        folder / CORPUS_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "token-corpus",
            "sequence_length": corpus.sequence_length,
            "vocab_size": corpus.vocab_size,
            "shards": hashes,
            "facts": dict(corpus.facts),
        },
    )


def load_corpus(folder: Path) -> TokenCorpus:
    """Reads a corpus back and checks it.

    Raises:
        InputError: if the folder holds none, or one of a later version.
        DamagedFileError: if a file was torn, truncated, edited or lost.
    """
    path = folder / CORPUS_FILE
    if not path.exists():
        raise InputError(f"no corpus in {folder}: make one with prepare-corpus --out {folder}")
    document = read_signed_json(
        path, kind="token-corpus", schema_version=SCHEMA_VERSION, remedy=_REMEDY
    )
    try:
        sequence_length, vocab_size = (
            integer(document[name], lowest=1) for name in ("sequence_length", "vocab_size")
        )
        hashes = {name: text(mapping(document["shards"])[name]) for name in SPLITS}
        facts = mapping(document["facts"])
        pad_id = integer(mapping(facts["special_ids"])["pad"])
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise DamagedFileError(f"{path} is no token corpus ({error}): {_REMEDY}") from error
    splits = {}
    for name, file in SHARD_FILES.items():
        split = _load_shard(folder / file, hashes[name])
        if not _is_sound(split, sequence_length, vocab_size, pad_id):
            raise DamagedFileError(
                f"{folder / file} does not hold sequences of up to {sequence_length} tokens of a "
                f"vocabulary of {vocab_size}: {_REMEDY}"
            )
        splits[name] = split
    return TokenCorpus(sequence_length, vocab_size, splits, facts)


def _load_shard(path: Path, sha256: str) -> TokenSplit:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedFileError(f"cannot read {path}: {error.strerror}; {_REMEDY}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedFileError(f"{path} is torn, truncated or edited: {_REMEDY}")
    try:
        tensors = load(content)
        return TokenSplit(tensors["input_ids"], tensors["lengths"])
    except (SafetensorError, LookupError, ValueError) as error:
        raise DamagedFileError(f"{path} holds no sequences ({error}): {_REMEDY}") from error


def _is_sound(split: TokenSplit, sequence_length: int, vocab_size: int, pad_id: int) -> bool:
    """Whether a shard has the shapes, the range of ids and the padding that it must have."""
    ids, lengths = split.input_ids, split.lengths
    if ids.dtype != np.int32 or lengths.dtype != np.int32 or ids.ndim != 2 or not len(ids):
        return False
    if ids.shape[1] != sequence_length or lengths.shape != (len(ids),):
        return False
    if lengths.min() < 1 or lengths.max() > sequence_length:
        return False
    is_padding = np.arange(sequence_length) >= lengths[:, None]
    return bool(ids.min() >= 0 and ids.max() < vocab_size and (ids[is_padding] == pad_id).all())
