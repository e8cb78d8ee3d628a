"""AutoTinyBERT's checkpoints, in the exact files that its code writes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.encoder import Encoder
from supernet.importing import CHECKPOINT_FILE, encoder_of, head_left_out, read_model
from supernet.teacher_config import CONFIG_FILE

Run = Callable[..., npt.NDArray[np.float32]]
Inputs = Callable[..., dict[str, npt.NDArray[np.int64]]]
Make = Callable[..., Encoder]
Config = dict[str, Any]

MLM = "3-40-52-2-128"  # heads of 64, so another QKV size than the hidden size
KD = "2-28-40-12-36"  # twelve heads, of an odd size


def config_of(shape: Architecture, **changes: Any) -> Config:
    """As in AutoTinyBERT's folders: no model_type, a qkv_size where it is another."""
    return {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": shape.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": shape.ffn_size,
        "max_position_embeddings": 40,
        "num_attention_heads": shape.num_heads,
        "num_hidden_layers": shape.num_layers,
        "qkv_size": shape.qkv_size,
        "type_vocab_size": 2,
        "vocab_size": 97,
        **changes,
    }


def in_slices(shape: Architecture) -> Config:
    """The sizes as its searches write them, a value for every layer."""
    return {
        "sample_layer_num": shape.num_layers,
        "sample_hidden_size": shape.hidden_size,
        "sample_intermediate_sizes": [shape.ffn_size] * shape.num_layers,
        "sample_num_attention_heads": [shape.num_heads] * shape.num_layers,
        "sample_qkv_sizes": [shape.qkv_size] * shape.num_layers,
    }


def super_name(name: str) -> str:
    """The name that its own classes give a weight of BERT."""
    return name.replace("encoder.layer.", "encoder.layers.").replace(
        "_embeddings.weight", "_embeddings.embedding.weight"
    )


def state_of(encoder: Encoder, name_of: Callable[[str], str]) -> dict[str, Tensor]:
    """What it saves: the encoder, a pooler and a projection to the teacher."""
    d = encoder.architecture.hidden_size
    others = {
        "pooler.dense.weight": torch.zeros(d, d),
        "pooler.dense.bias": torch.zeros(d),
        "dense_fit.weight": torch.zeros(768, d),
        "dense_fit.bias": torch.zeros(768),
    }
    own = {name: torch.from_numpy(value) for name, value in encoder.weights.items()}
    return {name_of(name): value for name, value in {**own, **others}.items()}


