"""Candidates of a search on their way to a model: in which order, what became of them, hand-out."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotinybert.errors import DamagedFileError, InputError, OccupiedFolderError, WorkError
from autotinybert.files import REQUEST_FILE, write_signed_json
from search.constraints import Budget
from search.result import Candidate
from search.verification_result import VERIFICATION_FILE
from supernet.architecture import Architecture
from supernet.encoder import load_encoder
from supernet.model_card import ModelCard
from supernet.model_folder import ALL_MODEL_FILES, load_model_folder, write_model_folder
from supernet.tokenizer_files import read_tokenizer_files

MODEL_FOLDER = "model"

# Of the list of tries. 1: the first.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Try:
    """What became of a candidate.

    Attributes:
        candidate: as the search found it.
        stage: `slice` if it failed before training, `model` after.
        verification: `verification.json` as it stands.
        folder: where its files are.
    """

    candidate: Candidate
    stage: str
    verification: Mapping[str, Any]
    folder: Path

    @property
    def outcome(self) -> str:
        """`passed`, `failed` or `undecided`."""
        return str(self.verification["outcome"])


def ordered_candidates(
    candidates: Sequence[Candidate], measured_ms: Mapping[Architecture, float], limit_ms: float
) -> list[Candidate]:
    """The order in which candidates are verified: best first, those in doubt left out.

    One that was measured above the budget after the search would waste a try; one that was not
    measured rests on its predicted bound, which in any case is within the budget.

    Args:
        candidates: an architecture may be there twice.
        measured_ms: what is known of some.
        limit_ms: the budget.
    """
    different = {found.architecture: found for found in reversed(candidates)}
    fitting = [
        found
        for found in different.values()
        if found.high_ms <= limit_ms and measured_ms.get(found.architecture, 0.0) <= limit_ms
    ]
    return sorted(fitting, key=lambda found: (found.loss, found.architecture))


def next_candidate(ordered: Sequence[Candidate], lost: float, limit_ms: float) -> Candidate:
    """The best that has the room that those before lacked; else the one with the most room.

    Args:
        ordered: those that were not tried yet, best first; at least one.
        lost: by how much those before had less room than was predicted.
        limit_ms: the budget, or what a speed-up comes to by the profile.
    """
    roomy = [found for found in ordered if limit_ms / found.latency_ms >= lost]
    return roomy[0] if roomy else min(ordered, key=lambda found: found.latency_ms)


def slack_lost(found: Try, limit_ms: float) -> float:
    """By how much a file had less room within its budget than was predicted; 1 is nothing.

    A verification must be sure, so it needs room for its own uncertainty, which the machine's
    unrest decides. What one file lacked the next would lack, too.

    Args:
        found: it failed.
        limit_ms: the budget, or what a speed-up comes to by the profile.
    """
    verification = found.verification
    predicted = limit_ms / found.candidate.latency_ms
    min_speedup = verification["budget"]["min_speedup"]
    if min_speedup is not None:
        measured = verification["speedup_lower"] and verification["speedup_lower"] / min_speedup
    else:
        measured = verification["upper_ms"] and limit_ms / verification["upper_ms"]
    return max(predicted / measured, 1.0) if measured else 1.0


def save_tries(path: Path, budget: Budget, tries: Sequence[Try]) -> None:
    """Writes every try of a whole path, passed or not, with its verification."""
    write_signed_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "path-verification",
            "budget": budget.to_json(),
            "tries": [
                {
                    "architecture": str(found.candidate.architecture),
                    "form": found.stage,
                    "held_out_loss": found.candidate.loss,
                    "verification": dict(found.verification),
                }
                for found in tries
            ],
        },
    )


def hand_out(out: Path, found: Try, card: ModelCard) -> None:
    """Puts the files that passed in place as `out/model`, with their verification on the card.

    Raises:
        WorkError: if the ONNX file is not, byte for byte, the one that was verified.
    """
    encoder, _ = load_encoder(found.folder / "trained")
    temporary = out / f".{MODEL_FOLDER}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    written = write_model_folder(
        temporary,
        encoder,
        variant=found.verification["graph_variant"],
        precision=found.verification["precision"],
        tokenizer_files=read_tokenizer_files(found.folder / "trained"),
        card=card,
    )
    if written.onnx_sha256 != found.verification["model_sha256"]:
        shutil.rmtree(temporary)
        raise WorkError(
            f"the ONNX file of {found.candidate.architecture} is not written as it was when it was "
            "verified (another version of onnx?): begin anew in another --out"
        )
    shutil.copy(found.folder / "trained-verified" / VERIFICATION_FILE, temporary)
    withdraw(out)
    temporary.rename(out / MODEL_FOLDER)


def is_handed_out(out: Path, onnx_sha256: str) -> bool:
    """Whether `out/model` holds a model whole, and the one of this hash."""
    try:
        return load_model_folder(out / MODEL_FOLDER).onnx_sha256 == onnx_sha256
    except (InputError, DamagedFileError):
        return False


def check_model_folder_is_ours(out: Path) -> None:
    """Refuses an `out/model` with files that are not a model's.

    Raises:
        OccupiedFolderError: naming one of them.
    """
    folder = out / MODEL_FOLDER
    if folder.exists() or folder.is_symlink():
        ours = {*ALL_MODEL_FILES, REQUEST_FILE}
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else ["a file"]
        others = [name for name in names if name not in ours]
        if others:
            raise OccupiedFolderError(
                f"{folder} holds what is no model's ({others[0]}): move it away"
            )


def withdraw(out: Path) -> None:
    """Removes the model in `out/model`, and nothing else that may lie there."""
    folder = out / MODEL_FOLDER
    for name in (*ALL_MODEL_FILES, REQUEST_FILE):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or not empty
        folder.rmdir()
