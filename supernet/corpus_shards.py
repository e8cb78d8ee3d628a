"""Shards: files of a split's tokens that are mapped into memory, not read.

A shard is a safetensors file with `tokens` `[T]`, those of its sequences one after another,
`lengths` `[N]` and, where sequences have two segments, `segment_starts` `[N]`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import DamagedFileError
from autotinybert.files import sha256_file, whole_binary_file
from autotinybert.values import integer, mapping, text
from supernet.corpus_split import FlatTokens, TokenIds

REMEDY = "make it again with prepare-corpus"

MAX_SHARD_BYTES = 64 * 2**20

# A header of three tensors takes some 200 bytes.
_MAX_HEADER_BYTES = 65_536

_DTYPES: dict[str, np.dtype[Any]] = {"U16": np.dtype("<u2"), "I32": np.dtype("<i4")}

Array = npt.NDArray[Any]


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """What tokens are stored as."""
    return _DTYPES["U16" if vocab_size <= 2**16 else "I32"]


def shard_name(split: str, index: int) -> str:
    """The file of a split's shard."""
    return f"{split}-{index:05}.safetensors"


@dataclass(frozen=True)
class ShardRecord:
    """What `corpus.json` says of a shard.

    Attributes:
        file: its name.
        sha256: of its bytes.
        bytes: its size.
        sequences: in it.
        tokens: in them.
    """

    file: str
    sha256: str
    bytes: int
    sequences: int
    tokens: int

    @classmethod
    def from_json(cls, value: object, *, split: str, index: int) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            ValueError, LookupError: if it is anything else, or the file of another place.
        """
        record = mapping(value)
        if record["file"] != shard_name(split, index):
            raise ValueError(f"shard {index} of {split} is not {record['file']!r}")
        counts = {
            name: integer(record[name], lowest=1) for name in ("bytes", "sequences", "tokens")
        }
        return cls(file=record["file"], sha256=text(record["sha256"]), **counts)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


class ShardWriter:
    """Writes the shards of a split, each of at most `max_bytes` unless one addition is more.

    Args:
        folder: where they go.
        split: its name.
        dtype: of tokens.
        max_bytes: of the tokens of a shard.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        dtype: np.dtype[Any],
        *,
        max_bytes: int = MAX_SHARD_BYTES,
    ) -> None:
        self.records: list[ShardRecord] = []
        self._folder = folder
        self._split = split
        self._dtype = dtype
        self._max_bytes = max_bytes
        self._waiting: list[tuple[FlatTokens, TokenIds, TokenIds | None]] = []
        self._waiting_bytes = 0

    def add(self, tokens: FlatTokens, lengths: TokenIds, segment_starts: TokenIds | None) -> None:
        """Adds sequences: their tokens one after another, and the length of each."""
        size = len(tokens) * self._dtype.itemsize
        if self._waiting_bytes + size > self._max_bytes:
            self.flush()
        if len(lengths):
            self._waiting.append((tokens, lengths, segment_starts))
            self._waiting_bytes += size

    def flush(self) -> None:
        """Writes what waits as a shard.

        Raises:
            InputError: if the folder cannot be written.
        """
        from safetensors.numpy import save

        if not self._waiting:
            return
        tokens, lengths, starts = zip(*self._waiting, strict=True)
        tensors: dict[str, Array] = {
            "tokens": np.concatenate(tokens).astype(self._dtype, copy=False),
            "lengths": np.concatenate(lengths).astype(np.uint16),
        }
        if starts[0] is not None:
            tensors["segment_starts"] = np.concatenate(starts).astype(np.uint16)
        self._waiting, self._waiting_bytes = [], 0
        del tokens, lengths, starts
        content = save(tensors)
        name = shard_name(self._split, len(self.records))
        with whole_binary_file(self._folder / name) as file:
            file.write(content)
        self.records.append(
            ShardRecord(
                file=name,
                sha256=hashlib.sha256(content).hexdigest(),
                bytes=len(content),
                sequences=len(tensors["lengths"]),
                tokens=len(tensors["tokens"]),
            )
        )


@dataclass(frozen=True)
class Shard:
    """A mapped shard.

    Attributes:
        tokens: `[T]`, on disk.
        lengths: `[N]`, int32, in memory.
        segment_starts: likewise, or None.
    """

    tokens: FlatTokens
    lengths: TokenIds
    segment_starts: TokenIds | None


def open_shard(
    path: Path, record: ShardRecord, *, sequence_length: int, vocab_size: int, verify: bool
) -> Shard:
    """Maps a shard. Its size, header and lengths are always checked.

    Args:
        path: the file.
        record: what it must be.
        sequence_length: the most tokens of a sequence.
        vocab_size: one more than the highest id.
        verify: whether its bytes and ids are checked, too, which reads all of it.

    Raises:
        DamagedFileError: if it was torn, truncated, edited or lost.
    """
    try:
        whole = path.stat().st_size == record.bytes
        whole = whole and not (verify and sha256_file(path) != record.sha256)
        tensors = _mapped(path, record.bytes) if whole else {}
    except OSError as error:
        raise DamagedFileError(f"cannot read {path}: {error.strerror}; {REMEDY}") from error
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} holds no sequences ({error}): {REMEDY}") from error
    if not whole:
        raise DamagedFileError(f"{path} is torn, truncated or edited: {REMEDY}")
    tokens, lengths = tensors.get("tokens"), tensors.get("lengths")
    starts = tensors.get("segment_starts")
    if tokens is None or lengths is None:
        raise DamagedFileError(f"{path} holds no sequences (a tensor is missing): {REMEDY}")
    lengths = lengths.astype(np.int32)
    starts = None if starts is None else starts.astype(np.int32)
    sound = (len(tokens), len(lengths)) == (record.tokens, record.sequences)
    sound = sound and _are_lengths(lengths, starts, len(tokens), sequence_length)
    if sound and verify:
        sound = bool(tokens.min() >= 0 and tokens.max() < vocab_size)
    if not sound:
        raise DamagedFileError(
            f"{path} does not hold sequences of up to {sequence_length} tokens of a vocabulary of "
            f"{vocab_size}: {REMEDY}"
        )
    return Shard(tokens, lengths, starts)


def _are_lengths(
    lengths: TokenIds, starts: TokenIds | None, tokens: int, sequence_length: int
) -> bool:
    if lengths.min() < 1 or lengths.max() > sequence_length:
        return False
    if starts is not None and (
        starts.shape != lengths.shape or starts.min() < 1 or (starts > lengths).any()
    ):
        return False
    return int(lengths.sum(dtype=np.int64)) == tokens


def _mapped(path: Path, size: int) -> dict[str, Array]:
    """The vectors of a safetensors file, mapped.

    Raises:
        ValueError, LookupError, TypeError: if it is none.
    """
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if not 0 < header_bytes <= min(_MAX_HEADER_BYTES, size - 8):
            raise ValueError("it has no header")
        header = mapping(json.loads(file.read(header_bytes)))
    data = 8 + header_bytes
    found: dict[str, Array] = {}
    for name, entry in header.items():
        dtype = _DTYPES[entry["dtype"]]
        begin, end = (integer(value, highest=size - data) for value in entry["data_offsets"])
        (count,) = (integer(value, lowest=1) for value in entry["shape"])
        if end - begin != count * dtype.itemsize:
            raise ValueError(f"{name} has another size than it says")
        found[name] = np.memmap(path, dtype, "r", offset=data + begin, shape=(count,))
    return found
