"""The readers of corpora, encoders, SuperPLMs, models and tokenizers, driven with mutated files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotinybert.errors import InputError
from device_profiles.target import Configuration, Workload
from profiler.model_file import ModelFile
from supernet.architecture import Architecture
from supernet.corpus import SHARD_FILES, SPLITS, TokenCorpus, TokenSplit, load_corpus, save_corpus
from supernet.encoder import ENCODER_FILE, WEIGHTS_FILE, Encoder, load_encoder, save_encoder
from supernet.heads import Head, head_shapes
from supernet.huggingface import read_bert_folder
from supernet.model_card import ModelCard
from supernet.model_folder import CONFIG_FILE, ONNX_FILE, load_model_folder, write_model_folder
from supernet.supernet_folder import SUPERNET_FILE, load_supernet, read_document
from supernet.tokenizer import load_tokenizer
from supernet.tokenizer_files import check_tokenizer_files, read_tokenizer_files
from supernet.weights import weight_shapes
from tests.mutations import (
    LONG,
    QUICK,
    REFUSED,
    Path_,
    changed_json,
    mutated_bytes,
    outcome,
    picture,
    sign,
)

SHAPE = Architecture(1, 8, 8, 2, 4)


@dataclass(frozen=True)
class Reader:
    """A reader, a folder that holds what it reads, and the file that is mutated in it.

    Attributes:
        checked: whether every change of a byte that matters must be noticed.
        free: places of a JSON document that are kept and not read.
    """

    folder: Path
    file: str
    read: Callable[[Path], object]
    checked: bool = True
    free: Sequence[Path_] = ()


def read_tokens(folder: Path) -> object:
    tokenizer = load_tokenizer(folder)
    check_tokenizer_files(read_tokenizer_files(folder), 10_000)
    return tokenizer.encode("This is the model.").ids


def read_teacher(folder: Path) -> object:
    return picture(read_bert_folder(folder).config)


def run_onnx(folder: Path) -> object:
    """Opens an exported file without its hash, as `--model` does, and runs it."""
    file = ModelFile.read(folder / ONNX_FILE)
    configuration = Configuration(SHAPE, Workload(1, 4))
    try:
        file.open(configuration, np.random.default_rng(0))()
    except InputError:
        raise
    except Exception as error:
        raise InputError(str(error) or type(error).__name__) from error
    return None


def corpus_picture(folder: Path) -> object:
    corpus = load_corpus(folder)
    splits = [(name, s.input_ids, s.lengths) for name, s in corpus.splits.items()]
    return picture([corpus.sequence_length, corpus.vocab_size, corpus.facts, splits])


def model_picture(folder: Path) -> object:
    return picture(load_model_folder(folder))


def supernet_picture(folder: Path) -> object:
    found = load_supernet(folder)
    origin = found.origin
    kept = (origin.objective.to_json(), origin.teacher_sha256, found.learner.task_head)
    return picture([found.model.config, found.space.size, *kept])


def make_encoder() -> Encoder:
    rng = np.random.default_rng(0)
    labels = ("no", "yes")
    weights, head_weights = (
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for shapes in (
            weight_shapes(SHAPE, vocab_size=256, max_positions=8),
            head_shapes("classification", SHAPE.hidden_size, len(labels)),
        )
    )
    return Encoder(SHAPE, weights, head=Head("classification", labels, head_weights))


@pytest.fixture
def make_reader(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Reader]:
    def make(name: str) -> Reader:
        folder = tmp_path / "instance"
        if name in ("corpus", "shard"):
            folder.mkdir()
            ids = np.zeros((3, 6), dtype=np.int32)
            ids[:, :3] = (2, 7, 3)
            split = TokenSplit(ids, np.full(3, 3, dtype=np.int32))
            facts = {"special_ids": {"pad": 0}, "source": "text"}
            save_corpus(folder, TokenCorpus(6, 10, dict.fromkeys(SPLITS, split), facts))
            file = "corpus.json" if name == "corpus" else SHARD_FILES["search"]
            free: Sequence[Path_] = [("facts", "source")]
            return Reader(folder, file, corpus_picture, free=free)
        if name in ("encoder", "weights"):
            folder.mkdir()
            save_encoder(folder, make_encoder(), extra={"teacher": "t"})
            file = ENCODER_FILE if name == "encoder" else WEIGHTS_FILE
            free = [("extra", "teacher")]
            return Reader(folder, file, lambda path: picture(load_encoder(path)), free=free)
        if name in ("supernet", "supernet document"):
            found = request.getfixturevalue("supernet")
            if name == "supernet":
                free = [
                    ("training",),
                    ("space", "name"),
                ]
                return Reader(found, SUPERNET_FILE, supernet_picture, free=free)
            return Reader(found, SUPERNET_FILE, lambda path: read_document(path))
        if name in ("model", "onnx", "onnx run"):
            folder.mkdir()
            tokens = read_tokenizer_files(request.getfixturevalue("bert_folder"))
            write_model_folder(
                folder, make_encoder(), variant="plain", tokenizer_files=tokens, card=ModelCard()
            )
            if name == "model":
                return Reader(folder, CONFIG_FILE, model_picture, checked=False)
            if name == "onnx":
                return Reader(folder, ONNX_FILE, model_picture)
            return Reader(folder, ONNX_FILE, run_onnx, checked=False)
        if name in ("teacher", "teacher weights"):
            found = request.getfixturevalue("teacher")
            file = "config.json" if name == "teacher" else "model.safetensors"
            return Reader(found, file, read_teacher, checked=False)
        assert name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
        found = request.getfixturevalue("make_bert_folder")(
            document=name != "vocab.txt",
            vocabulary=name == "vocab.txt",
            config={"do_lower_case": True, "strip_accents": None},
        )
        return Reader(found, name, read_tokens, checked=False)

    return make


NAMES = (
    *("corpus", "shard", "encoder", "weights", "supernet", "supernet document", "model", "onnx"),
    *("onnx run", "teacher", "teacher weights"),
    *("tokenizer.json", "vocab.txt", "tokenizer_config.json"),
)
SIGNED = ("corpus", "encoder", "supernet")
JSON = (*SIGNED, "model", "teacher", "tokenizer.json", "tokenizer_config.json")

MakeReader = Callable[[str], Reader]


def check_bytes(reader: Reader, content: bytes, expected: object) -> None:
    (reader.folder / reader.file).write_bytes(content)
    found = outcome(lambda: reader.read(reader.folder))
    assert found is REFUSED or not reader.checked or found == expected


def check_document(reader: Reader, data: st.DataObject, whole: Any, *, signed: bool) -> None:
    change = data.draw(changed_json(whole))
    text = sign(change.document) if signed else json.dumps(change.document)
    (reader.folder / reader.file).write_text(text)
    found = outcome(lambda: reader.read(reader.folder))
    if found is REFUSED or not signed or change.touches([("sha256",), *reader.free]):
        return
    assert not change.of_another_kind(whole), f"took {change.value!r} at {change.where}"


@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_file_is_refused_in_one_line_or_reads_the_same(
    make_reader: MakeReader, name: str
) -> None:
    reader = make_reader(name)
    whole = (reader.folder / reader.file).read_bytes()
    expected = reader.read(reader.folder)

    @QUICK
    @given(mutated_bytes(whole))
    def check(content: bytes) -> None:
        check_bytes(reader, content, expected)

    check()


@pytest.mark.parametrize("name", JSON)
def test_a_document_with_a_value_of_another_kind_is_refused(
    make_reader: MakeReader, name: str
) -> None:
    reader = make_reader(name)
    whole = json.loads((reader.folder / reader.file).read_text())

    @QUICK
    @given(st.data())
    def check(data: st.DataObject) -> None:
        check_document(reader, data, whole, signed=name in SIGNED)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_mutations_are_refused_or_read_the_same(
    make_reader: MakeReader, name: str
) -> None:
    reader = make_reader(name)
    whole = (reader.folder / reader.file).read_bytes()
    document = json.loads(whole) if name in JSON else None
    expected = reader.read(reader.folder)

    @LONG
    @given(st.data())
    def check(data: st.DataObject) -> None:
        if document is not None and data.draw(st.booleans()):
            check_document(reader, data, document, signed=name in SIGNED)
        else:
            check_bytes(reader, data.draw(mutated_bytes(whole)), expected)

    check()
