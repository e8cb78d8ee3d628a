from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernet.packing import MIN_TOKENS, PackedSequence, pack, plain_tokenizer, split_of
from supernet.text_document import Document
from supernet.tokenizer import load_tokenizer
from supernet.tokenizer_roles import Frame

CLS, SEP = 2, 3


FRAME = Frame(before=(CLS,), after=(SEP,), between=(SEP,), after_pair=(SEP,), first_segment=1)


def packed(
    folder: Path,
    documents: list[Document],
    sequence_length: int,
    *,
    frame: Frame = FRAME,
    pairs: bool = False,
) -> list[PackedSequence]:
    tokenizer = plain_tokenizer(load_tokenizer(folder))
    return list(pack(documents, tokenizer, frame, sequence_length=sequence_length, pairs=pairs))


# The folder is only read.
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=5), min_size=1, max_size=8),
    st.integers(MIN_TOKENS, 24),
)
def test_sequences_keep_groups_apart_and_lose_only_short_leftovers(
    bert_folder: Path, lengths: list[list[int]], sequence_length: int
) -> None:
    # The documents of a group hold one letter, so that a sequence tells where it is from.
    documents = [
        Document(f"g{index // 2}", tuple(" ".join("abcd"[index // 2] * n) for n in sentences))
        for index, sentences in enumerate(lengths)
    ]
    letters = {f"g{i}": load_tokenizer(bert_folder).token_to_id("abcd"[i]) for i in range(4)}
    sequences = packed(bert_folder, documents, sequence_length)
    for group, ids, segment_start in sequences:
        assert segment_start == len(ids)
        assert MIN_TOKENS <= len(ids) <= sequence_length
        assert (ids[0], ids[-1]) == (CLS, SEP)
        assert set(ids[1:-1]) == {letters[group]}
    found = Counter({group: 0 for group in letters})
    for group, ids, _ in sequences:
        found[group] += len(ids) - 2
    for group, members in groupby(documents, key=lambda document: document.group):
        sentences = [sentence.split() for document in members for sentence in document.sentences]
        lost = sum(map(len, sentences)) - found[group]
        assert 0 <= lost <= (MIN_TOKENS - 3) * (1 + sum(len(s) > 1 for s in sentences))


def test_whole_sentences_share_a_sequence_while_they_fit(bert_folder: Path) -> None:
    documents = [
        Document("g", ("a a a a", "b b b b")),
        Document("g", ("c c c c",)),
        Document("h", ("d d d d d d",)),
    ]
    lengths = [(group, len(ids)) for group, ids, _ in packed(bert_folder, documents, 12)]
    assert lengths == [("g", 10), ("h", 8)]  # the four of "c" did not fit and are too few alone


def test_a_long_sentence_is_cut_and_its_rest_shares_a_sequence(bert_folder: Path) -> None:
    documents = [Document("g", ("a " * 23, "b b b b"))]
    assert [len(ids) for _, ids, _ in packed(bert_folder, documents, 12)] == [12, 12, 9]


def test_special_tokens_spelt_out_in_a_text_are_text(bert_folder: Path) -> None:
    document = Document("g", ("the [SEP] and [MASK] and [PAD] token",))
    ((_, ids, _),) = packed(bert_folder, [document], 64)
    assert min(ids[1:-1]) > 4
    tokenizer = load_tokenizer(bert_folder)
    assert tokenizer.encode("[SEP]", add_special_tokens=False).ids == [SEP]


def test_pairs_are_what_the_tokenizer_makes_of_two_texts(bert_folder: Path) -> None:
    documents = [
        Document("g", ("a a a a", "b b b b", "c c c c")),
        Document("h", ("d d d d d d",)),
    ]
    found = packed(bert_folder, documents, 13, pairs=True)
    tokenizer = load_tokenizer(bert_folder)
    pair, first, second = (
        tokenizer.encode("a a a a", "b b b b"),
        tokenizer.encode("c c c c"),
        tokenizer.encode("d d d d d d"),
    )
    # A text that is left alone is a single one; of six tokens, five fit into half a sequence.
    assert [ids for _, ids, _ in found] == [
        pair.ids,
        [*second.ids[:6], SEP, second.ids[6], SEP],
    ]
    assert [start for _, _, start in found] == [pair.type_ids.index(1), 7]
    assert len(first.ids) < MIN_TOKENS


def test_pairs_of_roberta_have_two_separators_and_one_segment(bert_folder: Path) -> None:
    frame = Frame((7,), (8,), (8, 8), (8,), None)
    document = Document("g", ("a a a a", "b b b b"))
    ((_, ids, start),) = packed(bert_folder, [document], 12, frame=frame, pairs=True)
    assert (ids[0], ids[5:7], ids[-1]) == (7, [8, 8], 8)
    assert start == len(ids) == 12


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(MIN_TOKENS, 24))
def test_pairs_keep_to_the_length_and_have_both_texts(
    bert_folder: Path, lengths: list[int], sequence_length: int
) -> None:
    document = Document("g", tuple(" ".join("a" * n) for n in lengths))
    for _, ids, start in packed(bert_folder, [document], sequence_length, pairs=True):
        assert MIN_TOKENS <= len(ids) <= sequence_length
        assert ids[start - 1] == SEP
        assert ids.count(SEP) == (1 if start == len(ids) else 2)


def test_a_group_is_always_in_the_same_split() -> None:
    found = Counter(split_of(f"module{index}") for index in range(4000))
    assert {name: found[name] / 4000 for name in ("train", "search", "test")} == pytest.approx(
        {"train": 0.9, "search": 0.05, "test": 0.05}, abs=0.015
    )
    named = [split_of(name) for name in ("ast", "json", "numpy.linalg")]
    assert named == ["test", "test", "train"]
