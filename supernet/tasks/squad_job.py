"""The work of `finetune-model --task squad`: every run of a grid, and the answers of the best.

History of the schema of its `results.json`:

1. The first.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotinybert.errors import DamagedFileError
from autotinybert.files import canonical_json, read_signed_json, write_signed_json
from autotinybert.values import integer, items, mapping, number
from supernet.distributed import Group
from supernet.encoder import Encoder, save_encoder
from supernet.tasks.finetune_results import RESULTS_FILE
from supernet.tasks.squad_finetuning import SquadSettings, finetune_squad

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCHEMA_VERSION = 1

# A run's files wait here until they are known to be the best.
_WAITING = ".answers"


@dataclass(frozen=True)
class SquadRun:
    """A run that was made.

    Attributes:
        settings: how, as JSON values.
        seed: of the head and the order.
        results: as `finetune_squad` reports them.
    """

    settings: Mapping[str, Any]
    seed: int
    results: Mapping[str, Any]

    @property
    def f1(self) -> float:
        """What runs are compared by, in percent."""
        return float(self.results["metrics"]["f1"])


class SquadJob:
    """Fine-tunes an encoder on SQuAD with several settings, into a folder that is already there.

    Args:
        out: the folder.
        encoder: what is trained.
        extra: what was kept beside it.
        tokenizer: its own.
        train: the official file to learn from.
        dev: the one to answer.
        group: one process alone; its device computes.
    """

    def __init__(
        self,
        out: Path,
        encoder: Encoder,
        extra: Mapping[str, Any],
        tokenizer: Tokenizer,
        *,
        train: Path,
        dev: Path,
        group: Group,
    ) -> None:
        self._out, self._encoder, self._extra = out, encoder, extra
        self._tokenizer, self._train, self._dev = tokenizer, train, dev
        self._group = group

    def try_all(self, tried: Sequence[tuple[SquadSettings, int]]) -> list[SquadRun]:
        """Makes the runs that are not made yet; the best so far is always in the folder.

        Args:
            tried: settings and seed of all runs, in order.

        Raises:
            WorkError: if a loss is no finite number any more.
        """
        runs = load_runs(self._out) if (self._out / RESULTS_FILE).exists() else []
        for settings, seed in tried[len(runs) :]:
            waiting = self._out / _WAITING
            shutil.rmtree(waiting, ignore_errors=True)
            waiting.mkdir()
            encoder, results = finetune_squad(
                self._encoder,
                self._tokenizer,
                self._train,
                self._dev,
                settings,
                seed=seed,
                out_folder=waiting,
                clock_s=time.monotonic,
                group=self._group,
            )
            made = SquadRun(settings.to_json(), seed, results)
            if all(made.f1 > other.f1 for other in runs):
                self._keep(made, encoder, waiting)
            shutil.rmtree(waiting)
            runs.append(made)
            _save_runs(self._out, runs)
        return runs

    def _keep(self, made: SquadRun, encoder: Encoder, waiting: Path) -> None:
        for path in waiting.iterdir():
            path.replace(self._out / path.name)
        step = {"did": "finetune-model", "task": "squad", "metrics": made.results["metrics"]}
        kept = {name: value for name, value in self._extra.items() if name != "heads"}
        history = [*items(self._extra.get("history", []), mapping), step]
        save_encoder(self._out, encoder, extra={**kept, "history": history})


def best_of(runs: Sequence[SquadRun]) -> SquadRun:
    """The run with the highest F1, of equal ones the first."""
    return max(runs, key=lambda run: run.f1)


def _save_runs(folder: Path, runs: Sequence[SquadRun]) -> None:
    write_signed_json(
        folder / RESULTS_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "squad-results",
            "runs": [
                {"settings": dict(run.settings), "seed": run.seed, "results": dict(run.results)}
                for run in runs
            ],
        },
    )


def load_runs(folder: Path) -> list[SquadRun]:
    """Reads the runs in a folder's `results.json`.

    Raises:
        DamagedFileError: if it was torn, truncated or edited.
    """
    path = folder / RESULTS_FILE
    remedy = "fine-tune again with --overwrite"
    document = read_signed_json(
        path, kind="squad-results", schema_version=SCHEMA_VERSION, remedy=remedy
    )
    try:
        runs = [
            SquadRun(mapping(row["settings"]), integer(row["seed"]), mapping(row["results"]))
            for row in items(document["runs"], mapping)
        ]
        for run in runs:
            number(mapping(run.results["metrics"])["f1"])
            canonical_json(run.settings)
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} holds no runs ({error}): {remedy}") from error
    return runs
