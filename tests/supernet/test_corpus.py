from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import read_signed_json, sha256_file, write_signed_json
from supernet.corpus import (
    CORPUS_FILE,
    CORPUS_FILES,
    SHARD_FILES,
    SPLITS,
    TokenCorpus,
    TokenSplit,
    load_corpus,
    save_corpus,
    write_document,
)
from supernet.corpus_shards import ShardWriter, token_dtype

S, VOCAB = 12, 50


def split_of_lengths(*lengths: int) -> TokenSplit:
    rng = np.random.default_rng(0)
    ids = rng.integers(5, VOCAB, size=(len(lengths), S), dtype=np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[length:] = 0
    return TokenSplit(ids, np.array(lengths, dtype=np.int32))


@pytest.fixture
def corpus() -> TokenCorpus:
    splits = {name: split_of_lengths(8, 12, 9) for name in SPLITS}
    return TokenCorpus(S, VOCAB, splits, {"source": "text", "special_ids": {"pad": 0}})


def test_a_corpus_reads_back_as_it_was_written(tmp_path: Path, corpus: TokenCorpus) -> None:
    save_corpus(tmp_path, corpus)
    assert {path.name for path in tmp_path.iterdir()} == set(CORPUS_FILES)
    found = load_corpus(tmp_path)
    assert (found.sequence_length, found.vocab_size) == (S, VOCAB)
    assert found.facts == corpus.facts
    for name in SPLITS:
        np.testing.assert_array_equal(found.splits[name].input_ids, corpus.splits[name].input_ids)
        np.testing.assert_array_equal(found.splits[name].lengths, corpus.splits[name].lengths)


def test_a_part_of_a_corpus_is_written_as_it_is(tmp_path: Path, corpus: TokenCorpus) -> None:
    whole = corpus.splits["train"]
    part = TokenSplit(whole.input_ids[::2], whole.lengths[::2])
    splits = dict.fromkeys(SPLITS, part)
    save_corpus(tmp_path, TokenCorpus(S, VOCAB, splits, corpus.facts))
    found = load_corpus(tmp_path).splits["train"]
    np.testing.assert_array_equal(found.input_ids, part.input_ids)
    np.testing.assert_array_equal(found.lengths, part.lengths)


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path, corpus: TokenCorpus) -> None:
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_corpus(tmp_path / name, corpus)
        contents.append({file: (tmp_path / name / file).read_bytes() for file in CORPUS_FILES})
    assert contents[0] == contents[1]


def test_a_batch_is_trimmed_to_its_longest_sequence() -> None:
    split = split_of_lengths(8, 12, 9)
    ids, mask = split.batch([2, 0])
    assert ids.shape == mask.shape == (2, 9)
    np.testing.assert_array_equal(ids, split.input_ids[[2, 0], :9])
    np.testing.assert_array_equal(mask.sum(axis=1), [9, 8])
    assert (mask[1] == [1] * 8 + [0]).all()
    assert ids.dtype == mask.dtype == np.int32


def test_padding_is_what_no_token_fills() -> None:
    split = split_of_lengths(8, 12, 9)
    assert (len(split), split.tokens) == (3, 29)
    assert split.padding == pytest.approx(7 / 36)


def test_a_folder_without_a_corpus_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no corpus in .*prepare-corpus"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("name", CORPUS_FILES)
def test_a_torn_file_is_refused(tmp_path: Path, corpus: TokenCorpus, name: str) -> None:
    save_corpus(tmp_path, corpus)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFileError, match=f"{name}.*prepare-corpus|{name} is not valid JSON"):
        load_corpus(tmp_path)


def test_a_lost_shard_is_refused(tmp_path: Path, corpus: TokenCorpus) -> None:
    save_corpus(tmp_path, corpus)
    (tmp_path / SHARD_FILES["test"]).unlink()
    with pytest.raises(DamagedFileError, match=r"cannot read .*test-00000.safetensors"):
        load_corpus(tmp_path)


def resign(folder: Path, **changes: object) -> None:
    """Writes changes into `corpus.json` under a checksum that holds."""
    document = read_signed_json(
        folder / CORPUS_FILE, kind="token-corpus", schema_version=9, remedy=""
    )
    write_signed_json(folder / CORPUS_FILE, {**document, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 10}, "vocabulary of 10"),
        ({"sequence_length": 11}, "up to 11 tokens"),
        ({"facts": {"special_ids": {"pad": 50}}}, "is no token corpus"),
        ({"facts": {}}, "is no token corpus"),
        ({"facts": None}, "is no token corpus"),
        ({"shards": []}, "is no token corpus"),
        ({"sequence_length": "many"}, "is no token corpus"),
        (
            {"shards": {name: [] for name in SPLITS}},
            "is no token corpus .there is no shard of train",
        ),
        ({"shards": dict.fromkeys(SPLITS, "0")}, "is no token corpus"),
        ({"kind": "predictor"}, "is no token corpus"),
    ],
)
def test_a_document_that_does_not_fit_its_shards_is_refused(
    tmp_path: Path, corpus: TokenCorpus, changes: dict[str, object], message: str
) -> None:
    save_corpus(tmp_path, corpus)
    resign(tmp_path, **changes)
    with pytest.raises(DamagedFileError, match=message):
        load_corpus(tmp_path)


