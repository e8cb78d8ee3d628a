from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernet.corpus_split import FlatRows, TokenSplit

WIDTH = 12


def flat_split(lengths: list[int], counts: list[int]) -> tuple[TokenSplit, TokenSplit]:
    """The same sequences in shards and in memory."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 50, (len(lengths), WIDTH), dtype=np.int32)
    rows = [row[:length] for row, length in zip(ids, lengths, strict=True)]
    for row, length in zip(ids, lengths, strict=True):
        row[length:] = 1
    sizes = np.array(lengths, dtype=np.int32)
    ends = np.cumsum(counts).tolist()
    shards = [
        np.concatenate([*rows[end - count : end], np.zeros(0, np.int32)]).astype(np.uint16)
        for count, end in zip(counts, ends, strict=True)
    ]
    flat = FlatRows(shards, sizes, counts, width=WIDTH, pad_id=1)
    return TokenSplit(flat, sizes), TokenSplit(ids, sizes)


@given(st.lists(st.lists(st.integers(1, WIDTH), max_size=6), min_size=1, max_size=4), st.data())
def test_sequences_in_shards_are_those_in_memory(
    parts: list[list[int]], data: st.DataObject
) -> None:
    lengths = [length for part in parts for length in part]
    if not lengths:
        return
    flat, padded = flat_split(lengths, [len(part) for part in parts])
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    for found, expected in zip(flat.batch(chosen), padded.batch(chosen), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.int32
    np.testing.assert_array_equal(flat.input_ids, padded.input_ids)
    assert (len(flat), flat.tokens, flat.padding) == (len(padded), padded.tokens, padded.padding)


def test_a_sequence_that_is_not_there_is_refused() -> None:
    flat, _ = flat_split([3, 4], [1, 1])
    with pytest.raises(IndexError):
        flat.batch([2])
    np.testing.assert_array_equal(flat.batch([-1])[0], flat.batch([1])[0])


def test_segments_begin_where_the_second_text_does() -> None:
    _, plain = flat_split([5, 8, 4], [3])
    assert plain.token_types([0, 1]) is None
    split = TokenSplit(plain.input_ids, plain.lengths, np.array([3, 8, 2], dtype=np.int32))
    types = split.token_types([2, 0])
    assert types is not None
    assert types.tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    assert types.dtype == np.int32
    whole = split.token_types([1])
    assert whole is not None
    assert not whole.any()
    assert whole.shape == split.batch([1])[0].shape
