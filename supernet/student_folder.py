"""A student on disk: an encoder folder that can be trained further.

Beside the encoder's own files and the tokenizer's there is `heads.safetensors`: the projection to
the teacher's width, or the head for masked words. `encoder.json` says where teacher and corpus are,
and what was done. A task's head is part of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import sha256_bytes, sha256_file, whole_binary_file
from autotinybert.values import items, mapping
from supernet.architecture import Architecture
from supernet.encoder import ENCODER_FILES, load_encoder, save_encoder
from supernet.extraction import as_model
from supernet.learner import PROJECTION, TASK_HEAD, Learner, heads_from_tensors
from supernet.supernet_folder import Origin
from supernet.task_head import TaskHead
from supernet.tokenizer_files import write_tokenizer_files

HEADS_FILE = "heads.safetensors"
STUDENT_FILES = (*ENCODER_FILES, HEADS_FILE)

# Where students of version 0.1 keep theirs: the projection alone, without a prefix.
_PROJECTION_FILE = "projection.safetensors"

_REMEDY = "extract it again with extract-model"


@dataclass(frozen=True, eq=False)
class Student:
    """An encoder on its own, with what its further training needs.

    Attributes:
        learner: the encoder, and what stands on it.
        origin: its teacher and corpus.
        history: what was done to it, oldest first, as JSON objects.
    """

    learner: Learner
    origin: Origin
    history: tuple[Mapping[str, Any], ...]

    @property
    def architecture(self) -> Architecture:
        """Its shape."""
        return self.learner.student.config.largest


def save_student(folder: Path, student: Student, tokenizer: Mapping[str, bytes]) -> None:
    """Writes a student's files into a folder that is already there.

    Raises:
        InputError: if the folder cannot be written.
    """
    write_tokenizer_files(folder, tokenizer)
    tensors = {
        name: value.cpu()
        for name, value in student.learner.head_tensors().items()
        if not name.startswith(f"{TASK_HEAD}.")
    }
    content = save(tensors)
    with whole_binary_file(folder / HEADS_FILE) as file:
        file.write(content)
    extra = {
        "origin": student.origin.to_json(folder),
        "history": [dict(step) for step in student.history],
        "heads": {"sha256": sha256_bytes(content)},
    }
    save_encoder(folder, student.learner.encoder(), extra=extra)


def load_student(folder: Path) -> Student:
    """Reads a student back and checks it.

    Raises:
        InputError: if the folder holds none, or an encoder that cannot be trained further.
        DamagedFileError: if it was torn, truncated or edited.
    """
    encoder, extra = load_encoder(folder)
    path = folder / (_PROJECTION_FILE if "projection" in extra else HEADS_FILE)
    if "origin" not in extra or not path.exists():
        raise InputError(
            f"{folder} holds an encoder without its teacher: name what extract-model or "
            "train-model wrote"
        )
    try:
        kept = mapping(extra["heads" if path.name == HEADS_FILE else "projection"])
        if sha256_file(path) != kept["sha256"]:
            raise DamagedFileError(f"{path} is not as it was written: {_REMEDY}")
        tensors = load_file(path)
        if path.name == _PROJECTION_FILE:
            tensors = {f"{PROJECTION}.{name}": value for name, value in tensors.items()}
        heads = heads_from_tensors(tensors, layer_norm_epsilon=encoder.layer_norm_epsilon)
        if encoder.head is not None:
            heads[TASK_HEAD] = TaskHead.from_head(encoder.head)
        origin = Origin.from_json(extra["origin"], folder)
        history = tuple(items(extra["history"], mapping))
    except DamagedFileError:
        raise
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedFileError(f"{folder} holds no student ({error}): {_REMEDY}") from error
    return Student(Learner(as_model(encoder), **heads), origin, history)
