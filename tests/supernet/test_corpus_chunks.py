from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotinybert.errors import InputError
from supernet.corpus_chunks import chunks
from supernet.text_document import Document, Tally, documents_of
from supernet.text_repeats import SeenSentences


def texts(*documents: str) -> list[Document]:
    return [found for text in documents for found in documents_of(text.split("|"))]


def test_repeats_are_left_out_of_later_documents_and_of_their_own() -> None:
    tally = Tally()
    (chunk,) = chunks(texts("One.|Two.|one", "ONE!", "Three.|two?"), tally)
    assert [document.sentences for document in chunk] == [("One.", "Two."), ("Three.",)]
    assert tally.repeated_sentences == 3
    assert tally.characters == len("One.Two.Three.")
    (kept,) = chunks(texts("One.|one"), Tally(), keep_repeats=True)
    assert kept[0].sentences == ("One.", "one")


def test_a_cap_takes_whole_documents() -> None:
    tally = Tally()
    (chunk,) = chunks(texts("aaaa|bbbb", "cccc", "dddd"), tally, max_characters=9)
    assert [document.sentences for document in chunk] == [("aaaa", "bbbb"), ("cccc",)]
    assert not tally.complete
    tally = Tally()
    list(chunks(texts("aaaa"), tally, max_characters=4))
    assert tally.complete
    with pytest.raises(InputError, match="-1 characters"):
        list(chunks([], Tally(), max_characters=-1))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=40), st.integers(1, 60))
def test_chunks_keep_groups_together_and_lose_nothing(
    sizes: list[tuple[int, int]], chunk_characters: int
) -> None:
    documents = [
        Document(str(group), (f"{index}".rjust(size, "x"),))
        for index, (group, size) in enumerate(sizes)
    ]
    found = list(chunks(documents, Tally(), keep_repeats=True, chunk_characters=chunk_characters))
    assert [document for chunk in found for document in chunk] == documents
    for chunk, following in pairwise(found):
        assert chunk[-1].group != following[0].group
        assert sum(document.characters for document in chunk) >= chunk_characters


@given(st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=12))
def test_a_sentence_is_new_once(batches: list[list[int]]) -> None:
    seen, expected = SeenSentences(), set[int]()
    for batch in batches:
        found = seen.first_seen([f"Sentence {number}." for number in batch])
        for number, is_new in zip(batch, found, strict=True):
            assert is_new == (number not in expected)
            expected.add(number)
    assert len(seen) == len(expected)


def test_what_was_seen_takes_eight_bytes_a_sentence() -> None:
    seen = SeenSentences()
    for start in range(0, 20_000, 500):
        seen.first_seen([str(number) for number in range(start, start + 500)])
    arrays = seen._arrays
    assert sum(array.nbytes for array in arrays) == 8 * 20_000
    assert len(arrays) <= 8
    assert all((np.diff(array) > 0).all() for array in arrays)
