"""Sentences that were seen before, in another document or in the same, are left out.

What is held out must not have been trained on. A sentence is known by eight bytes of a hash of its
letters and digits: of a thousand million sentences, there is one chance in thirty that one is
left out that was new. They stand in sorted arrays: eight bytes a sentence, and for moments, while
two arrays become one, two and a half times that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]


def sentence_key(sentence: str) -> bytes:
    """Eight bytes: equal for the same words, however they are dressed."""
    # Letters and digits alone: the same words in another dress are the same sentence.
    words = "".join(filter(str.isalnum, sentence)).casefold() or sentence
    return hashlib.blake2b(words.encode(), digest_size=8).digest()


class SeenSentences:
    """The sentences seen so far."""

    def __init__(self) -> None:
        # Sorted, each more than twice as long as the next.
        self._arrays: list[Keys] = []

    def __len__(self) -> int:
        return sum(map(len, self._arrays))

    def first_seen(self, sentences: Sequence[str]) -> list[bool]:
        """Which sentences are new, and new among themselves; from now on they have been seen."""
        keys = np.frombuffer(b"".join(map(sentence_key, sentences)), dtype="<u8")
        unique, first = np.unique(keys, return_index=True)
        new = np.ones(len(unique), dtype=bool)
        for array in self._arrays:
            places = np.minimum(np.searchsorted(array, unique), len(array) - 1)
            new &= array[places] != unique
        self._add(unique[new])
        is_first = np.zeros(len(keys), dtype=bool)
        is_first[first[new]] = True
        return [bool(value) for value in is_first]

    def _add(self, keys: Keys) -> None:
        if not len(keys):
            return
        self._arrays.append(keys)
        while len(self._arrays) > 1 and len(self._arrays[-2]) <= 2 * len(self._arrays[-1]):
            merged = np.concatenate(self._arrays[-2:])
            del self._arrays[-2:]
            merged.sort(kind="stable")  # finds the two runs and merges them
            self._arrays.append(merged)
