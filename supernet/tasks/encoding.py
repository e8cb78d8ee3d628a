"""Examples as tokens.

Shape letters: N number of examples, S most tokens of one, B batch size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supernet.tasks.examples import Example, TaskData
from supernet.tokenizer import special_ids

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Examples that the tokenizer is given at once: what it returns takes far more room than the ids.
_CHUNK = 1000

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float64]


class EncodedBatch(NamedTuple):
    """Some examples, padded to the longest of them.

    Attributes:
        input_ids: int64 `[B, S]`.
        attention_mask: int64 `[B, S]`, 1 for tokens, 0 for padding.
        token_type_ids: int64 `[B, S]`, 1 for the second text.
        labels: `[B]`; None where they are unknown.
    """

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    token_type_ids: npt.NDArray[np.int64]
    labels: Labels | None


@dataclass(frozen=True, eq=False)
class EncodedExamples:
    """Examples as tokens, padded to the longest of all.

    Attributes:
        input_ids: int32 `[N, S]`.
        lengths: int32 `[N]`, tokens of each, padding left out.
        token_type_ids: int8 `[N, S]`.
        labels: `[N]`, int64 numbers of labels, or float64 values; None where they are unknown.
    """

    input_ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    token_type_ids: npt.NDArray[np.int8]
    labels: Labels | None

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: npt.NDArray[np.integer[Any]] | slice) -> EncodedBatch:
        """The examples of these numbers."""
        lengths = self.lengths[indices]
        longest = int(lengths.max(initial=1))
        return EncodedBatch(
            input_ids=self.input_ids[indices, :longest].astype(np.int64),
            attention_mask=(np.arange(longest) < lengths[:, None]).astype(np.int64),
            token_type_ids=self.token_type_ids[indices, :longest].astype(np.int64),
            labels=None if self.labels is None else self.labels[indices],
        )


def encode_examples(
    tokenizer: Tokenizer, data: TaskData, *, sequence_length: int
) -> EncodedExamples:
    """Turns examples into tokens: `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`.

    What is too long loses tokens at its end, of two texts the longer one first.

    Args:
        tokenizer: of `load_tokenizer`, whose own frame is put around the texts.
        data: the examples.
        sequence_length: the most tokens of an example, the special ones among them.
    """
    count = len(data.examples)
    pad = special_ids(tokenizer)["pad"]
    input_ids = np.full((count, sequence_length), pad, dtype=np.int32)
    token_type_ids = np.zeros((count, sequence_length), dtype=np.int8)
    lengths = np.zeros(count, dtype=np.int32)
    tokenizer.enable_truncation(sequence_length, strategy="longest_first")
    try:
        for row, encoded in enumerate(_encoded(tokenizer, data.examples)):
            length = len(encoded.ids)
            lengths[row] = length
            input_ids[row, :length] = encoded.ids
            token_type_ids[row, :length] = encoded.type_ids
    finally:
        tokenizer.no_truncation()
    longest = int(lengths.max(initial=1))
    return EncodedExamples(
        np.ascontiguousarray(input_ids[:, :longest]),
        lengths,
        np.ascontiguousarray(token_type_ids[:, :longest]),
        _labels(data),
    )


def token_lengths(tokenizer: Tokenizer, examples: Sequence[Example]) -> npt.NDArray[np.int64]:
    """Tokens of each example `[N]`, the special ones among them, if nothing is cut off.

    Args:
        tokenizer: of `load_tokenizer`.
        examples: the examples.
    """
    return np.array([len(found) for found in _encoded(tokenizer, examples)], dtype=np.int64)


def length_quantile(tokenizer: Tokenizer, examples: Sequence[Example], share: float) -> int:
    """The smallest number of tokens that this share of the examples does not exceed.

    Args:
        tokenizer: of `load_tokenizer`.
        examples: at least one.
        share: above 0, up to 1.
    """
    lengths = token_lengths(tokenizer, examples)
    return int(np.quantile(lengths, share, method="inverted_cdf"))


def _encoded(tokenizer: Tokenizer, examples: Sequence[Example]) -> Iterator[Encoding]:
    for start in range(0, len(examples), _CHUNK):
        chunk = examples[start : start + _CHUNK]
        yield from tokenizer.encode_batch_fast(
            [found.text if found.pair is None else (found.text, found.pair) for found in chunk]
        )


def _labels(data: TaskData) -> Labels | None:
    values = [found.label for found in data.examples]
    if None in values:
        return None
    if data.kind == "regression":
        return np.array(values, dtype=np.float64)
    return np.array(values, dtype=np.int64)