def save(folder: Path, state: Mapping[str, Any], config: Config, **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(dict(state), folder / CHECKPOINT_FILE, **options)
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    return folder


FORMS: dict[str, Callable[[str], str]] = {
    "released": lambda name: f"bert.{name}",
    "extracted": super_name,
    "a SuperPLM": lambda name: f"bert.{super_name(name)}",
    "trained in parallel": lambda name: f"module.bert.{super_name(name)}",
}


@pytest.mark.parametrize("shape", [MLM, KD, "2-36-52-12-36"])
@pytest.mark.parametrize("form", list(FORMS))
def test_a_checkpoint_becomes_the_encoder_that_it_is(
    tmp_path: Path,
    random_encoder: Make,
    random_inputs: Inputs,
    torch_encoder: Run,
    shape: str,
    form: str,
) -> None:
    encoder = random_encoder(shape)
    config = config_of(encoder.architecture)
    if config["qkv_size"] == config["hidden_size"]:
        del config["qkv_size"]
    folder = save(tmp_path, state_of(encoder, FORMS[form]), config)
    read = read_model(folder)
    found = encoder_of(read)
    assert (str(found.architecture), found.head, head_left_out(read)) == (shape, None, None)
    inputs = random_inputs(3)
    np.testing.assert_array_equal(
        torch_encoder(found.architecture, found.weights, inputs),
        torch_encoder(encoder.architecture, encoder.weights, inputs),
    )
    ids, mask, types = (
        torch.from_numpy(inputs[name]) for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    ours = read.model()(ids, mask, types).last_hidden_state.numpy()
    theirs = torch_encoder(encoder.architecture, encoder.weights, inputs)
    np.testing.assert_allclose(ours[mask.bool()], theirs[mask.bool()], rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_files_of_old_and_new_torch_are_read_and_half_precision_becomes_float32(
    tmp_path: Path, random_encoder: Make, options: dict[str, Any]
) -> None:
    encoder = random_encoder(KD)
    state = {name: value.half() for name, value in state_of(encoder, FORMS["released"]).items()}
    read = read_model(save(tmp_path, state, config_of(encoder.architecture), **options))
    assert read.family == "autotinybert"
    name = "encoder.layer.1.intermediate.dense.weight"
    expected = encoder.weights[name].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(encoder_of(read).weights[name], expected)


def test_a_file_is_read_with_the_config_beside_it(tmp_path: Path, random_encoder: Make) -> None:
    encoder = random_encoder(KD)
    folder = save(tmp_path, state_of(encoder, super_name), config_of(encoder.architecture))
    (folder / CONFIG_FILE).rename(folder / "bert_config.json")
    read = read_model(folder / CHECKPOINT_FILE)
    assert (read.path, str(read.config.largest)) == (folder, KD)


def test_sizes_that_stand_there_for_every_layer_are_read(
    tmp_path: Path, random_encoder: Make
) -> None:
    encoder = random_encoder(MLM)
    whole = config_of(Architecture(8, 768, 3072, 12, 768))
    config = {**whole, **in_slices(encoder.architecture)}
    read = read_model(save(tmp_path, state_of(encoder, super_name), config))
    assert str(read.config.largest) == MLM


def test_an_extracted_slice_beside_the_config_of_its_superplm_needs_its_shape(
    tmp_path: Path, random_encoder: Make
) -> None:
    encoder = random_encoder(MLM)
    whole = config_of(Architecture(8, 768, 3072, 12, 768))
    folder = save(tmp_path, state_of(encoder, super_name), whole)
    with pytest.raises(InputError, match=r"has shape \[97, 40\], but its config.json says \[97"):
        read_model(folder)
    assert str(read_model(folder, encoder.architecture).config.largest) == MLM


def test_a_shape_is_named_for_checkpoints_only(teacher: Path) -> None:
    with pytest.raises(InputError, match="--architecture is for a checkpoint without"):
        read_model(teacher, Architecture.parse(KD))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_qkv_sizes": [36, 48]}, r"sample_qkv_sizes \[36, 48\] is not supported: all lay"),
        ({"sample_intermediate_sizes": []}, r"sample_intermediate_sizes \[\] is not supported"),
        ({"intermediate_size": [40, 44]}, r"intermediate_size \[40, 44\] is not supported"),
        ({"qkv_size": 37}, "qkv_size 37 is not divisible by num_attention_heads 12"),
        ({"qkv_size": 48}, r"query.weight has shape \[36, 28\], but its config.json says \[48"),
        ({"sample_qkv_sizes": "36"}, "qkv_size must be a positive integer, not '36'"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
    ],
)
def test_a_config_that_is_of_no_such_encoder_is_refused(
    tmp_path: Path, random_encoder: Make, changes: Config, message: str
) -> None:
    encoder = random_encoder(KD)
    config = {**config_of(encoder.architecture), **changes}
    folder = save(tmp_path, state_of(encoder, super_name), config)
    with pytest.raises(InputError, match=message) as caught:
        read_model(folder)
    assert "\n" not in str(caught.value)


class _Code:
    """What a pickle that runs code holds."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_pickle_that_wants_code_is_refused_and_nothing_of_it_runs(
    tmp_path: Path, random_encoder: Make, options: dict[str, Any]
) -> None:
    encoder = random_encoder(KD)
    state = {**state_of(encoder, super_name), "code": _Code(tmp_path / "ran")}
    folder = save(tmp_path / "model", state, config_of(encoder.architecture), **options)
    with pytest.raises(InputError, match="asks for more than tensors, which is never run") as error:
        read_model(folder)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "holds no weights by name"),
        ({}, "holds no weights by name"),
        ({"model": {"a": torch.zeros(1)}}, "holds 'model', which is no weight: save a state_dict"),
        ({3: torch.zeros(1)}, "holds 3, which is no weight"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "a is no dense tensor"),
        ({"a": torch.zeros(2, device="meta")}, "a is no dense tensor"),
    ],
    ids=["a list", "nothing", "nested", "a number", "sparse", "without values"],
)
def test_a_file_that_holds_something_else_is_refused(
    tmp_path: Path, value: Any, message: str
) -> None:
    torch.save(value, tmp_path / CHECKPOINT_FILE)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config_of(Architecture.parse(KD))))
    with pytest.raises(InputError, match=message):
        read_model(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torn_or_edited_file_is_read_or_refused_in_one_line(
    tmp_path: Path, random_encoder: Make, *, zipped: bool
) -> None:
    encoder = random_encoder("1-8-8-2-4")
    file = io.BytesIO()
    state = state_of(encoder, super_name)
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    content = file.getvalue()
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config_of(encoder.architecture)))
    rng = np.random.default_rng(0)
    for length in (0, 1, 5, 100, 1000, len(content) // 2, len(content) - 1):
        (tmp_path / CHECKPOINT_FILE).write_bytes(content[:length])
        with pytest.raises(InputError) as caught:
            read_model(tmp_path)
        assert "\n" not in str(caught.value)
    for _ in range(200):
        edited = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            edited[place] = rng.integers(0, 256)
        (tmp_path / CHECKPOINT_FILE).write_bytes(edited)
        with contextlib.suppress(InputError):
            read_model(tmp_path)


def test_the_classifier_of_an_old_hugging_face_folder_comes_along(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=97,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        id2label={0: "no", 1: "yes"},
    )
    peer: Any = BertForSequenceClassification(config)
    config.save_pretrained(tmp_path)
    torch.save(peer.state_dict(), tmp_path / CHECKPOINT_FILE)
    read = read_model(tmp_path)
    found = encoder_of(read)
    assert read.family == "bert"
    assert found.head is not None
    assert found.head.labels == ("no", "yes")
    np.testing.assert_array_equal(
        found.head.weights["classifier.weight"], peer.classifier.weight.detach().numpy()
    )
