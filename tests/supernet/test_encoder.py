from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import sha256_bytes, write_signed_json
from supernet.architecture import Architecture
from supernet.encoder import ENCODER_FILE, WEIGHTS_FILE, Encoder, load_encoder, save_encoder
from supernet.heads import HEAD_KINDS, HeadKind
from supernet.weights import FloatArray

Make = Callable[..., Encoder]
SHAPE = "2-36-50-3-24"
QUERY = "encoder.layer.1.attention.self.query.weight"


def test_what_is_saved_is_loaded(tmp_path: Path, random_encoder: Make) -> None:
    encoder = random_encoder(SHAPE, layer_norm_epsilon=1e-5)
    save_encoder(tmp_path, encoder, extra={"teacher": "MiniLM", "steps": [1, 2]})
    found, extra = load_encoder(tmp_path)
    assert extra == {"teacher": "MiniLM", "steps": [1, 2]}
    assert found.architecture == Architecture.parse(SHAPE)
    assert found.layer_norm_epsilon == 1e-5
    assert (found.vocab_size, found.max_positions) == (97, 40)
    assert set(found.weights) == set(encoder.weights)
    for name, value in encoder.weights.items():
        np.testing.assert_array_equal(found.weights[name], value)


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_a_head_is_saved_and_loaded_with_its_encoder(
    tmp_path: Path, random_encoder: Make, kind: HeadKind
) -> None:
    head = random_encoder(SHAPE, head=kind).head
    assert head is not None
    save_encoder(tmp_path, random_encoder(SHAPE, head=kind), extra={})
    encoder, _ = load_encoder(tmp_path)
    found = encoder.head
    assert found is not None
    assert (found.kind, found.labels) == (kind, head.labels)
    assert set(found.weights) == set(head.weights)
    for name, value in head.weights.items():
        np.testing.assert_array_equal(found.weights[name], value)
    assert set(encoder.weights) == set(random_encoder(SHAPE).weights)


def test_an_encoder_of_the_first_schema_has_no_head(tmp_path: Path, random_encoder: Make) -> None:
    save_encoder(tmp_path, random_encoder(SHAPE), extra={"teacher": "MiniLM"})
    document = json.loads((tmp_path / ENCODER_FILE).read_text())
    assert document.pop("head") is None
    del document["sha256"]
    write_signed_json(tmp_path / ENCODER_FILE, {**document, "schema_version": 1})
    found, extra = load_encoder(tmp_path)
    assert found.head is None
    assert extra == {"teacher": "MiniLM"}


def test_equal_encoders_are_equal_bytes_whatever_their_order_and_layout(
    tmp_path: Path, random_encoder: Make
) -> None:
    encoder = random_encoder(SHAPE)
    turned = {
        name: np.asfortranarray(value) for name, value in reversed(list(encoder.weights.items()))
    }
    for name, weights in (("one", encoder.weights), ("other", turned)):
        (tmp_path / name).mkdir()
        save_encoder(tmp_path / name, Encoder(encoder.architecture, weights), extra={})
    for file in (ENCODER_FILE, WEIGHTS_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def nothing(_: FloatArray) -> None:
    return None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nothing, "lack encoder.layer.1.attention.self.query.weight"),
        (lambda value: value[:-1], r"has shape \[23, 36\], but 2-36-50-3-24 needs \[24, 36\]"),
        (lambda value: value.astype(np.float64), "is float64: it must be float32"),
        (lambda value: np.where(value > 0, value, np.nan), "query.weight holds values .* finite"),
        (lambda value: np.where(value > 0, value, np.inf), "query.weight holds values .* finite"),
    ],
    ids=["missing", "shape", "type", "nan", "infinity"],
)
def test_weights_that_are_no_encoder_are_refused_by_name(
    random_encoder: Make, change: Callable[[FloatArray], FloatArray | None], message: str
) -> None:
    encoder = random_encoder(SHAPE)
    changed = {**encoder.weights, QUERY: change(encoder.weights[QUERY])}
    weights = {name: value for name, value in changed.items() if value is not None}
    with pytest.raises(InputError, match=message):
        Encoder(encoder.architecture, weights)


def test_weights_that_would_be_lost_are_refused(random_encoder: Make) -> None:
    encoder = random_encoder(SHAPE)
    weights = {**encoder.weights, "pooler.dense.bias": np.zeros(36, np.float32)}
    with pytest.raises(InputError, match=r"pooler.dense.bias has no place"):
        Encoder(encoder.architecture, weights)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_an_epsilon_that_is_none_is_refused(random_encoder: Make, epsilon: float) -> None:
    with pytest.raises(InputError, match="layer_norm_epsilon must be"):
        random_encoder(SHAPE, layer_norm_epsilon=epsilon)


def test_a_folder_without_an_encoder_is_bad_input(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="no encoder in") as caught:
            load_encoder(folder)
        assert not isinstance(caught.value, DamagedFileError)


def test_weights_that_are_missing_torn_or_swapped_are_damage(
    tmp_path: Path, random_encoder: Make
) -> None:
    save_encoder(tmp_path, random_encoder(SHAPE), extra={})
    path = tmp_path / WEIGHTS_FILE
    content = path.read_bytes()
    for other in (content[:-1], content[:-1] + b"\x00", b""):
        path.write_bytes(other)
        with pytest.raises(DamagedFileError, match="torn, truncated or edited"):
            load_encoder(tmp_path)
    path.unlink()
    with pytest.raises(DamagedFileError, match="cannot read"):
        load_encoder(tmp_path)


def test_an_edited_or_later_document_is_refused(tmp_path: Path, random_encoder: Make) -> None:
    save_encoder(tmp_path, random_encoder(SHAPE), extra={})
    path = tmp_path / ENCODER_FILE
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "architecture": "2-36-50-4-24"}))
    with pytest.raises(DamagedFileError, match="torn, truncated or edited"):
        load_encoder(tmp_path)
    path.write_text(json.dumps({**document, "schema_version": 3}))
    with pytest.raises(InputError, match="update autotinybert"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "3-36-50-3-24"},
        {"architecture": 5},
        {"layer_norm_epsilon": None},
        {"extra": 1},
        {"head": {"kind": "classification", "labels": ["no", "yes"]}},
        {"head": {"kind": "token", "labels": ["no", "yes"]}},
        {"head": {"kind": "span"}},
        {"head": ["span"]},
        {"weights": b"no safetensors"},
        {"weights": safetensors.numpy.save({"x": np.zeros(1, np.float32)})},
    ],
    ids=[
        "other shape",
        "no shape",
        "no epsilon",
        "no extra",
        "no weights of a head",
        "unknown head",
        "no labels",
        "no head",
        "no file",
        "other weights",
    ],
)
def test_a_document_that_was_signed_again_is_still_checked(
    tmp_path: Path, random_encoder: Make, change: dict[str, object]
) -> None:
    save_encoder(tmp_path, random_encoder(SHAPE), extra={})
    document = json.loads((tmp_path / ENCODER_FILE).read_text())
    del document["sha256"]
    content = change.pop("weights", None)
    if isinstance(content, bytes):
        (tmp_path / WEIGHTS_FILE).write_bytes(content)
        change = {"weights_sha256": sha256_bytes(content)}
    write_signed_json(tmp_path / ENCODER_FILE, {**document, **change})
    with pytest.raises(DamagedFileError, match="holds no encoder"):
        load_encoder(tmp_path)
