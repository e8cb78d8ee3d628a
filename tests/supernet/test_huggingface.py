from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.huggingface import WEIGHTS_FILE, BertFolder, read_bert_folder
from supernet.teacher_config import CONFIG_FILE

SaveTeacher = Callable[..., Any]
QUERY = "encoder.layer.1.attention.self.query.weight"


def assert_equal(found: BertFolder, peer: Any, batch: Batch) -> None:
    """Our encoder gives what transformers' gives, wherever there is a token."""
    input_ids, mask, _ = batch
    segments = torch.zeros_like(input_ids)
    segments[:, 5:] = 1
    with torch.no_grad():
        ours = found.model()(input_ids, mask, segments).last_hidden_state
        theirs = peer(
            input_ids=input_ids, attention_mask=mask, token_type_ids=segments
        ).last_hidden_state
    kept = mask.bool()
    torch.testing.assert_close(ours[kept], theirs[kept], rtol=0, atol=1e-5)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG_FILE
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in document.items() if value != "gone"}))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    save_file(change(dict(weights)), folder / WEIGHTS_FILE, metadata={"format": "pt"})


def test_a_saved_bert_model_is_read_and_equals_the_original(
    save_teacher: SaveTeacher, tmp_path: Path, batch: Batch
) -> None:
    peer = save_teacher(tmp_path / "teacher", layer_norm_eps=1e-5)
    found = read_bert_folder(tmp_path / "teacher")
    assert found.config.largest == Architecture(3, 24, 48, 4, 24)
    assert (found.config.max_positions, found.config.layer_norm_epsilon) == (64, 1e-5)
    assert not any(parameter.requires_grad for parameter in found.model().parameters())
    assert_equal(found, peer, batch)


def test_the_encoder_below_a_head_is_read(
    save_teacher: SaveTeacher, tmp_path: Path, batch: Batch
) -> None:
    peer = save_teacher(tmp_path / "teacher", head=True)
    assert "bert." + QUERY in load_file(tmp_path / "teacher" / WEIGHTS_FILE)
    assert_equal(read_bert_folder(tmp_path / "teacher"), peer.bert, batch)


def test_a_checkpoint_whose_layer_norms_have_gamma_and_beta_is_read(
    save_teacher: SaveTeacher, tmp_path: Path, batch: Batch
) -> None:
    peer = save_teacher(tmp_path / "teacher", head=True)

    def old(name: str) -> str:
        if "LayerNorm" in name:
            return name.replace(".weight", ".gamma").replace(".bias", ".beta")
        return name

    change_weights(
        tmp_path / "teacher",
        lambda weights: {old(name): value for name, value in weights.items()},
    )
    change_config(tmp_path / "teacher", layer_norm_eps="gone", type_vocab_size="gone")
    assert_equal(read_bert_folder(tmp_path / "teacher"), peer.bert, batch)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions_become_float32(
    save_teacher: SaveTeacher, tmp_path: Path, batch: Batch, dtype: torch.dtype
) -> None:
    folder = tmp_path / "teacher"
    peer = save_teacher(folder)
    peer.to(dtype).save_pretrained(folder)
    found = read_bert_folder(folder)
    assert {value.dtype for value in found.weights.values()} == {torch.float32}
    assert_equal(found, peer.float(), batch)


