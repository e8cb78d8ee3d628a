"""One split of a corpus: sequences of tokens, in memory or read from mapped files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]
# Tokens of many sequences one after another; small vocabularies are stored in two bytes.
FlatTokens = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]


class Rows(Protocol):
    """Where the tokens of sequences are: row `i` holds those of sequence `i`."""

    @property
    def width(self) -> int:
        """Tokens of the longest sequence that may be there."""

    def gather(self, chosen: Indices, longest: int) -> TokenIds:
        """Some rows, padded to `longest`, which is not below the length of any of them."""

    def padded(self) -> TokenIds:
        """All rows, `[N, width]`."""


class PaddedRows:
    """Rows in memory.

    Args:
        input_ids: `[N, S]`, int32.
    """

    def __init__(self, input_ids: TokenIds) -> None:
        self._input_ids = input_ids

    @property
    def width(self) -> int:
        """Tokens of a row."""
        return int(self._input_ids.shape[1])

    def gather(self, chosen: Indices, longest: int) -> TokenIds:
        """Some rows, cut to `longest`."""
        return self._input_ids[chosen, :longest]

    def padded(self) -> TokenIds:
        """All rows, not copied."""
        return self._input_ids


class FlatRows:
    """Rows of their own lengths in shards, each one flat array, which may be a mapped file.

    Args:
        shards: the tokens of each shard, at least one shard.
        lengths: `[N]`, of the rows of all shards, in order.
        counts: rows in each shard.
        width: the most tokens of a row.
        pad_id: what rows are padded with.
    """

    def __init__(
        self,
        shards: Sequence[FlatTokens],
        lengths: TokenIds,
        counts: Sequence[int],
        *,
        width: int,
        pad_id: int,
    ) -> None:
        self._shards = shards
        self._lengths = lengths
        self._first_rows = np.concatenate([[0], np.cumsum(counts)])
        self._width = width
        self._pad_id = pad_id
        # Four bytes a sequence: no shard holds more tokens than that.
        self._offsets = np.zeros(len(lengths), dtype=np.uint32)
        for begin, end in pairwise(self._first_rows.tolist()):
            if end > begin:
                self._offsets[begin + 1 : end] = np.cumsum(lengths[begin : end - 1])

    @property
    def width(self) -> int:
        """Tokens of the longest sequence that may be there."""
        return self._width

    def gather(self, chosen: Indices, longest: int) -> TokenIds:
        """Some rows, read from their shards and padded."""
        rows = np.where(chosen < 0, chosen + len(self._lengths), chosen)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self._lengths)):
            raise IndexError(f"there are {len(self._lengths)} sequences")
        shards = np.searchsorted(self._first_rows, rows, side="right") - 1
        found = np.full((len(rows), longest), self._pad_id, dtype=np.int32)
        places = zip(
            shards.tolist(),
            self._offsets[rows].tolist(),
            self._lengths[rows].tolist(),
            strict=True,
        )
        for row, (shard, offset, length) in zip(found, places, strict=True):
            row[:length] = self._shards[shard][offset : offset + length]
        return found

    def padded(self) -> TokenIds:
        """All rows, copied into memory."""
        return self.gather(np.arange(len(self._lengths)), self._width)


class TokenSplit:
    """Sequences of tokens: special tokens around one text or around two.

    Attributes:
        lengths: `[N]`, int32: the tokens of each sequence before its padding.
        segment_starts: `[N]`, int32: where segment 1 begins, up to its end; the length where all
            of a sequence is segment 0. None where that is so for all.
    """

    def __init__(
        self,
        input_ids: TokenIds | Rows,
        lengths: TokenIds,
        segment_starts: TokenIds | None = None,
    ) -> None:
        """Stores what is there.

        Args:
            input_ids: `[N, S]`, int32, padded; or rows that are read when they are asked for.
            lengths: see the attribute.
            segment_starts: see the attribute.
        """
        self._rows: Rows = PaddedRows(input_ids) if isinstance(input_ids, np.ndarray) else input_ids
        self.lengths = lengths
        self.segment_starts = segment_starts

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def input_ids(self) -> TokenIds:
        """`[N, S]`, int32, padded. Of a split in mapped files, all of it is read into memory."""
        return self._rows.padded()

    @property
    def tokens(self) -> int:
        """Tokens of all sequences, without padding."""
        return int(self.lengths.sum(dtype=np.int64))

    @property
    def padding(self) -> float:
        """The share of `input_ids` that is padding."""
        return 1 - self.tokens / (len(self) * self._rows.width)

    def batch(self, indices: npt.ArrayLike) -> tuple[TokenIds, TokenIds]:
        """Some sequences, trimmed to the longest of them.

        Args:
            indices: `[B]`, at least one.

        Returns:
            `input_ids` and `attention_mask` (1 for tokens, 0 for padding), `[B, longest]`, int32.
        """
        chosen = np.asarray(indices)
        lengths = self.lengths[chosen]
        longest = int(lengths.max())
        mask = (np.arange(longest) < lengths[:, None]).astype(np.int32)
        return self._rows.gather(chosen, longest), mask

    def token_types(self, indices: npt.ArrayLike) -> TokenIds | None:
        """The segment of each token of a batch: 1 in the second of two texts, else 0.

        Args:
            indices: `[B]`, as `batch` takes them.

        Returns:
            `[B, longest]`, int32, 0 for padding; None where all of the split is segment 0.
        """
        if self.segment_starts is None:
            return None
        chosen = np.asarray(indices)
        lengths, starts = self.lengths[chosen], self.segment_starts[chosen]
        places = np.arange(int(lengths.max()))
        second = (places >= starts[:, None]) & (places < lengths[:, None])
        types: TokenIds = second.astype(np.int32)
        return types
