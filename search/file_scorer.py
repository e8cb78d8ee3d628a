"""Scores a shipped file on held-out text, beside the encoder that it was exported from.

int8 is judged by this and not by how far single outputs move: the loss is the one that was trained
for and searched by, on the same sequences and in the same units.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from autotinybert.errors import DamagedFileError, InputError, WorkError
from autotinybert.files import sha256_bytes, sha256_file
from search.exported_model import ExportedModel
from search.file_score import load_score, save_score
from supernet.corpus import TokenCorpus
from supernet.encoder import ENCODER_FILE
from supernet.held_out import HeldOutLoss
from supernet.model_folder import onnx_content
from supernet.objectives import Objective
from supernet.onnx_score import OnnxEncoder
from supernet.student_folder import Student, load_student

# Text that was not trained on; on the second nothing was searched either.
SPLITS = ("search", "test")


@dataclass(frozen=True, eq=False)
class FileScorer:
    """A file, and everything that its score needs, read and checked.

    Attributes:
        model: the file.
        student: the encoder that it was exported from.
        student_sha256: of the encoder's document.
        objective: the student's, with its teacher.
        corpus: the student's.
    """

    model: ExportedModel
    student: Student
    student_sha256: str
    objective: Objective
    corpus: TokenCorpus

    @classmethod
    def prepare(cls, model: ExportedModel, folder: Path) -> Self:
        """Reads what is needed: it is known to be there before anything is measured.

        Args:
            model: the exported file.
            folder: what export-model was given: of extract-model or train-model.

        Raises:
            InputError: if the file was not exported from it, or its teacher or corpus is gone or
                has changed.
            DamagedFileError: if it was torn, truncated or edited.
        """
        student = load_student(folder)
        made = onnx_content(
            student.learner.encoder(), variant=model.graph_variant, precision=model.precision
        )
        if sha256_bytes(made) != model.sha256:
            raise InputError(
                f"{model.path} is not what export-model makes of {folder}: name the folder that it "
                "was exported from, or export it again"
            )
        sha256 = sha256_file(folder / ENCODER_FILE)
        corpus = student.origin.read_corpus()
        return cls(model, student, sha256, student.origin.read_objective(corpus), corpus)

    def score_into(self, out: Path) -> dict[str, Any]:
        """The score in `out`; it is made where there is none of this file and encoder.

        Raises:
            InputError: if it cannot be written.
            WorkError: if the file's loss is no finite number.
        """
        wanted = self._identity()
        with contextlib.suppress(DamagedFileError):  # or not there: it is made in seconds
            known = load_score(out)
            if all(known.get(name) == value for name, value in wanted.items()):
                return known
        score = {**wanted, "splits": self._splits()}
        save_score(out, score)
        return score

    def _identity(self) -> dict[str, Any]:
        return {
            "model_sha256": self.model.sha256,
            "encoder_sha256": self.student_sha256,
            "architecture": str(self.model.architecture),
            "graph_variant": self.model.graph_variant,
            "precision": self.model.precision,
        }

    def _splits(self) -> dict[str, Any]:
        """By split, the losses of the file and of its encoder in float32."""
        learner = self.student.learner
        file = OnnxEncoder(self.model.path.read_bytes(), self.model.architecture)
        splits: dict[str, Any] = {}
        for name in SPLITS:
            held_out = HeldOutLoss(self.objective, self.corpus.splits[name])
            found = held_out.terms(file, learner)
            if not all(math.isfinite(value) for value in found.values() if value is not None):
                raise WorkError(
                    f"the held-out loss of {self.model.path} is no finite number: export it again "
                    "with --precision fp32"
                )
            float32 = held_out(learner).terms
            splits[name] = {"file": _terms(found), "float32": _terms(float32)}
        return splits


def _terms(terms: Mapping[str, float | None]) -> dict[str, float | None]:
    told = [value for value in terms.values() if value is not None]
    loss = sum(told) if len(told) == len(terms) else None
    return {"loss": loss, **{f"{name}_loss": value for name, value in terms.items()}}
