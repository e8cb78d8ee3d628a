"""Documents: what every source of text is read as."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# A longer document is taken for several: a file without empty lines must not fill the memory.
MAX_DOCUMENT_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Document:
    """A text whose sentences belong together.

    Attributes:
        group: what it is split by: documents of one group all go to the same split.
        sentences: in order, white space collapsed, none empty.
    """

    group: str
    sentences: tuple[str, ...]

    @property
    def characters(self) -> int:
        """Characters in all sentences."""
        return sum(map(len, self.sentences))


@dataclass
class Tally:
    """What was read so far.

    Attributes:
        files: files opened.
        files_skipped: files that could not be read or parsed.
        characters: of the sentences that were taken.
        repeated_sentences: sentences left out because they were seen before.
        complete: whether the source ended before the cap on characters was reached.
    """

    files: int = 0
    files_skipped: int = 0
    characters: int = 0
    repeated_sentences: int = 0
    complete: bool = True


def documents_of(sentences: Iterable[str]) -> Iterator[Document]:
    """A text as a document of its own group, named by a hash of it; a very long one as several."""
    part: list[str] = []
    characters = 0
    for sentence in sentences:
        if part and characters + len(sentence) > MAX_DOCUMENT_CHARACTERS:
            yield _document(part)
            part, characters = [], 0
        part.append(sentence)
        characters += len(sentence)
    if part:
        yield _document(part)


def _document(sentences: list[str]) -> Document:
    content = "\n".join(sentences).encode()
    return Document(hashlib.sha256(content).hexdigest()[:16], tuple(sentences))
