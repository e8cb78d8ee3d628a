"""Examples as tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from supernet.heads import HeadKind
from supernet.tasks.encoding import encode_examples, length_quantile, token_lengths
from supernet.tasks.examples import Example, TaskData
from supernet.tokenizer import load_tokenizer


def data_of(
    *texts: str | tuple[str, str], kind: HeadKind = "classification", labels: tuple[float, ...] = ()
) -> TaskData:
    known = labels or (None,) * len(texts)
    examples = tuple(
        Example(str(index), text, None, label)
        if isinstance(text, str)
        else Example(str(index), *text, label)
        for index, (text, label) in enumerate(zip(texts, known, strict=True))
    )
    return TaskData("csv", kind, ("no", "yes"), examples)


def test_texts_and_pairs_have_their_frame_and_segments(bert_folder: Path) -> None:
    tokenizer = load_tokenizer(bert_folder)
    found = encode_examples(tokenizer, data_of("a list", ("a", "the word")), sequence_length=16)
    tokens = [[tokenizer.id_to_token(token) for token in row] for row in found.input_ids.tolist()]
    assert tokens == [
        ["[CLS]", "a", "list", "[SEP]", "[PAD]", "[PAD]"],
        ["[CLS]", "a", "[SEP]", "the", "word", "[SEP]"],
    ]
    assert found.token_type_ids.tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1]]
    assert found.lengths.tolist() == [4, 6]
    assert found.input_ids.dtype == np.dtype("int32")
    assert found.token_type_ids.dtype == np.dtype("int8")
    assert found.labels is None


@pytest.mark.parametrize(("length", "kept"), [(7, (2, 2)), (8, (3, 2)), (9, (4, 2)), (64, (9, 2))])
def test_the_longer_text_is_cut_first(
    bert_folder: Path, length: int, kept: tuple[int, int]
) -> None:
    tokenizer = load_tokenizer(bert_folder)
    data = data_of(("the list is in the model of a sentence", "one two"))
    found = encode_examples(tokenizer, data, sequence_length=length)
    second = int(found.token_type_ids.sum()) - 1
    assert (found.lengths[0] - 3 - second, second) == kept
    assert token_lengths(tokenizer, data.examples).tolist() == [14]  # and it cuts nothing now


def test_pairs_of_roberta_have_one_segment_and_its_padding(
    tmp_path: Path, pair_files: dict[str, bytes]
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(pair_files["tokenizer.json"])
    tokenizer = load_tokenizer(tmp_path)
    found = encode_examples(tokenizer, data_of(("a", "b"), "a"), sequence_length=16)
    assert found.input_ids[0].tolist()[:4:3] == [0, 2]
    assert found.input_ids[1].tolist()[-1] == 1
    assert not found.token_type_ids.any()


def test_a_batch_is_padded_to_its_longest(bert_folder: Path) -> None:
    tokenizer = load_tokenizer(bert_folder)
    data = data_of("a", "a list of one", "the word", labels=(1, 0, 1))
    found = encode_examples(tokenizer, data, sequence_length=16)
    batch = found.batch(np.array([2, 0]))
    assert batch.input_ids.shape == (2, 4)
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 1]
    assert {array.dtype for array in batch if array is not None} == {np.dtype(np.int64)}
    assert len(found) == 3


def test_labels_are_integers_and_scores_are_floats(bert_folder: Path) -> None:
    tokenizer = load_tokenizer(bert_folder)
    classes = encode_examples(tokenizer, data_of("a", "a", labels=(0, 1)), sequence_length=8)
    scored = data_of("a", "a", kind="regression", labels=(0.5, 1))
    values = encode_examples(tokenizer, scored, sequence_length=8)
    assert classes.labels is not None
    assert classes.labels.dtype == np.int64
    assert values.labels is not None
    assert values.labels.tolist() == [0.5, 1.0]


def test_more_examples_than_are_encoded_at_once_stay_in_order(bert_folder: Path) -> None:
    tokenizer = load_tokenizer(bert_folder)
    data = data_of(*("the" if index % 7 else "the list" for index in range(2500)))
    lengths = encode_examples(tokenizer, data, sequence_length=8).lengths
    assert np.flatnonzero(lengths == 4).tolist() == list(range(0, 2500, 7))


def test_a_quantile_of_lengths_is_a_length_that_the_share_does_not_exceed(
    make_bert_folder: Callable[..., Path],
) -> None:
    tokenizer = load_tokenizer(make_bert_folder("quantile"))
    data = data_of(*(" ".join(["the"] * count) for count in range(1, 11)))
    assert token_lengths(tokenizer, data.examples).tolist() == list(range(3, 13))
    for share, expected in ((0.1, 3), (0.5, 7), (0.51, 8), (0.95, 12), (1.0, 12)):
        assert length_quantile(tokenizer, data.examples, share) == expected
    assert json.loads(tokenizer.to_str())["truncation"] is None
