"""A student on disk: an encoder folder that can be trained further.

Beside the encoder's own files and the tokenizer's there is `projection.safetensors`, the projection
to the teacher's width; and `encoder.json` says where teacher and corpus are, and what was done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import sha256_bytes, sha256_file, whole_binary_file
from autotinybert.values import items, mapping
from supernet.encoder import ENCODER_FILES, Encoder, load_encoder, save_encoder
from supernet.supernet_folder import Origin
from supernet.tokenizer_files import write_tokenizer_files

PROJECTION_FILE = "projection.safetensors"
STUDENT_FILES = (*ENCODER_FILES, PROJECTION_FILE)

_REMEDY = "extract it again with extract-model"


@dataclass(frozen=True, eq=False)
class Student:
    """An encoder on its own, with what its further training needs.

    Attributes:
        encoder: its shape and weights.
        projection: from its hidden size to the teacher's.
        origin: its teacher and corpus.
        history: what was done to it, oldest first, as JSON objects.
    """

    encoder: Encoder
    projection: nn.Linear
    origin: Origin
    history: tuple[Mapping[str, Any], ...]


def save_student(folder: Path, student: Student, tokenizer: Mapping[str, bytes]) -> None:
    """Writes a student's files into a folder that is already there.

    Raises:
        InputError: if the folder cannot be written.
    """
    write_tokenizer_files(folder, tokenizer)
    content = save({name: value.detach() for name, value in student.projection.named_parameters()})
    with whole_binary_file(folder / PROJECTION_FILE) as file:
        file.write(content)
    extra = {
        "origin": student.origin.to_json(folder),
        "history": [dict(step) for step in student.history],
        "projection": {"sha256": sha256_bytes(content)},
    }
    save_encoder(folder, student.encoder, extra=extra)


def load_student(folder: Path) -> Student:
    """Reads a student back and checks it.

    Raises:
        InputError: if the folder holds none, or an encoder that cannot be trained further.
        DamagedFileError: if it was torn, truncated or edited.
    """
    encoder, extra = load_encoder(folder)
    path = folder / PROJECTION_FILE
    if "origin" not in extra or not path.exists():
        raise InputError(
            f"{folder} holds an encoder without its teacher: name what extract-model or "
            "train-model wrote"
        )
    try:
        if sha256_file(path) != mapping(extra["projection"])["sha256"]:
            raise DamagedFileError(f"{path} is not as it was written: {_REMEDY}")
        tensors = load_file(path)
        teacher_size, hidden_size = tensors["weight"].shape
        projection = nn.Linear(hidden_size, teacher_size)
        projection.load_state_dict(tensors)
        origin = Origin.from_json(extra["origin"], folder)
        history = tuple(items(extra["history"], mapping))
    except DamagedFileError:
        raise
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedFileError(f"{folder} holds no student ({error}): {_REMEDY}") from error
    return Student(encoder, projection, origin, history)
