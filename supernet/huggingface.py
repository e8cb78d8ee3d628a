"""Reads Hugging Face BERT folders: `config.json`, `model.safetensors` and a tokenizer.

Only files are read, no code of a folder is run, and weights that are a pickle are refused.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from autotinybert.errors import InputError
from autotinybert.files import canonical_json, sha256_file, sha256_text
from supernet.architecture import Architecture
from supernet.cost import TYPE_VOCAB_SIZE
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.task_head import TaskHead
from supernet.weights import weight_shapes

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_SIZES = {
    "num_hidden_layers": "num_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "ffn_size",
    "num_attention_heads": "num_heads",
}


@dataclass(frozen=True)
class BertFolder:
    """A BERT encoder read from a folder.

    Attributes:
        path: the folder.
        config: its shape and sizes.
        weights: float32, under the names of `weight_shapes`.
        sha256: of what decides its outputs: the file of weights, and `config`.
    """

    path: Path
    config: SuperPLMConfig
    weights: Mapping[str, Tensor]
    sha256: str

    @property
    def cannot_start(self) -> str | None:
        return None

    @property
    def mlm_head(self) -> Mapping[str, Tensor] | None:
        return None

    def task_head(self) -> TaskHead:
        raise InputError(f"{self.path} has no classifier on it")

    def model(self) -> SuperPLM:
        """The encoder, for inference only."""
        model = SuperPLM.from_weights(self.config, self.weights)
        return model.requires_grad_(False).eval()  # noqa: FBT003 (torch's own signature)


def read_bert_folder(path: Path) -> BertFolder:
    """Reads a folder that holds a BERT encoder, with or without a head on it.

    Raises:
        InputError: if a file is missing or broken, or the model is of another kind.
    """
    if not path.is_dir():
        raise InputError(f"no teacher folder {path}: name a Hugging Face BERT folder")
    config = _read_config(path / CONFIG_FILE)
    weights_path = path / WEIGHTS_FILE
    if not weights_path.is_file():
        others = sorted(
            entry.name
            for entry in path.iterdir()
            if entry.suffix in (".bin", ".pt", ".h5", ".msgpack") or "index" in entry.name
        )
        found = f" ({others[0]} is not read)" if others else ""
        raise InputError(
            f"{path} has no {WEIGHTS_FILE}{found}: save the model with "
            "save_pretrained(..., safe_serialization=True) in one file"
        )
    try:
        stored = load_file(weights_path)
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise InputError(
            f"{weights_path} is no whole safetensors file ({error}): fetch or save it again"
        ) from error
    weights = _encoder_weights(stored, config, weights_path)
    # The heads and the epsilon stand in no weight.
    facts = {**dataclasses.asdict(config), "weights": sha256_file(weights_path)}
    return BertFolder(path, config, weights, sha256_text(canonical_json(facts)))


def _read_config(path: Path) -> SuperPLMConfig:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; a teacher is a Hugging Face BERT folder with "
            f"{CONFIG_FILE}, {WEIGHTS_FILE} and a tokenizer"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): restore it") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} does not hold one JSON object: restore it")
    return _config_from(document, path)


def _config_from(document: Mapping[str, Any], path: Path) -> SuperPLMConfig:
    kind = document.get("model_type")
    if kind != "bert":
        raise InputError(f"{path}: model_type {kind!r} is not supported: use a BERT (`bert`)")
    supported = {
        "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute",),
        "type_vocab_size": (TYPE_VOCAB_SIZE,),
    }
    for name, values in supported.items():
        if document.get(name, values[0]) not in values:
            raise InputError(
                f"{path}: {name} {document[name]!r} is not supported: it must be {values[0]!r}"
            )
    for name in ("is_decoder", "add_cross_attention"):
        if document.get(name):
            raise InputError(f"{path}: {name} is not supported: use an encoder")
    for name in (*_SIZES, "vocab_size", "max_position_embeddings"):
        value = document.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{path}: {name} must be a positive integer, not {value!r}")
    epsilon = document.get("layer_norm_eps", 1e-12)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise InputError(f"{path}: layer_norm_eps must be between 0 and 1, not {epsilon!r}")
    return SuperPLMConfig(
        largest=_shape(document, path),
        vocab_size=document["vocab_size"],
        max_positions=document["max_position_embeddings"],
        layer_norm_epsilon=float(epsilon),
    )


def _shape(document: Mapping[str, Any], path: Path) -> Architecture:
    hidden_size, heads = document["hidden_size"], document["num_attention_heads"]
    if hidden_size % heads:
        raise InputError(
            f"{path}: hidden_size {hidden_size} is not divisible by num_attention_heads {heads}"
        )
    sizes = {ours: document[theirs] for theirs, ours in _SIZES.items()}
    try:
        return Architecture(**sizes, qkv_size=hidden_size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _encoder_weights(
    stored: Mapping[str, Tensor], config: SuperPLMConfig, path: Path
) -> dict[str, Tensor]:
    """The encoder's own weights, in float32, whatever head stands on it."""
    # Models with a head prefix the encoder's names; the first checkpoints named LayerNorm's
    # weights gamma and beta.
    found = {
        name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias"): value
        for name, value in stored.items()
    }
    shapes = weight_shapes(
        config.largest, vocab_size=config.vocab_size, max_positions=config.max_positions
    )
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name not in found:
            raise InputError(f"{path} lacks {name}: it does not hold the BERT of its config.json")
        value = found[name]
        if tuple(value.shape) != shape:
            raise InputError(
                f"{path}: {name} has shape {list(value.shape)}, but its config.json says "
                f"{list(shape)}"
            )
        if not value.is_floating_point():
            raise InputError(f"{path}: {name} is {value.dtype}: save the model in float32")
        weights[name] = value.float()
        if not bool(torch.isfinite(weights[name]).all()):
            raise InputError(f"{path}: {name} holds values that are not finite numbers")
    return weights
