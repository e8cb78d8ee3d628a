"""The held-out loss of a shipped file, on disk and in words.

History of the schema of `score.json`:

1. The first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotinybert.errors import DamagedFileError
from autotinybert.files import read_signed_json, write_signed_json
from autotinybert.values import mapping, number, optional

SCHEMA_VERSION = 1

SCORE_FILE = "score.json"


def save_score(folder: Path, score: Mapping[str, Any]) -> None:
    """Writes a score with a checksum of itself.

    Raises:
        InputError: if the folder cannot be written.
    """
    write_signed_json(
        folder / SCORE_FILE, {"schema_version": SCHEMA_VERSION, "kind": "file-score", **score}
    )


def load_score(folder: Path) -> dict[str, Any]:
    """Reads the `score.json` in a folder.

    Raises:
        InputError: if it is of a later version.
        DamagedFileError: if it is not there, or was torn, truncated or edited.
    """
    document = read_signed_json(
        folder / SCORE_FILE,
        kind="file-score",
        schema_version=SCHEMA_VERSION,
        remedy="remove it and give the same command again",
    )
    try:
        for losses in mapping(document["splits"]).values():
            for scored in ("file", "float32"):
                found = mapping(mapping(losses)[scored])
                if "loss" not in found:
                    raise ValueError("no loss")
                for value in found.values():
                    optional(value, number)
    except (LookupError, ValueError) as error:
        raise DamagedFileError(
            f"{folder / SCORE_FILE} is no score ({error}): remove it and give the same command "
            "again"
        ) from error
    return document


def term_of(score: Mapping[str, Any]) -> str:
    """What of a file's loss is known: all of it, or its hidden state's part alone."""
    whole = all(losses["file"]["loss"] is not None for losses in score["splits"].values())
    return "loss" if whole else "hidden_loss"


def score_text(score: Mapping[str, Any]) -> str:
    """A score in one line: what the file loses, beside its encoder in float32.

    Of a graph that does not tell its attention scores it is the hidden state's term alone.
    """
    splits = score["splits"]
    term = term_of(score)
    each = [
        f"{losses['file'][term]:.3f} on the {name} split (in float32 {losses['float32'][term]:.3f})"
        for name, losses in splits.items()
    ]
    alone = ""
    if term != "loss":
        alone = (
            f" of the hidden state alone (the graph variant {score['graph_variant']} keeps its "
            "attention scores to itself)"
        )
    return f"held-out distillation loss of the {score['precision']} file{alone}: {', '.join(each)}"
