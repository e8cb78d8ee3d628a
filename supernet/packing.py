"""Documents to token sequences: special tokens around text, packed full, never across groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from supernet.corpus import SPLITS
from supernet.text_document import Document
from supernet.tokenizer_roles import Frame

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A sequence with fewer tokens, the special ones among them, says too little to be learnt from.
MIN_TOKENS = 8

# Upper ends of the splits' parts of the hash's range: 90, 5 and 5 %.
_SPLIT_ENDS = (0.90, 0.95, 1.0)

# Sentences that are tokenised in one call, by as many threads as there are cores. What the library
# returns of a sentence is many times as large as its ids.
_CALL_SENTENCES = 2048


class PackedSequence(NamedTuple):
    """A sequence, and where it belongs.

    Attributes:
        group: of its documents.
        ids: its tokens, not padded.
        segment_start: where segment 1 begins; the number of tokens where there is none.
    """

    group: str
    ids: list[int]
    segment_start: int


def split_of(group: str) -> str:
    """The split that a group belongs to, by its name alone.

    So a group stays where it is when a corpus grows, and what was held out once stays held out.
    """
    # A hash of its own: sources use hashes of names to choose what they take.
    digest = hashlib.sha256(f"split {group}".encode(errors="replace")).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return next(name for name, end in zip(SPLITS, _SPLIT_ENDS, strict=True) if position < end)


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """A copy to which a special token that a sentence spells out is text."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.encode_special_tokens = True
    return plain


def pack(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    frame: Frame,
    *,
    sequence_length: int,
    pairs: bool = False,
) -> Iterator[PackedSequence]:
    """Packs documents into sequences.

    Whole sentences are put into a sequence, in order, until the next one does not fit; one that
    fits into no sequence is cut. Documents of one group share sequences, those of different
    groups never do. Sequences of fewer than `MIN_TOKENS` tokens are dropped.

    Args:
        documents: those of one group one after another.
        tokenizer: what splits sentences, as `plain_tokenizer` gives it.
        frame: the special tokens around one text and around two.
        sequence_length: the most tokens of a sequence, special ones among them.
        pairs: whether two consecutive runs of sentences, of half the length each, share a
            sequence as its two texts; the last of a group may be left alone.
    """
    room = (sequence_length - frame.pair) // 2 if pairs else sequence_length - frame.single
    for group, sentences in groupby(_tokenized(documents, tokenizer), key=lambda pair: pair[0]):
        runs = _packed((ids for _, ids in sentences), room)
        for first in runs:
            second = next(runs, None) if pairs else None
            packed = _framed(group, first, second, frame)
            if len(packed.ids) >= MIN_TOKENS:
                yield packed


def _framed(group: str, first: list[int], second: list[int] | None, frame: Frame) -> PackedSequence:
    if second is None:
        ids = [*frame.before, *first, *frame.after]
        return PackedSequence(group, ids, len(ids))
    ids = [*frame.before, *first, *frame.between, *second, *frame.after_pair]
    if frame.first_segment is None:
        return PackedSequence(group, ids, len(ids))
    return PackedSequence(group, ids, len(frame.before) + len(first) + frame.first_segment)


def _packed(sentences: Iterable[Sequence[int]], room: int) -> Iterator[list[int]]:
    """Runs of whole sentences of at most `room` ids; a longer sentence is cut into such runs."""
    run: list[int] = []
    for sentence in sentences:
        for start in range(0, len(sentence), room):
            part = sentence[start : start + room]
            if len(run) + len(part) > room:
                yield run
                run = []
            run.extend(part)
    if run:
        yield run


def _tokenized(
    documents: Iterable[Document], tokenizer: Tokenizer
) -> Iterator[tuple[str, list[int]]]:
    """Group and ids of every sentence."""
    groups: list[str] = []
    sentences: list[str] = []

    def flush() -> Iterator[tuple[str, list[int]]]:
        encoded = tokenizer.encode_batch_fast(sentences, add_special_tokens=False)
        yield from zip(groups, (encoding.ids for encoding in encoded), strict=True)
        groups.clear()
        sentences.clear()

    for document in documents:
        groups.extend([document.group] * len(document.sentences))
        sentences.extend(document.sentences)
        if len(sentences) >= _CALL_SENTENCES:
            yield from flush()
    yield from flush()
