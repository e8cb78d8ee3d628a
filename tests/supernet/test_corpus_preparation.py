from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autotinybert.errors import InputError
from autotinybert.files import sha256_file
from supernet.corpus import SPLITS, load_corpus
from supernet.corpus_preparation import make_corpus, prepare_corpus
from supernet.tokenizer import load_tokenizer


def write_text(path: Path, documents: int) -> Path:
    path.write_text(
        "\n\n".join(
            f"This is document {index} of the list.\nThe {index} sentence is unaffable."
            for index in range(documents)
        )
    )
    return path


def test_a_text_becomes_a_corpus_with_three_splits(tmp_path: Path, bert_folder: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    source = write_text(tmp_path / "text", 300)
    corpus = prepare_corpus(str(source), bert_folder, out, sequence_length=32)
    counts = corpus.facts["splits"]
    assert {name: counts[name]["sequences"] for name in SPLITS} == {
        name: len(corpus.splits[name]) for name in SPLITS
    }
    assert sum(counts[name]["groups"] for name in SPLITS) == 300
    assert corpus.facts["special_ids"] == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert corpus.facts["tokenizer_sha256"] == sha256_file(bert_folder / "tokenizer.json")
    assert len(corpus.splits["train"]) > len(corpus.splits["search"]) > 0
    for split in corpus.splits.values():
        last = split.input_ids[np.arange(len(split)), split.lengths - 1]
        assert (split.input_ids[:, 0] == 2).all()
        assert (last == 3).all()
    loaded = load_corpus(out)
    assert loaded.facts == corpus.facts
    np.testing.assert_array_equal(loaded.splits["test"].input_ids, corpus.splits["test"].input_ids)


def test_no_sentence_is_in_two_splits(tmp_path: Path, bert_folder: Path) -> None:
    shared = "The same sentence is given in all of them."
    text = "\n\n".join(f"{shared}\nThis is number {index} of the list." for index in range(300))
    (tmp_path / "text").write_text(text)
    corpus = make_corpus(str(tmp_path / "text"), bert_folder, sequence_length=64)
    tokenizer = load_tokenizer(bert_folder)
    found = [
        tokenizer.decode(ids.tolist())
        for split in corpus.splits.values()
        for ids in split.input_ids
        if "same" in tokenizer.decode(ids.tolist()).replace(" ", "")
    ]
    assert len(found) == 1


def test_a_corpus_that_leaves_a_split_empty_says_how_much_is_needed(
    tmp_path: Path, bert_folder: Path
) -> None:
    source = write_text(tmp_path / "text", 3)
    with pytest.raises(
        InputError, match=r"its 3 documents .* at least 100 documents .*empty line between"
    ) as error:
        make_corpus(str(source), bert_folder, sequence_length=32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [0, 7, 513])
def test_sequence_lengths_that_no_bert_has_are_refused(
    tmp_path: Path, bert_folder: Path, length: int
) -> None:
    with pytest.raises(InputError, match=f"sequence length {length} must be from 8 to 512"):
        make_corpus(str(tmp_path), bert_folder, sequence_length=length)
