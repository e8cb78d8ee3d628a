"""Brings encoders in from elsewhere: Hugging Face folders and AutoTinyBERT's checkpoints.

What AutoTinyBERT's code saves is `pytorch_model.bin`, `config.json` and `vocab.txt`. The names in
it are BERT's, or for a whole SuperPLM and what its extractor takes out of one those of its own
classes: `bert.encoder.layers.0...` and `bert.embeddings.word_embeddings.embedding.weight`. The
config is BERT's with `qkv_size`; the extractor writes none, so a shape can be named instead.
Projections to a teacher (`dense_fit`) and the heads of pre-training are left out.

A `.bin` file is a pickle. It is read with torch's `weights_only`, which makes tensors and plain
containers and calls nothing else.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from autotinybert.errors import InputError
from autotinybert.files import sha256_file
from supernet.architecture import Architecture
from supernet.encoder import Encoder
from supernet.huggingface import INDEX_FILE, WEIGHTS_FILE, BertFolder, bert_of, read_bert_folder
from supernet.teacher_config import CONFIG_FILE, config_from, read_document

CHECKPOINT_FILE = "pytorch_model.bin"
AUTOTINYBERT = "autotinybert"

_OLD_CONFIG_FILE = "bert_config.json"

# What AutoTinyBERT calls the sizes of a slice, and BERT's config those of a model.
_SLICE_KEYS = {
    "sample_layer_num": "num_hidden_layers",
    "sample_hidden_size": "hidden_size",
    "sample_intermediate_sizes": "intermediate_size",
    "sample_num_attention_heads": "num_attention_heads",
    "sample_qkv_sizes": "qkv_size",
}
_LAYERS = "encoder.layers."


def read_model(path: Path, architecture: Architecture | None = None) -> BertFolder:
    """Reads an encoder that others made.

    Args:
        path: a Hugging Face folder, an encoder folder, or a checkpoint or its folder.
        architecture: the shape of a checkpoint whose `config.json` does not say it.

    Raises:
        InputError: if it is none of them, or of a kind that is not supported.
    """
    has_safetensors = any((path / name).exists() for name in (WEIGHTS_FILE, INDEX_FILE))
    if path.is_file() or (not has_safetensors and (path / CHECKPOINT_FILE).is_file()):
        return _read_checkpoint(path if path.is_file() else path / CHECKPOINT_FILE, architecture)
    if architecture is not None:
        raise InputError(
            f"--architecture is for a checkpoint without a config.json of its own, not for {path}: "
            "leave it out"
        )
    return read_bert_folder(path)


def encoder_of(read: BertFolder) -> Encoder:
    """An encoder on its own, with its head if ours can be the same.

    Raises:
        InputError: if its embeddings are narrower than its layers.
    """
    if read.config.embedding_size is not None:
        raise InputError(
            f"{read.path}: its embeddings are {read.config.embedding_size} wide and its layers "
            f"{read.config.largest.hidden_size}, which is no encoder of ours: name it as --teacher "
            "of train-supernet instead"
        )
    size = read.config.largest.hidden_size
    return Encoder(
        architecture=read.config.largest,
        weights={name: value.numpy() for name, value in read.weights.items()},
        layer_norm_epsilon=read.config.layer_norm_epsilon,
        head=None if read.head is None or head_left_out(read) else read.head.extract(size),
    )


def head_left_out(read: BertFolder) -> str | None:
    """Why a head that is there cannot come along; None where nothing is lost."""
    head = read.head
    if head is None:
        return None if read.head_problem is None else str(read.head_problem)
    if head.kind == "span" or head.activation == "tanh":
        return None
    return (
        f"its classifier has {head.activation} between its layers, where ours has tanh: what has "
        "its labels is distilled with train-supernet --objective task"
    )


def _read_checkpoint(path: Path, architecture: Architecture | None) -> BertFolder:
    config_path = path.parent / CONFIG_FILE
    if not config_path.exists() and (path.parent / _OLD_CONFIG_FILE).exists():
        config_path = path.parent / _OLD_CONFIG_FILE
    document = read_document(config_path)
    config = config_from(_plain_config(document, architecture, config_path), config_path)
    stored = _load_checkpoint(path)
    found = bert_of(
        path,
        config,
        {_bert_name(name): value for name, value in stored.items()},
        weights_sha256=sha256_file(path),
    )
    own_keys = {"qkv_size", *_SLICE_KEYS} & set(document)
    own_names = any(_LAYERS in name for name in stored)
    family = AUTOTINYBERT if own_keys or own_names else found.family
    return dataclasses.replace(found, path=path.parent, family=family)


def _plain_config(
    document: Mapping[str, Any], architecture: Architecture | None, path: Path
) -> dict[str, Any]:
    """A `config.json` of AutoTinyBERT as BERT has it, with a `qkv_size`."""
    plain = {"model_type": "bert", **document}
    for key, name in _SLICE_KEYS.items():
        if key in document:
            plain[name] = document[key]
        plain[name] = _for_all_layers(plain.get(name), key if key in document else name, path)
        if plain[name] is None:
            del plain[name]
    if architecture is not None:
        plain["num_hidden_layers"] = architecture.num_layers
        plain["hidden_size"] = architecture.hidden_size
        plain["intermediate_size"] = architecture.ffn_size
        plain["num_attention_heads"] = architecture.num_heads
        plain["qkv_size"] = architecture.qkv_size
    return plain


def _for_all_layers(value: Any, name: str, path: Path) -> Any:
    """The size that every layer has, of a list of sizes."""
    if not isinstance(value, list):
        return value
    if not value or any(size != value[0] for size in value):
        raise InputError(
            f"{path}: {name} {value} is not supported: all layers of an encoder have one shape here"
        )
    return value[0]


def _load_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        # Files of the format before torch 1.6 cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:
        raise InputError(
            f"{path} is damaged, or a pickle that asks for more than tensors, which is never run "
            f"({str(error).splitlines()[0][:100]}...): save its state_dict() with torch.save"
        ) from error
    except (
        OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
        AssertionError, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise InputError(
            f"{path} is no whole checkpoint ({' '.join(str(error).split())[:100]}): fetch it again"
        ) from error
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} holds no weights by name: save a state_dict() with torch.save")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(
                f"{path} holds {name!r}, which is no weight: save a state_dict() with torch.save"
            )
        if value.layout != torch.strided or value.device.type != "cpu":
            raise InputError(f"{path}: {name} is no dense tensor: save it as one")
    return found


def _bert_name(name: str) -> str:
    """The name in BERT of what AutoTinyBERT's classes have, and of parallel training."""
    plain = name.removeprefix("module.").replace(_LAYERS, "encoder.layer.")
    return plain.replace("_embeddings.embedding.weight", "_embeddings.weight")
