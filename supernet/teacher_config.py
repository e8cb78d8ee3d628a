"""Reads the `config.json` of a Hugging Face encoder: what its weights are and how they run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.cost import TYPE_VOCAB_SIZE
from supernet.model import SuperPLMConfig
from supernet.teacher_families import FAMILIES, Family

CONFIG_FILE = "config.json"

_SIZES = {
    "num_hidden_layers": "num_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "ffn_size",
    "num_attention_heads": "num_heads",
}
_PAD_TOKEN_ID = 1  # RoBERTa's
_EMBEDDING_SIZE = 128  # ELECTRA's, where config.json does not say it


@dataclass(frozen=True, kw_only=True)
class StoredConfig:
    """What a `config.json` says.

    Attributes:
        family: how the weights are named.
        config: what they become here.
        skipped_positions: the first rows of the stored positions, which no text has.
        segments: rows of the stored segments; 0 where there is no such table.
        document: the whole of it.
    """

    family: Family
    config: SuperPLMConfig
    skipped_positions: int
    segments: int
    document: Mapping[str, Any]


def read_document(path: Path) -> dict[str, Any]:
    """Reads a `config.json` as it stands.

    Raises:
        InputError: if it cannot be read or is not one JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; a teacher is a Hugging Face folder with "
            f"{CONFIG_FILE}, model.safetensors and a tokenizer"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): restore it") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} does not hold one JSON object: restore it")
    return document


def config_from(document: Mapping[str, Any], path: Path) -> StoredConfig:
    """Understands what a `config.json` says.

    Args:
        document: its content.
        path: where it stands, for what an error says.

    Raises:
        InputError: if the model is of another kind, or a value is missing or impossible.
    """
    kind = document.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise InputError(
            f"{path}: model_type {kind!r} is not supported: use one of "
            f"{', '.join(map(str, FAMILIES))}"
        )
    _check_kind(document, family, path)
    for name in (*_SIZES, "vocab_size", "max_position_embeddings"):
        _size(document, family.key(name), path)
    skipped = _skipped_positions(document, family, path)
    largest = _shape(document, family, path)
    return StoredConfig(
        family=family,
        config=SuperPLMConfig(
            largest=largest,
            vocab_size=document["vocab_size"],
            max_positions=document["max_position_embeddings"] - skipped,
            layer_norm_epsilon=_epsilon(document, family, path),
            embedding_size=_embedding_size(document, family, largest, path),
        ),
        skipped_positions=skipped,
        segments=_segments(document, family, path),
        document=document,
    )


def _check_kind(document: Mapping[str, Any], family: Family, path: Path) -> None:
    for name, only in (
        (family.key("hidden_act"), "gelu"),
        ("position_embedding_type", "absolute"),
    ):
        if document.get(name, only) != only:
            raise InputError(
                f"{path}: {name} {document[name]!r} is not supported: it must be {only!r}"
            )
    for name in ("is_decoder", "add_cross_attention"):
        if document.get(name):
            raise InputError(f"{path}: {name} is not supported: use an encoder")


def _size(
    document: Mapping[str, Any], name: str, path: Path, default: int | None = None, lowest: int = 1
) -> int:
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        wanted = "a positive integer" if lowest else "an integer from 0 on"
        raise InputError(f"{path}: {name} must be {wanted}, not {value!r}")
    return value


def _epsilon(document: Mapping[str, Any], family: Family, path: Path) -> float:
    if family.epsilon is not None:
        return family.epsilon
    epsilon = document.get("layer_norm_eps", 1e-12)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise InputError(f"{path}: layer_norm_eps must be between 0 and 1, not {epsilon!r}")
    return float(epsilon)


def _skipped_positions(document: Mapping[str, Any], family: Family, path: Path) -> int:
    """Rows before the first token's: RoBERTa counts from `pad_token_id` + 1 on.

    It counts tokens that are not padding, so in text that is padded on the right, as all of ours
    is, the rest of the table is read in order.
    """
    if not family.skips_padding:
        return 0
    skipped = _size(document, "pad_token_id", path, default=_PAD_TOKEN_ID, lowest=0) + 1
    rows = document["max_position_embeddings"]
    if rows <= skipped:
        raise InputError(
            f"{path}: max_position_embeddings {rows} leaves no position after pad_token_id "
            f"{skipped - 1}"
        )
    return skipped


def _segments(document: Mapping[str, Any], family: Family, path: Path) -> int:
    if not family.has_segments:
        return 0
    return _size(document, "type_vocab_size", path, default=TYPE_VOCAB_SIZE)


def _embedding_size(
    document: Mapping[str, Any], family: Family, largest: Architecture, path: Path
) -> int | None:
    if not family.has_narrow_embeddings:
        return None
    size = _size(document, "embedding_size", path, default=_EMBEDDING_SIZE)
    return None if size == largest.hidden_size else size


def _shape(document: Mapping[str, Any], family: Family, path: Path) -> Architecture:
    width, heads = family.key("hidden_size"), family.key("num_attention_heads")
    # AutoTinyBERT's models have a QKV size of their own.
    qkv_size = _size(document, "qkv_size", path, default=document[width])
    if qkv_size % document[heads]:
        name = "qkv_size" if "qkv_size" in document else width
        raise InputError(f"{path}: {name} {qkv_size} is not divisible by {heads} {document[heads]}")
    sizes = {ours: document[family.key(theirs)] for theirs, ours in _SIZES.items()}
    try:
        return Architecture(**sizes, qkv_size=qkv_size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