def test_a_later_version_is_refused(tmp_path: Path, corpus: TokenCorpus) -> None:
    save_corpus(tmp_path, corpus)
    resign(tmp_path, schema_version=3)
    with pytest.raises(InputError, match="schema version 3"):
        load_corpus(tmp_path)


T = 3 * S


@pytest.mark.parametrize(
    "tensors",
    [
        {"tokens": np.ones(T, np.uint16)},
        {"tokens": np.ones(T, np.int64), "lengths": np.full(3, S, np.uint16)},
        {"tokens": np.ones((3, S), np.uint16), "lengths": np.full(3, S, np.uint16)},
        {"tokens": np.ones(0, np.uint16), "lengths": np.full(0, S, np.uint16)},
        {"tokens": np.ones(T, np.uint16), "lengths": np.full(2, S, np.uint16)},
        {"tokens": np.ones(T, np.uint16), "lengths": np.array([S, S + 1, S - 1], np.uint16)},
        {"tokens": np.ones(T, np.uint16), "lengths": np.array([S, S, 0], np.uint16)},
        {"tokens": np.full(T, VOCAB, np.uint16), "lengths": np.full(3, S, np.uint16)},
        {"tokens": np.full(T, -1, np.int32), "lengths": np.full(3, S, np.uint16)},
        {
            "tokens": np.ones(T, np.uint16),
            "lengths": np.full(3, S, np.uint16),
            "segment_starts": np.full(3, S + 1, np.uint16),
        },
        None,
    ],
)
def test_a_shard_of_another_make_is_refused(
    tmp_path: Path,
    corpus: TokenCorpus,
    tensors: dict[str, npt.NDArray[np.generic]] | None,
) -> None:
    save_corpus(tmp_path, corpus)
    path = tmp_path / SHARD_FILES["search"]
    if tensors is None:
        path.write_text("no shard")
    else:
        save_file(tensors, path)
    record = {
        "file": path.name,
        "sha256": sha256_file(path),
        "bytes": path.stat().st_size,
        "sequences": 3,
        "tokens": T,
    }
    shards = json.loads((tmp_path / CORPUS_FILE).read_text())["shards"]
    resign(tmp_path, shards={**shards, "search": [record]})
    with pytest.raises(DamagedFileError, match=r"search-00000.safetensors (does not|holds no)"):
        load_corpus(tmp_path)


def with_segments(corpus: TokenCorpus) -> TokenCorpus:
    starts = np.array([4, 12, 5], dtype=np.int32)
    splits = {
        name: TokenSplit(split.input_ids, split.lengths, starts)
        for name, split in corpus.splits.items()
    }
    return TokenCorpus(S, VOCAB, splits, corpus.facts)


def test_segments_read_back_as_they_were_written(tmp_path: Path, corpus: TokenCorpus) -> None:
    save_corpus(tmp_path, with_segments(corpus))
    split = load_corpus(tmp_path).splits["train"]
    types = split.token_types([0, 1])
    assert types is not None
    assert types.sum(axis=1).tolist() == [4, 0]
    assert load_corpus(tmp_path).splits["train"].segment_starts is not None


def test_a_large_vocabulary_is_stored_as_it_is(tmp_path: Path) -> None:
    ids = np.full((2, 8), 250_000, dtype=np.int32)
    split = TokenSplit(ids, np.array([8, 8], dtype=np.int32))
    facts = {"special_ids": {"pad": 1}}
    save_corpus(tmp_path, TokenCorpus(8, 250_001, dict.fromkeys(SPLITS, split), facts))
    np.testing.assert_array_equal(load_corpus(tmp_path).splits["test"].input_ids, ids)


def test_a_split_of_several_shards_is_mapped_and_reads_as_one(
    tmp_path: Path, corpus: TokenCorpus
) -> None:
    split = with_segments(corpus).splits["train"]
    tokens = [row[:length] for row, length in zip(split.input_ids, split.lengths, strict=True)]
    assert split.segment_starts is not None
    records = {}
    for name in SPLITS:
        writer = ShardWriter(tmp_path, name, token_dtype(VOCAB), max_bytes=40)
        for index, row in enumerate(tokens):
            one = slice(index, index + 1)
            writer.add(row, split.lengths[one], split.segment_starts[one])
        writer.flush()
        records[name] = writer.records
    assert [record.sequences for record in records["train"]] == [2, 1]
    write_document(
        tmp_path, records, sequence_length=S, vocab_size=VOCAB, facts={"special_ids": {"pad": 0}}
    )
    found = load_corpus(tmp_path).splits["train"]
    np.testing.assert_array_equal(found.input_ids, split.input_ids)
    np.testing.assert_array_equal(found.batch([2, 0])[0], split.batch([2, 0])[0])
    np.testing.assert_array_equal(
        np.asarray(found.token_types([2, 0])), np.asarray(split.token_types([2, 0]))
    )


def test_large_shards_are_hashed_only_where_it_is_asked_for(
    tmp_path: Path, corpus: TokenCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supernet.corpus.CHECKED_BYTES", 0)
    save_corpus(tmp_path, corpus)
    path = tmp_path / SHARD_FILES["train"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    load_corpus(tmp_path)
    with pytest.raises(DamagedFileError, match=r"train-00000.safetensors is torn"):
        load_corpus(tmp_path, verify=True)
    path.write_bytes(content[:-1])
    with pytest.raises(DamagedFileError, match=r"train-00000.safetensors is torn"):
        load_corpus(tmp_path)
