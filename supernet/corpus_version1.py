"""Corpora of schema version 1: one padded array a split, read into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autotinybert.errors import DamagedFileError
from autotinybert.values import mapping, text
from supernet.corpus_shards import REMEDY
from supernet.corpus_split import TokenSplit


def load_splits(
    folder: Path,
    shards: Mapping[str, Any],
    names: tuple[str, ...],
    *,
    sequence_length: int,
    vocab_size: int,
    pad_id: int,
) -> dict[str, TokenSplit]:
    """Reads and checks the splits.

    Args:
        folder: of the corpus.
        shards: the SHA-256 of each split's file.
        names: of the splits.
        sequence_length: columns of each array.
        vocab_size: one more than the highest id.
        pad_id: what rows are padded with.

    Raises:
        DamagedFileError: if a file was torn, truncated, edited or lost.
        LookupError, ValueError: if a hash is missing.
    """
    hashes = {name: text(mapping(shards)[name]) for name in names}
    splits = {}
    for name, sha256 in hashes.items():
        path = folder / f"{name}.safetensors"
        split = _load(path, sha256)
        if not _is_sound(split, sequence_length, vocab_size, pad_id):
            raise DamagedFileError(
                f"{path} does not hold sequences of up to {sequence_length} tokens of a "
                f"vocabulary of {vocab_size}: {REMEDY}"
            )
        splits[name] = split
    return splits


def _load(path: Path, sha256: str) -> TokenSplit:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedFileError(f"cannot read {path}: {error.strerror}; {REMEDY}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedFileError(f"{path} is torn, truncated or edited: {REMEDY}")
    try:
        tensors = load(content)
        return TokenSplit(tensors["input_ids"], tensors["lengths"])
    except (SafetensorError, LookupError, ValueError) as error:
        raise DamagedFileError(f"{path} holds no sequences ({error}): {REMEDY}") from error


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
