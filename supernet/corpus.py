"""Token corpora: sequences of tokens in three splits, and the folder that stores them.

- `train`: what is learnt from
- `search`: held out, for judging candidates during a search
- `test`: held out from the search, too

What is checked when a corpus is opened: always `corpus.json` and its checksum, and of every shard
its size, header and lengths; the bytes and ids of shards only where they are few
(`CHECKED_BYTES`), or where it is asked for (`prepare-corpus --verify`), since that reads them all.

History of the schema of `corpus.json`:

1. The first: a file a split, `input_ids` `[N, S]` and `lengths` `[N]`, int32. It is still read.
2. Several files a split, which are mapped into memory: tokens without padding, two bytes each for
   vocabularies of up to 65,536; `segment_starts` for sequences of two texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import read_signed_json, write_signed_json
from autotinybert.values import integer, items, mapping
from supernet import corpus_version1
from supernet.corpus_shards import (
    REMEDY,
    ShardRecord,
    ShardWriter,
    open_shard,
    shard_name,
    token_dtype,
)
from supernet.corpus_split import FlatRows, TokenIds, TokenSplit

__all__ = ["TokenCorpus", "TokenIds", "TokenSplit", "load_corpus", "save_corpus"]

SCHEMA_VERSION = 2

CORPUS_FILE = "corpus.json"
SPLITS = ("train", "search", "test")
# The first of each split; large corpora have more, which `corpus.json` names.
SHARD_FILES = {name: shard_name(name, 0) for name in SPLITS}
CORPUS_FILES = (CORPUS_FILE, *SHARD_FILES.values())

# Shards of no more than this together are read and hashed whenever a corpus is opened.
CHECKED_BYTES = 64 * 2**20


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
    """Writes a corpus that is in memory into a folder that is already there.

    Raises:
        InputError: if the folder cannot be written.
    """
    records = {}
    for name, split in corpus.splits.items():
        writer = ShardWriter(folder, name, token_dtype(corpus.vocab_size))
        ids, lengths = split.input_ids, split.lengths
        is_token = np.arange(ids.shape[1]) < lengths[:, None]
        writer.add(ids[is_token], lengths, split.segment_starts)
        writer.flush()
        records[name] = writer.records
    write_document(
        folder,
        records,
        sequence_length=corpus.sequence_length,
        vocab_size=corpus.vocab_size,
        facts=corpus.facts,
    )


def write_document(
    folder: Path,
    shards: Mapping[str, Iterable[ShardRecord]],
    *,
    sequence_length: int,
    vocab_size: int,
    facts: Mapping[str, Any],
) -> None:
    """Writes `corpus.json` for shards that are already there.

    Raises:
        InputError: if the folder cannot be written.
    """
    write_signed_json(
        folder / CORPUS_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "token-corpus",
            "sequence_length": sequence_length,
            "vocab_size": vocab_size,
            "shards": {
                name: [shard.to_json() for shard in found] for name, found in shards.items()
            },
            "facts": dict(facts),
        },
    )


def load_corpus(folder: Path, *, verify: bool = False) -> TokenCorpus:
    """Opens a corpus and checks it.

    Args:
        folder: of the corpus.
        verify: whether the bytes and ids of large corpora are checked, too; those of small ones
            always are.

    Raises:
        InputError: if the folder holds none, or one of a later version.
        DamagedFileError: if a file was torn, truncated, edited or lost.
    """
    path = folder / CORPUS_FILE
    if not path.exists():
        raise InputError(f"no corpus in {folder}: make one with prepare-corpus --out {folder}")
    document = read_signed_json(
        path, kind="token-corpus", schema_version=SCHEMA_VERSION, remedy=REMEDY
    )
    try:
        sequence_length, vocab_size = (
            integer(document[name], lowest=1) for name in ("sequence_length", "vocab_size")
        )
        facts = mapping(document["facts"])
        pad_id = integer(mapping(facts["special_ids"])["pad"], highest=vocab_size - 1)
        if document["schema_version"] == 1:
            splits = corpus_version1.load_splits(
                folder,
                document["shards"],
                SPLITS,
                sequence_length=sequence_length,
                vocab_size=vocab_size,
                pad_id=pad_id,
            )
            return TokenCorpus(sequence_length, vocab_size, splits, facts)
        records = _records(document["shards"])
    except DamagedFileError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise DamagedFileError(f"{path} is no token corpus ({error}): {REMEDY}") from error
    size = sum(record.bytes for shards in records.values() for record in shards)
    splits = {
        name: _open_split(
            folder,
            shards,
            sequence_length=sequence_length,
            vocab_size=vocab_size,
            pad_id=pad_id,
            verify=verify or size <= CHECKED_BYTES,
        )
        for name, shards in records.items()
    }
    return TokenCorpus(sequence_length, vocab_size, splits, facts)


def shard_files(folder: Path) -> list[Path]:
    """The files of all shards in a folder, of any corpus that was ever there."""
    numbered = "-[0-9][0-9][0-9][0-9][0-9]"
    return sorted(
        path
        for name in SPLITS
        for ending in ("", numbered)
        for path in folder.glob(f"{name}{ending}.safetensors")
    )


def _records(value: object) -> dict[str, list[ShardRecord]]:
    records = {}
    for name in SPLITS:
        found = items(mapping(value)[name], mapping)
        records[name] = [
            ShardRecord.from_json(record, split=name, index=index)
            for index, record in enumerate(found)
        ]
        if not records[name]:
            raise ValueError(f"there is no shard of {name}")
    return records


def _open_split(
    folder: Path,
    records: Sequence[ShardRecord],
    *,
    sequence_length: int,
    vocab_size: int,
    pad_id: int,
    verify: bool,
) -> TokenSplit:
    shards = [
        open_shard(
            folder / record.file,
            record,
            sequence_length=sequence_length,
            vocab_size=vocab_size,
            verify=verify,
        )
        for record in records
    ]
    lengths = np.concatenate([shard.lengths for shard in shards])
    starts = [shard.segment_starts for shard in shards if shard.segment_starts is not None]
    if starts and len(starts) != len(shards):
        raise DamagedFileError(f"{folder} has segments in some of its shards only: {REMEDY}")
    rows = FlatRows(
        [shard.tokens for shard in shards],
        lengths,
        [record.sequences for record in records],
        width=sequence_length,
        pad_id=pad_id,
    )
    return TokenSplit(rows, lengths, np.concatenate(starts) if starts else None)
