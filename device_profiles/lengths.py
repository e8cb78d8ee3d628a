"""How long a user's texts are, and the sequence lengths that stand for them.

A model that serves texts pads each of them up to the next length that it was measured at. So a
few lengths, chosen so that padding wastes least, and how many texts each of them takes, say what
a mixture of texts costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from supernet.cost import MAX_POSITIONS

IntVector = npt.NDArray[np.int64]

# Eight floats fill a vector register of AVX2, and tokenizers pad to multiples of 8 for that
# reason; with lengths in smaller steps a text would hardly be padded less.
LENGTH_STEP = 8

QUANTILES = (50, 90, 99)

# A billion texts a day for a century; larger is no count of texts.
_HIGHEST_COUNT = 10**14


@dataclass(frozen=True, kw_only=True)
class LengthHistogram:
    """The lengths of a user's texts, by the sequence length that each is padded to.

    Attributes:
        counts: how many texts are padded to each measured length, shortest length first.
        tokens: of all texts together, [CLS] and [SEP] included, what was cut left out.
        cut: how many texts were longer than `MAX_POSITIONS` and are cut there.
        quantiles: the length that p % of the texts do not exceed, before padding, by p.

    Raises:
        InputError: if they cannot belong to one set of texts.
    """

    counts: Mapping[int, int]
    tokens: int
    cut: int
    quantiles: Mapping[int, int]

    def __post_init__(self) -> None:
        lengths = list(self.counts)
        for length in [*lengths, *self.quantiles.values()]:
            _check("a length", length, 1, MAX_POSITIONS)
        for count in self.counts.values():
            _check("a count of texts", count, 1, _HIGHEST_COUNT)
        if not lengths or lengths != sorted(set(lengths)):
            raise InputError("lengths: counts must name each length once, shortest first")
        if tuple(self.quantiles) != QUANTILES:
            raise InputError(f"lengths: the quantiles are p{', p'.join(map(str, QUANTILES))}")
        _check("cut", self.cut, 0, self.texts)
        _check("tokens", self.tokens, self.texts, self.padded_tokens)

    @property
    def texts(self) -> int:
        """How many texts there are."""
        return sum(self.counts.values())

    @property
    def padded_tokens(self) -> int:
        """Tokens of all texts together, padding included."""
        return sum(length * count for length, count in self.counts.items())

    @property
    def padding_share(self) -> float:
        """The share of padding in all that is computed, from 0 to 1."""
        return 1 - self.tokens / self.padded_tokens

    @property
    def sequence_lengths(self) -> list[int]:
        """The lengths to measure, shortest first."""
        return list(self.counts)

    def mean(self, value_at: Mapping[int, float | None]) -> float | None:
        """The mean over all texts of a value that depends on the length that each is padded to.

        Args:
            value_at: the value at each length; others than this histogram's are passed over.

        Returns:
            The mean, or None if the value at one of the lengths is not known.
        """
        total = 0.0
        for length, count in self.counts.items():
            value = value_at.get(length)
            if value is None:
                return None
            total += value * count
        return total / self.texts

    @classmethod
    def of_texts(cls, texts_of_length: IntVector, *, cut: int, num_lengths: int) -> Self:
        """Makes the histogram of texts, with the lengths that pad them least.

        Args:
            texts_of_length: `[N]`, how many texts have each length; the first entry is for 0.
            cut: how many of the longest were cut.
            num_lengths: most lengths that may be measured.

        Raises:
            InputError: if there are no texts.
        """
        chosen = np.array(choose_lengths(texts_of_length, num_lengths))
        lengths = np.arange(len(texts_of_length))
        padded_to = np.searchsorted(chosen, lengths)
        counts = [int(texts_of_length[padded_to == place].sum()) for place in range(len(chosen))]
        return cls(
            counts=dict(zip(chosen.tolist(), counts, strict=True)),
            tokens=int((lengths * texts_of_length).sum()),
            cut=cut,
            quantiles={p: _quantile(texts_of_length, p) for p in QUANTILES},
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "counts": {str(length): count for length, count in self.counts.items()},
            "texts": self.texts,
            "tokens": self.tokens,
            "cut": self.cut,
            **{f"p{p}": length for p, length in self.quantiles.items()},
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads a histogram back.

        Raises:
            InputError: if it is no histogram.
        """
        names = {"counts", "texts", "tokens", "cut", *(f"p{p}" for p in QUANTILES)}
        if not isinstance(value, Mapping) or not names <= set(value):
            raise InputError(f"lengths: its keys are {', '.join(sorted(names))}")
        counts = value["counts"]
        if not isinstance(counts, Mapping):
            raise InputError("lengths: counts must be an object")
        for text in counts:
            if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 4):
                raise InputError(f"lengths: {text!r} is no length")
        return cls(
            counts={int(text): count for text, count in counts.items()},
            tokens=value["tokens"],
            cut=value["cut"],
            quantiles={p: value[f"p{p}"] for p in QUANTILES},
        )


def choose_lengths(texts_of_length: IntVector, num_lengths: int) -> list[int]:
    """The lengths to pad texts to so that the fewest tokens are padding.

    Exact, by dynamic programming over the multiples of `LENGTH_STEP` that some text rounds up to:
    no other multiple can be better, for it could be lowered to one of these. The longest is
    always among them.

    Args:
        texts_of_length: `[N]`, how many texts have each length; the first entry is for 0.
        num_lengths: most lengths to choose.

    Returns:
        The lengths, shortest first; fewer than asked for where more would not help.

    Raises:
        InputError: if there are no texts.
    """
    steps = -(-np.arange(len(texts_of_length)) // LENGTH_STEP)
    texts_of_step = np.bincount(steps, weights=texts_of_length)
    occupied = np.flatnonzero(texts_of_step)
    if not len(occupied):
        raise InputError("there are no texts to choose sequence lengths for")
    size = len(occupied)
    up_to = np.concatenate([[0.0], np.cumsum(texts_of_step[occupied])])
    # cost[j]: padded tokens of the texts that round up to the first j steps, the last chosen.
    cost = np.concatenate([[0.0], np.full(size, np.inf)])
    choices: list[list[int]] = []
    for _ in range(min(num_lengths, size)):
        following = cost.copy()
        choice = list(range(size + 1))  # itself: this length is not needed
        for j in range(1, size + 1):
            totals = cost[:j] + occupied[j - 1] * (up_to[j] - up_to[:j])
            best = int(np.argmin(totals))
            if totals[best] < following[j]:
                following[j], choice[j] = totals[best], best
        choices.append(choice)
        cost = following
    chosen = []
    end = size
    for choice in reversed(choices):
        if choice[end] != end:
            chosen.append(int(occupied[end - 1]) * LENGTH_STEP)
            end = choice[end]
    assert end == 0
    return chosen[::-1]


def _quantile(texts_of_length: IntVector, percent: int) -> int:
    """The shortest length that `percent` % of the texts do not exceed."""
    up_to = np.cumsum(texts_of_length)
    return int(np.searchsorted(up_to * 100, percent * up_to[-1]))


def _check(name: str, value: object, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise InputError(
            f"lengths: {name} must be an integer from {lowest} to {highest}, not {value!r}"
        )
