from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autotinybert.errors import InputError
from autotinybert.files import sha256_file
from supernet.corpus import SPLITS, load_corpus
from supernet.corpus_preparation import CorpusOptions, make_corpus, prepare_corpus, write_corpus
from supernet.text_files import DocumentText
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


def test_a_corpus_that_is_in_no_folder_can_still_be_read(tmp_path: Path, bert_folder: Path) -> None:
    source = write_text(tmp_path / "text", 300)
    made = make_corpus(str(source), bert_folder, sequence_length=32)
    out = tmp_path / "out"
    out.mkdir()
    options = CorpusOptions(sequence_length=32)
    written = write_corpus(str(source), bert_folder, out, options)
    for name in SPLITS:
        np.testing.assert_array_equal(made.splits[name].input_ids, written.splits[name].input_ids)


def test_pairs_are_marked_in_all_splits(tmp_path: Path, bert_folder: Path) -> None:
    source = tmp_path / "docs.jsonl"
    lines = (
        {"text": f"This is document {i} of the list. The {i} sentence is unaffable. One {i}."}
        for i in range(300)
    )
    source.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out"
    out.mkdir()
    corpus = write_corpus(
        str(source),
        bert_folder,
        out,
        CorpusOptions(sequence_length=32, pairs=True, how=DocumentText()),
    )
    assert corpus.facts["pairs"] is True
    tokenizer = load_tokenizer(bert_folder)
    for split in corpus.splits.values():
        types = split.token_types(np.arange(len(split)))
        assert types is not None
        ids, mask = split.batch(np.arange(len(split)))
        assert types.any(axis=1).all()
        for row, kinds, length in zip(ids, types, mask.sum(axis=1), strict=True):
            first = tokenizer.decode(row[1:length][kinds[1:length] == 0].tolist())
            second = tokenizer.decode(row[:length][kinds[:length] == 1].tolist())
            again = tokenizer.encode(first, second)
            assert (again.ids, again.type_ids) == (
                row[:length].tolist(),
                kinds[:length].tolist(),
            )


def test_repeats_stay_where_they_are_asked_for(tmp_path: Path, bert_folder: Path) -> None:
    text = "\n\n".join(f"The same in all of them.\nThis is number {i}." for i in range(300))
    (tmp_path / "text").write_text(text)
    found = {}
    for keep in (False, True):
        out = tmp_path / str(keep)
        out.mkdir()
        options = CorpusOptions(sequence_length=32, keep_repeats=keep)
        found[keep] = write_corpus(str(tmp_path / "text"), bert_folder, out, options).facts
    assert [found[keep]["repeated_sentences"] for keep in (False, True)] == [299, 0]
    assert found[True]["characters"] - found[False]["characters"] == 299 * 24
