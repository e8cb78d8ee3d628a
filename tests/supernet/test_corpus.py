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
    SPLITS,
    TokenCorpus,
    TokenSplit,
    load_corpus,
    save_corpus,
)

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
    (tmp_path / "test.safetensors").unlink()
    with pytest.raises(DamagedFileError, match=r"cannot read .*test.safetensors"):
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
        ({"facts": {"special_ids": {"pad": 1}}}, "train.safetensors does not hold"),
        ({"facts": {}}, "is no token corpus"),
        ({"facts": None}, "is no token corpus"),
        ({"shards": []}, "is no token corpus"),
        ({"sequence_length": "many"}, "is no token corpus"),
        ({"shards": {"train": "0", "search": "0", "test": "0"}}, "train.safetensors is torn"),
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
    resign(tmp_path, schema_version=2)
    with pytest.raises(InputError, match="schema version 2"):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"input_ids": np.ones((3, S), np.int32)},
        {"input_ids": np.ones((3, S), np.int64), "lengths": np.full(3, S, np.int32)},
        {"input_ids": np.ones((0, S), np.int32), "lengths": np.full(0, S, np.int32)},
        {"input_ids": np.ones((3, S), np.int32), "lengths": np.full(2, S, np.int32)},
        {"input_ids": np.ones((3, S), np.int32), "lengths": np.full(3, S + 1, np.int32)},
        {"input_ids": np.ones((3, S), np.int32), "lengths": np.full(3, 0, np.int32)},
        {"input_ids": -np.ones((3, S), np.int32), "lengths": np.full(3, S, np.int32)},
        {"input_ids": np.ones((3, S), np.int32), "lengths": np.full(3, S - 1, np.int32)},
        None,
    ],
)
def test_a_shard_of_another_make_is_refused(
    tmp_path: Path,
    corpus: TokenCorpus,
    tensors: dict[str, npt.NDArray[np.generic]] | None,
) -> None:
    save_corpus(tmp_path, corpus)
    path = tmp_path / "search.safetensors"
    if tensors is None:
        path.write_text("no shard")
    else:
        save_file(tensors, path)
    shards = json.loads((tmp_path / CORPUS_FILE).read_text())["shards"]
    resign(tmp_path, shards={**shards, "search": sha256_file(path)})
    with pytest.raises(DamagedFileError, match=r"search.safetensors (does not hold|holds no)"):
        load_corpus(tmp_path)
