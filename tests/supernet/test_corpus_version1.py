"""Corpora of the first schema, written here byte for byte as the first version wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from autotinybert.errors import DamagedFileError
from autotinybert.files import read_signed_json, sha256_file, write_signed_json
from supernet.corpus import CORPUS_FILE, SPLITS, load_corpus

S, VOCAB = 12, 50
IDS = np.array([[2, 7, 8, 9, 3, *[0] * 7], [2, *[9] * 10, 3]], dtype=np.int32)
LENGTHS = np.array([5, 12], dtype=np.int32)


# Of a split's file, as the first version wrote it.
GOLDEN = "29642e518210d54e"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    hashes = {}
    for name in SPLITS:
        path = tmp_path / f"{name}.safetensors"
        save_file({"input_ids": IDS, "lengths": LENGTHS}, path)
        hashes[name] = sha256_file(path)
    assert hashes["train"].startswith(GOLDEN)
    write_signed_json(
        tmp_path / CORPUS_FILE,
        {
            "schema_version": 1,
            "kind": "token-corpus",
            "sequence_length": S,
            "vocab_size": VOCAB,
            "shards": hashes,
            "facts": {"source": "text", "special_ids": {"pad": 0}},
        },
    )
    return tmp_path


def test_a_corpus_of_the_first_version_is_read(golden: Path) -> None:
    corpus = load_corpus(golden)
    assert (corpus.sequence_length, corpus.vocab_size) == (S, VOCAB)
    for name in SPLITS:
        split = corpus.splits[name]
        np.testing.assert_array_equal(split.input_ids, IDS)
        np.testing.assert_array_equal(split.lengths, LENGTHS)
        assert split.token_types([0]) is None


@pytest.mark.parametrize("name", [*SPLITS, "corpus"])
def test_a_torn_or_lost_file_is_refused(golden: Path, name: str) -> None:
    path = golden / ("corpus.json" if name == "corpus" else f"{name}.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFileError, match=path.name):
        load_corpus(golden)


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
    golden: Path, tensors: dict[str, npt.NDArray[np.generic]] | None
) -> None:
    path = golden / "search.safetensors"
    if tensors is None:
        path.write_text("no shard")
    else:
        save_file(tensors, path)
    document = read_signed_json(
        golden / CORPUS_FILE, kind="token-corpus", schema_version=1, remedy=""
    )
    document["shards"]["search"] = sha256_file(path)
    write_signed_json(golden / CORPUS_FILE, document)
    with pytest.raises(DamagedFileError, match=r"search.safetensors (does not hold|holds no)"):
        load_corpus(golden)
