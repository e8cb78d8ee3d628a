"""A trained SuperPLM on disk.

- `supernet.json`: shape, slicing rule, space, teacher, corpus, how it was trained, checksums
- `supernet.safetensors`: its weights, and the projection to the teacher's width
- the tokenizer's files, as the teacher has them
- `training.csv`: losses and speed, step by step
- `corpus/`: the token corpus, unless a prepared one was named

History of the schema:

1. The first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import (
    read_signed_json,
    sha256_file,
    whole_binary_file,
    write_signed_json,
)
from autotinybert.values import integer, mapping, number, text
from supernet.architecture import Architecture
from supernet.corpus import CORPUS_FILE, TokenCorpus, load_corpus
from supernet.elastic import DepthRule
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.objectives import TeacherVariance
from supernet.space import Space
from supernet.space_file import space_document, space_from_document

SCHEMA_VERSION = 1

SUPERNET_FILE = "supernet.json"
WEIGHTS_FILE = "supernet.safetensors"
LOG_FILE = "training.csv"

_REMEDY = "train it again with train-supernet"


@dataclass(frozen=True)
class Origin:
    """Where a student comes from: what further training and scoring need to find again.

    Attributes:
        teacher: the folder of the teacher.
        teacher_sha256: of its weights and sizes.
        corpus: the folder of the token corpus.
        corpus_sha256: of its `corpus.json`.
        variance: the unit of each loss term.
    """

    teacher: Path
    teacher_sha256: str
    corpus: Path
    corpus_sha256: str
    variance: TeacherVariance

    def to_json(self, folder: Path) -> dict[str, Any]:
        """As a JSON object in a file of `folder`; corpus and folder may move together."""
        corpus = self.corpus.resolve()
        return {
            "teacher": {"path": str(self.teacher.resolve()), "sha256": self.teacher_sha256},
            "corpus": {
                "path": str(corpus),
                "from_here": os.path.relpath(corpus, folder.resolve()),
                "sha256": self.corpus_sha256,
            },
            "variance": {"scores": self.variance.scores, "hidden": self.variance.hidden},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> Origin:
        """Reads back what stands in a file of `folder`.

        Raises:
            KeyError, TypeError, ValueError: if it is no such object.
        """
        variance, corpus = value["variance"], value["corpus"]
        recorded = Path(text(corpus["path"]))
        from_here = Path(os.path.normpath(folder / text(corpus["from_here"])))
        return cls(
            teacher=Path(text(value["teacher"]["path"])),
            teacher_sha256=text(value["teacher"]["sha256"]),
            corpus=from_here if (from_here / CORPUS_FILE).exists() else recorded,
            corpus_sha256=text(corpus["sha256"]),
            variance=TeacherVariance(
                number(variance["scores"], lowest=0), number(variance["hidden"], lowest=0)
            ),
        )

    def read_teacher(self) -> BertFolder:
        """The teacher, if it is still there and the same.

        Raises:
            InputError: if it is not.
        """
        try:
            found = read_bert_folder(self.teacher)
        except InputError as error:
            raise InputError(
                f"the teacher that was distilled from cannot be read: {error}; restore it, or "
                "train anew"
            ) from error
        if found.sha256 != self.teacher_sha256:
            raise InputError(
                f"the teacher in {self.teacher} is not the one that was distilled from (other "
                "weights or sizes): restore it, or train anew"
            )
        return found

    def read_corpus(self) -> TokenCorpus:
        """The corpus, if it is still there and the same.

        Raises:
            InputError: if it is not.
        """
        corpus = load_corpus(self.corpus)
        if sha256_file(self.corpus / CORPUS_FILE) != self.corpus_sha256:
            raise InputError(
                f"the corpus in {self.corpus} is not the one that was trained on: restore it, or "
                "train anew"
            )
        return corpus


@dataclass(frozen=True)
class Supernet:
    """A trained SuperPLM.

    Attributes:
        folder: where it was read.
        model: the SuperPLM.
        projection: from its hidden size to the teacher's.
        space: what it was trained for, cut to what it holds.
        origin: its teacher and corpus.
        sha256: of its weights.
        document: `supernet.json` as it stands.
    """

    folder: Path
    model: SuperPLM
    projection: nn.Linear
    space: Space
    origin: Origin
    sha256: str
    document: Mapping[str, Any]


def save_supernet(
    folder: Path,
    model: SuperPLM,
    projection: nn.Linear,
    space: Space,
    origin: Origin,
    training: Mapping[str, Any],
) -> None:
    """Writes a SuperPLM's two files into a folder that is already there.

    Raises:
        InputError: if the folder cannot be written.
    """
    tensors = {
        **{f"student.{name}": value.detach() for name, value in model.named_parameters()},
        **{f"projection.{name}": value.detach() for name, value in projection.named_parameters()},
    }
    with whole_binary_file(folder / WEIGHTS_FILE) as file:
        file.write(save(tensors))
    config = model.config
    write_signed_json(
        folder / SUPERNET_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "superplm",
            "architecture": str(config.largest),
            "depth_rule": config.depth_rule,
            "vocab_size": config.vocab_size,
            "max_positions": config.max_positions,
            "layer_norm_epsilon": config.layer_norm_epsilon,
            "space": space_document(space),
            "origin": origin.to_json(folder),
            "training": dict(training),
            "weights_sha256": sha256_file(folder / WEIGHTS_FILE),
        },
    )


def read_document(folder: Path) -> dict[str, Any]:
    """Reads what `supernet.json` says, without the weights.

    Raises:
        InputError: if the folder holds none, or one that is unfinished or of a later version.
        DamagedFileError: if the file was torn, truncated or edited.
    """
    path = folder / SUPERNET_FILE
    if not path.exists():
        raise InputError(
            f"no finished SuperPLM in {folder}: make one, or go on with it, with train-supernet "
            f"--out {folder}"
        )
    return read_signed_json(path, kind="superplm", schema_version=SCHEMA_VERSION, remedy=_REMEDY)


def load_supernet(folder: Path) -> Supernet:
    """Reads a SuperPLM back and checks it.

    Raises:
        InputError: if the folder holds none, or one that is unfinished or of a later version.
        DamagedFileError: if it was torn, truncated or edited.
    """
    document = read_document(folder)
    weights_path = folder / WEIGHTS_FILE
    try:
        if sha256_file(weights_path) != document["weights_sha256"]:
            raise DamagedFileError(f"{weights_path} is not as it was written: {_REMEDY}")
        tensors = load_file(weights_path)
        if document["depth_rule"] not in get_args(DepthRule):
            raise ValueError(f"no depth rule {document['depth_rule']!r}")
        config = SuperPLMConfig(
            largest=Architecture.parse(text(document["architecture"])),
            depth_rule=document["depth_rule"],
            vocab_size=integer(document["vocab_size"], lowest=1),
            max_positions=integer(document["max_positions"], lowest=1),
            layer_norm_epsilon=number(document["layer_norm_epsilon"], lowest=0),
        )
        weights = {
            name.removeprefix("student."): value
            for name, value in tensors.items()
            if name.startswith("student.")
        }
        teacher_size, hidden_size = tensors["projection.weight"].shape
        projection = nn.Linear(hidden_size, teacher_size)
        projection.load_state_dict(
            {name: tensors[f"projection.{name}"] for name in ("weight", "bias")}
        )
        space = space_from_document(mapping(document["space"]), default_name="space")
        return Supernet(
            folder=folder,
            model=SuperPLM.from_weights(config, weights),
            projection=projection,
            space=space.clipped(config.largest),
            origin=Origin.from_json(document["origin"], folder),
            sha256=document["weights_sha256"],
            document=document,
        )
    except OSError as error:
        raise DamagedFileError(
            f"cannot read {weights_path}: {error.strerror}; {_REMEDY}"
        ) from error
    except DamagedFileError:
        raise
    except (
        SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError
    ) as error:  # fmt: skip
        raise DamagedFileError(f"{folder} holds no SuperPLM ({error}): {_REMEDY}") from error
