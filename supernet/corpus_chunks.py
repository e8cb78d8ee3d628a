"""Documents to chunks: what one worker tokenises at a time, without repeats and up to a cap.

The same source gives the same chunks, whatever reads them afterwards: so their results can be kept
and found again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from autotinybert.errors import InputError
from supernet.text_document import Document, Tally
from supernet.text_repeats import SeenSentences

# Of a chunk: enough that starting one costs nothing, few enough for each worker to hold two.
CHUNK_CHARACTERS = 1_000_000

# Whose sentences are looked up together.
_LOOKUP_CHARACTERS = 64_000

Chunk = tuple[Document, ...]


def chunks(
    documents: Iterable[Document],
    tally: Tally,
    *,
    max_characters: int | None = None,
    keep_repeats: bool = False,
    chunk_characters: int = CHUNK_CHARACTERS,
) -> Iterator[Chunk]:
    """Groups documents into chunks; those of one group are in one chunk.

    Args:
        documents: those of one group one after another.
        tally: where characters and repeats are counted.
        max_characters: take no further group once there is so much text.
        keep_repeats: whether sentences that were seen before stay.
        chunk_characters: where a chunk ends, with the group that reaches it.

    Raises:
        InputError: if the cap is below 1.
    """
    if max_characters is not None and max_characters < 1:
        raise InputError(f"a corpus of {max_characters} characters is none: ask for 1 or more")
    groups = _groups(documents)
    if not keep_repeats:
        groups = _without_repeats(groups, tally)
    chunk: list[Document] = []
    characters = 0
    for group in groups:
        if max_characters is not None and tally.characters >= max_characters:
            tally.complete = False
            break
        chunk.extend(group)
        taken = sum(document.characters for document in group)
        tally.characters += taken
        characters += taken
        if characters >= chunk_characters:
            yield tuple(chunk)
            chunk, characters = [], 0
    if chunk:
        yield tuple(chunk)


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    for _, members in groupby(documents, key=lambda document: document.group):
        group = [document for document in members if document.sentences]
        if group:
            yield group


def _without_repeats(groups: Iterable[list[Document]], tally: Tally) -> Iterator[list[Document]]:
    """The groups with what is new in them; several are looked up together."""
    seen = SeenSentences()
    waiting: list[list[Document]] = []
    characters = 0
    for group in groups:
        waiting.append(group)
        characters += sum(document.characters for document in group)
        if characters >= _LOOKUP_CHARACTERS:
            yield from _new_in(waiting, seen, tally)
            waiting, characters = [], 0
    yield from _new_in(waiting, seen, tally)


def _new_in(
    groups: list[list[Document]], seen: SeenSentences, tally: Tally
) -> Iterator[list[Document]]:
    sentences = [text for group in groups for document in group for text in document.sentences]
    is_new = iter(seen.first_seen(sentences))
    for group in groups:
        left: list[Document] = []
        for document in group:
            new = tuple(text for text in document.sentences if next(is_new))
            tally.repeated_sentences += len(document.sentences) - len(new)
            if new:
                left.append(Document(document.group, new))
        if left:
            yield left
