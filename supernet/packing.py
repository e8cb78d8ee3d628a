"""Documents to token sequences: `[CLS] text [SEP]`, packed full, never across groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from supernet.corpus import SPLITS
from supernet.corpus_text import Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A sequence with fewer tokens, [CLS] and [SEP] among them, says too little to be learnt from.
MIN_TOKENS = 8

# Upper ends of the splits' parts of the hash's range: 90, 5 and 5 %.
_SPLIT_ENDS = (0.90, 0.95, 1.0)

# Sentences that are tokenised in one call, by as many threads as there are cores.
_CHUNK_SENTENCES = 8192


def split_of(group: str) -> str:
    """The split that a group belongs to, by its name alone.

    So a group stays where it is when a corpus grows, and what was held out once stays held out.
    """
    # A hash of its own: sources use hashes of names to choose what they take.
    digest = hashlib.sha256(f"split {group}".encode(errors="replace")).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return next(name for name, end in zip(SPLITS, _SPLIT_ENDS, strict=True) if position < end)


def pack(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    sequence_length: int,
    cls_id: int,
    sep_id: int,
) -> Iterator[tuple[str, list[int]]]:
    """Packs documents into sequences.

    Whole sentences are put into a sequence, in order, until the next one does not fit; one that
    fits into no sequence is cut. Documents of one group share sequences, those of different
    groups never do. Sequences of fewer than `MIN_TOKENS` tokens are dropped.

    Args:
        documents: those of one group one after another.
        tokenizer: a BERT tokenizer; a special token that a sentence spells out is text to it.
        sequence_length: the most tokens of a sequence, [CLS] and [SEP] among them.
        cls_id: the id of [CLS].
        sep_id: the id of [SEP].

    Yields:
        The group of each sequence, and its ids, not padded.
    """
    room = sequence_length - 2
    for group, sentences in groupby(_tokenized(documents, tokenizer), key=lambda pair: pair[0]):
        for ids in _packed((ids for _, ids in sentences), room):
            if len(ids) + 2 >= MIN_TOKENS:
                yield group, [cls_id, *ids, sep_id]


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
    from tokenizers import Tokenizer

    # A copy: the caller's tokenizer keeps reading "[SEP]" in a text as a special token.
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.encode_special_tokens = True
    groups: list[str] = []
    sentences: list[str] = []

    def flush() -> Iterator[tuple[str, list[int]]]:
        encoded = plain.encode_batch_fast(sentences, add_special_tokens=False)
        yield from zip(groups, (encoding.ids for encoding in encoded), strict=True)
        groups.clear()
        sentences.clear()

    for document in documents:
        groups.extend([document.group] * len(document.sentences))
        sentences.extend(document.sentences)
        if len(sentences) >= _CHUNK_SENTENCES:
            yield from flush()
    yield from flush()