def test_the_same_teacher_has_the_same_hash_and_other_weights_or_heads_another(
    teacher: Path,
) -> None:
    hashes = [read_bert_folder(teacher).sha256, read_bert_folder(teacher).sha256]
    change_config(teacher, num_attention_heads=2)
    hashes.append(read_bert_folder(teacher).sha256)
    change_weights(teacher, lambda weights: {**weights, QUERY: weights[QUERY] + 1})
    hashes.append(read_bert_folder(teacher).sha256)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_bert_folder(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "deberta"}, "model_type 'deberta' is not supported: use one of bert, rob"),
        ({"model_type": ["bert"]}, "model_type ['bert']"),
        ({"model_type": "gone"}, "model_type None"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported: it must be 'gelu'"),
        ({"hidden_act": ["gelu"]}, "hidden_act ['gelu']"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"type_vocab_size": 3}, "token_type_embeddings.weight has shape [2, 24], but its"),
        ({"type_vocab_size": 0}, "type_vocab_size must be a positive integer, not 0"),
        ({"is_decoder": True}, "is_decoder is not supported"),
        ({"num_hidden_layers": "gone"}, "num_hidden_layers must be a positive integer, not None"),
        ({"hidden_size": "24"}, "hidden_size must be a positive integer, not '24'"),
        ({"intermediate_size": 0}, "intermediate_size must be a positive integer, not 0"),
        ({"vocab_size": True}, "vocab_size must be a positive integer, not True"),
        ({"max_position_embeddings": 64.0}, "max_position_embeddings must be a positive integer"),
        ({"num_attention_heads": 5}, "hidden_size 24 is not divisible by num_attention_heads 5"),
        ({"num_hidden_layers": 97}, "config.json: num_layers must be from 1 to 96"),
        ({"layer_norm_eps": 0}, "layer_norm_eps must be between 0 and 1, not 0"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps must be between 0 and 1, not nan"),
        ({"num_hidden_layers": 4}, "lacks encoder.layer.3.attention.self.query.weight"),
        ({"vocab_size": 10}, "word_embeddings.weight has shape"),
    ],
)
def test_a_config_that_is_of_no_supported_bert_is_refused(
    teacher: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(teacher, **changes)
    assert message in refused(teacher)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is not valid JSON"),
        ("\udcff", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "does not hold one JSON object"),
    ],
    ids=["absent", "torn", "no text", "deep", "a list"],
)
def test_a_config_that_cannot_be_read_is_refused(
    teacher: Path, content: str | None, message: str
) -> None:
    path = teacher / CONFIG_FILE
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode(errors="surrogateescape"))
    assert message in refused(teacher)


def without(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name != QUERY}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without, f"lacks {QUERY}"),
        (lambda w: {**w, QUERY: w[QUERY][:-1].clone()}, f"{QUERY} has shape [23, 24], but its"),
        (lambda w: {**w, QUERY: w[QUERY] * torch.nan}, f"{QUERY} holds values that are not finite"),
        (lambda w: {**w, QUERY: w[QUERY] / 0}, f"{QUERY} holds values that are not finite"),
        (lambda w: {**w, QUERY: w[QUERY].to(torch.int8)}, f"{QUERY} is torch.int8"),
        (
            lambda w: {**w, QUERY: torch.full_like(w[QUERY], torch.nan).to(torch.float8_e5m2)},
            "not finite",
        ),
    ],
    ids=["missing", "shape", "nan", "infinity", "integers", "8 bits"],
)
def test_weights_that_are_not_those_of_the_config_are_refused_by_name(
    teacher: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    change_weights(teacher, change)
    assert message in refused(teacher)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "has no model.safetensors: save the model with"),
        (["pytorch_model.bin"], "has no model.safetensors (pytorch_model.bin is not read)"),
        (["model.safetensors.index.json"], "is no index of weights (Expecting value"),
    ],
    ids=["none", "a pickle", "no index"],
)
def test_weights_that_are_not_in_safetensors_files_are_refused(
    teacher: Path, found: list[str], message: str
) -> None:
    (teacher / WEIGHTS_FILE).unlink()
    for name in found:
        (teacher / name).write_bytes(b"anything")
    assert message in refused(teacher)


@pytest.mark.parametrize("length", [0, 5, 2000, -1])
def test_a_truncated_file_of_weights_is_refused(teacher: Path, length: int) -> None:
    path = teacher / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:length])
    assert "is no whole safetensors file" in refused(teacher)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "no teacher folder" in refused(tmp_path / "absent")
