"""A trained SuperPLM on disk.

- `supernet.json`: shape, slicing rule, space, teacher, corpus, how it was trained, checksums
- `supernet.safetensors`: its weights, and those of what stands on it: the projection to the
  teacher's width, the head for masked words, the task's head
- the tokenizer's files, as the teacher has them
- `training.csv`: losses and speed, step by step
- `corpus/`: the token corpus, unless a prepared one was named

History of the schema:

1. The first.
2. An objective other than the distillation of scores; no teacher; a task's head.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import (
    read_signed_json,
    sha256_file,
    whole_binary_file,
    write_signed_json,
)
from autotinybert.values import integer, items, mapping, number, optional, text
from supernet.architecture import Architecture
from supernet.corpus import CORPUS_FILE, TokenCorpus, load_corpus
from supernet.distillation import Distillation, Teacher
from supernet.elastic import DepthRule
from supernet.heads import head_kind
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.learner import TASK_HEAD, Learner, heads_from_tensors
from supernet.masked_language import MaskedLanguage
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.objectives import Objective, ObjectiveName, ObjectiveSpec
from supernet.space import Space
from supernet.space_file import space_document, space_from_document
from supernet.task_head import TaskHead

SCHEMA_VERSION = 2

SUPERNET_FILE = "supernet.json"
WEIGHTS_FILE = "supernet.safetensors"
LOG_FILE = "training.csv"

_REMEDY = "train it again with train-supernet"


@dataclass(frozen=True)
class Origin:
    """Where a student comes from: what further training and scoring need to find again.

    Attributes:
        objective: what it was trained for.
        teacher: the folder of the teacher, or of the model that its tokenizer is from.
        teacher_sha256: of the teacher's weights and sizes; None if there is no teacher.
        corpus: the folder of the token corpus.
        corpus_sha256: of its `corpus.json`.
    """

    objective: ObjectiveSpec
    teacher: Path
    teacher_sha256: str | None
    corpus: Path
    corpus_sha256: str

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
            "objective": self.objective.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> Origin:
        """Reads back what stands in a file of `folder`.

        Raises:
            KeyError, TypeError, ValueError: if it is no such object.
        """
        corpus = value["corpus"]
        recorded = Path(text(corpus["path"]))
        from_here = Path(os.path.normpath(folder / text(corpus["from_here"])))
        return cls(
            objective=_objective(value),
            teacher=Path(text(value["teacher"]["path"])),
            teacher_sha256=optional(value["teacher"]["sha256"], text),
            corpus=from_here if (from_here / CORPUS_FILE).exists() else recorded,
            corpus_sha256=text(corpus["sha256"]),
        )

    def read_teacher(self) -> BertFolder | None:
        """The teacher, if it is still there and the same; None if there was none.

        Raises:
            InputError: if it is gone or another.
        """
        if self.teacher_sha256 is None:
            return None
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

    def read_objective(self, corpus: TokenCorpus) -> Objective:
        """The objective with its teacher, if that is still there and the same.

        Raises:
            InputError: if it is not.
        """
        return objective_of(self.objective, self.read_teacher(), corpus)


def objective_of(
    spec: ObjectiveSpec,
    teacher: BertFolder | None,
    corpus: TokenCorpus,
    *,
    seed: int = 0,
    device: torch.device | None = None,
) -> Objective:
    """An objective as it is trained for and scored by.

    Args:
        spec: what decides it.
        teacher: for a distillation.
        corpus: whose special tokens are never hidden.
        seed: of what is hidden.
        device: where the teacher runs; None is the CPU.

    Raises:
        InputError: if the teacher lacks the classifier that is to be learnt.
    """
    if spec.name == "mlm":
        ids = mapping(corpus.facts["special_ids"])
        special = {name: integer(value) for name, value in ids.items()}
        return MaskedLanguage(
            special_ids=special.values(),
            mask_id=special["mask"],
            vocab_size=corpus.vocab_size,
            seed=seed,
        )
    assert teacher is not None, "a distillation has a teacher"
    return Distillation(teacher_of(teacher, spec.name, device), spec)


def teacher_of(
    folder: BertFolder, objective: ObjectiveName, device: torch.device | None = None
) -> Teacher:
    """A teacher from its folder, frozen, with its classifier if that is to be learnt.

    Raises:
        InputError: if it lacks the classifier.
    """
    head = folder.task_head() if objective == "task" else None
    found = Teacher(folder.model(), head)
    return found if device is None else found.to(device)


def _objective(origin: Mapping[str, Any]) -> ObjectiveSpec:
    if "variance" in origin:  # in version 1
        variance = origin["variance"]
        units = {name: number(variance[name], lowest=0) for name in ("scores", "hidden")}
        return ObjectiveSpec(name="kd", attention="scores", units=units)
    return ObjectiveSpec.from_json(origin["objective"])


@dataclass(frozen=True)
class Supernet:
    """A trained SuperPLM.

    Attributes:
        folder: where it was read.
        learner: the SuperPLM and what stands on it.
        space: what it was trained for, cut to what it holds.
        origin: its teacher and corpus.
        sha256: of its weights.
        document: `supernet.json` as it stands.
    """

    folder: Path
    learner: Learner
    space: Space
    origin: Origin
    sha256: str
    document: Mapping[str, Any]

    @property
    def model(self) -> SuperPLM:
        """The SuperPLM."""
        return self.learner.student


def save_supernet(
    folder: Path,
    learner: Learner,
    space: Space,
    origin: Origin,
    training: Mapping[str, Any],
) -> None:
    """Writes a SuperPLM's two files into a folder that is already there.

    Raises:
        InputError: if the folder cannot be written.
    """
    tensors = {name: value.detach().cpu() for name, value in learner.named_parameters()}
    with whole_binary_file(folder / WEIGHTS_FILE) as file:
        file.write(save(tensors))
    config, head = learner.student.config, learner.task_head
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
            "head": None if head is None else {"kind": head.kind, "labels": list(head.labels)},
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
        head = document["head"] if document["schema_version"] > 1 else None
        learner = _learner(config, tensors, head)
        space = space_from_document(mapping(document["space"]), default_name="space")
        return Supernet(
            folder=folder,
            learner=learner,
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


def _learner(config: SuperPLMConfig, tensors: Mapping[str, Tensor], head: object) -> Learner:
    weights = {
        name.removeprefix("student."): value
        for name, value in tensors.items()
        if name.startswith("student.")
    }
    found = heads_from_tensors(tensors, layer_norm_epsilon=config.layer_norm_epsilon)
    if head is not None:
        described = mapping(head)
        task_head = TaskHead(
            head_kind(text(described["kind"])),
            config.largest.hidden_size,
            tuple(items(described["labels"], text)),
        )
        prefix = f"{TASK_HEAD}."
        task_head.load_state_dict(
            {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        )
        found[TASK_HEAD] = task_head
    return Learner(SuperPLM.from_weights(config, weights), **found)
