"""`Encoder`: an encoder on its own, and the folder that carries one from command to command.

There may be a head on it. An *encoder folder* holds the weights in their true shapes; a model
folder, made from it at the end, holds them in the forms that others run.

- `encoder.safetensors`: the weights, float32, named as in `weight_shapes`; those of the head as in
  `head_shapes`, after `head.`
- `encoder.json`: architecture, LayerNorm epsilon, kind and labels of the head, where it came from,
  and checksums

History of the schema:

1. The first.
2. `head`, null where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import (
    read_signed_json,
    sha256_bytes,
    whole_binary_file,
    write_signed_json,
)
from autotinybert.values import mapping, number, text
from supernet.architecture import Architecture
from supernet.heads import Head, check_head_fits, head_from_json, head_to_json
from supernet.weights import (
    LAYER_NORM_EPSILON,
    FloatArray,
    check_weights,
    table_sizes,
    weight_shapes,
)

SCHEMA_VERSION = 2

ENCODER_FILE = "encoder.json"
WEIGHTS_FILE = "encoder.safetensors"
ENCODER_FILES = (ENCODER_FILE, WEIGHTS_FILE)

_HEAD_PREFIX = "head."

_REMEDY = "write the encoder again"


@dataclass(frozen=True, eq=False)
class Encoder:
    """An encoder, and the head that stands on it if it answers a task.

    Attributes:
        architecture: its shape.
        weights: float32, exactly the names of `weight_shapes`; never changed in place.
        layer_norm_epsilon: what every LayerNorm adds to the variance.
        head: None where its answer is its last hidden state.

    Raises:
        InputError: if a weight is missing, unknown, of another shape or type, or not finite.
    """

    architecture: Architecture
    weights: Mapping[str, FloatArray]
    layer_norm_epsilon: float = LAYER_NORM_EPSILON
    head: Head | None = None

    def __post_init__(self) -> None:
        epsilon = self.layer_norm_epsilon
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise InputError(f"layer_norm_epsilon must be a number above 0, not {epsilon!r}")
        vocab_size, max_positions = table_sizes(self.weights)
        shapes = weight_shapes(
            self.architecture, vocab_size=vocab_size, max_positions=max_positions
        )
        check_weights(shapes, self.weights, self.architecture)
        for name, value in self.weights.items():
            if name not in shapes:
                raise InputError(f"weight {name} has no place in an encoder {self.architecture}")
            if value.dtype != np.float32:
                raise InputError(f"weight {name} is {value.dtype}: it must be float32")
            if not np.isfinite(value).all():
                raise InputError(f"weight {name} holds values that are not finite")
        if self.head is not None:
            check_head_fits(self.head, self.architecture)

    @property
    def vocab_size(self) -> int:
        """Rows of the word embedding."""
        return table_sizes(self.weights)[0]

    @property
    def max_positions(self) -> int:
        """Rows of the position embedding."""
        return table_sizes(self.weights)[1]


def safetensors_bytes(weights: Mapping[str, FloatArray]) -> bytes:
    """Weights as the bytes of a safetensors file; equal weights give equal bytes."""
    dense = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    # transformers asks which framework a file was written for.
    return safetensors.numpy.save(dense, metadata={"format": "pt"})


def save_encoder(folder: Path, encoder: Encoder, *, extra: Mapping[str, Any]) -> None:
    """Writes an encoder's files into a folder that is already there.

    Args:
        folder: the folder.
        encoder: what to write.
        extra: JSON values to keep beside it, such as where it came from.

    Raises:
        InputError: if the folder cannot be written.
    """
    head = encoder.head
    head_weights = {} if head is None else head.weights
    named = {f"{_HEAD_PREFIX}{name}": value for name, value in head_weights.items()}
    content = safetensors_bytes({**encoder.weights, **named})
    with whole_binary_file(folder / WEIGHTS_FILE) as file:
        file.write(content)
    write_signed_json(
        folder / ENCODER_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "encoder",
            "architecture": str(encoder.architecture),
            "layer_norm_epsilon": encoder.layer_norm_epsilon,
            "head": head_to_json(head),
            "weights_sha256": sha256_bytes(content),
            "extra": dict(extra),
        },
    )


def load_encoder(folder: Path) -> tuple[Encoder, dict[str, Any]]:
    """Reads an encoder back and checks it.

    Returns:
        The encoder, and what was kept beside it.

    Raises:
        InputError: if the folder holds none, or one of a later version.
        DamagedFileError: if it was torn, truncated or edited.
    """
    path, weights_path = folder / ENCODER_FILE, folder / WEIGHTS_FILE
    if not path.exists():
        raise InputError(f"no encoder in {folder}: name a folder that holds {ENCODER_FILE}")
    document = read_signed_json(path, kind="encoder", schema_version=SCHEMA_VERSION, remedy=_REMEDY)
    try:
        content = weights_path.read_bytes()
    except OSError as error:
        raise DamagedFileError(
            f"cannot read {weights_path}: {error.strerror}; {_REMEDY}"
        ) from error
    if sha256_bytes(content) != document.get("weights_sha256"):
        raise DamagedFileError(f"{weights_path} is torn, truncated or edited: {_REMEDY}")
    try:
        weights, head = _without_head(safetensors.numpy.load(content), document)
        encoder = Encoder(
            architecture=Architecture.parse(text(document["architecture"])),
            weights=weights,
            layer_norm_epsilon=number(document["layer_norm_epsilon"]),
            head=head,
        )
        return encoder, mapping(document["extra"])
    except (
        LookupError, TypeError, ValueError, AttributeError, safetensors.SafetensorError
    ) as error:  # fmt: skip
        raise DamagedFileError(f"{folder} holds no encoder ({error}): {_REMEDY}") from error


def _without_head(
    tensors: Mapping[str, FloatArray], document: Mapping[str, Any]
) -> tuple[dict[str, FloatArray], Head | None]:
    """The encoder's own weights, and the head that the others are."""
    told = document["head"] if document["schema_version"] > 1 else None
    kind, labels = head_from_json(told)
    if kind is None:
        return dict(tensors), None
    weights = {name: value for name, value in tensors.items() if not name.startswith(_HEAD_PREFIX)}
    head_weights = {
        name.removeprefix(_HEAD_PREFIX): value
        for name, value in tensors.items()
        if name.startswith(_HEAD_PREFIX)
    }
    return weights, Head(kind, labels, head_weights)
