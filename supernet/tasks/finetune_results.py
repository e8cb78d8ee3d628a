"""`results.json`: every run of a fine-tuning, and the one that was chosen.

It is written after every run, so that what was stopped goes on with the next one.

History of the schema:

1. The first.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotinybert.errors import DamagedFileError
from autotinybert.files import read_signed_json, write_signed_json
from autotinybert.values import integer, items, mapping, number, text
from supernet.tasks.finetune_grid import FinetuneSettings

SCHEMA_VERSION = 1

RESULTS_FILE = "results.json"

_KIND = "finetuning-results"
_REMEDY = "remove it and run finetune-model again"

# Metrics by name, in percent, of each file of examples.
FileScores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One fine-tuning.

    Attributes:
        settings: how.
        epoch: the epoch that was kept, from 1: the first of those with the highest score.
        epoch_scores: the primary score on the dev file after each epoch.
        dev: all metrics of what was kept, by dev file.
    """

    settings: FinetuneSettings
    epoch: int
    epoch_scores: tuple[float, ...]
    dev: FileScores

    @property
    def score(self) -> float:
        """The primary score of what was kept."""
        return self.epoch_scores[self.epoch - 1]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "settings": self.settings.to_json(),
            "epoch": self.epoch,
            "epoch_scores": list(self.epoch_scores),
            "score": self.score,
            "dev": {name: dict(found) for name, found in self.dev.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Run:
        """Reads it back.

        Raises:
            LookupError, TypeError, ValueError: if it is no such object.
        """
        epoch_scores = tuple(items(value["epoch_scores"], number))
        return cls(
            settings=FinetuneSettings(**mapping(value["settings"])),
            epoch=integer(value["epoch"], lowest=1, highest=len(epoch_scores)),
            epoch_scores=epoch_scores,
            dev=_file_scores(value["dev"]),
        )


@dataclass(frozen=True, kw_only=True)
class Point:
    """A combination of settings over its seeds.

    Attributes:
        settings: those of its first seed.
        seeds: how many there were.
        mean: of the primary score.
        deviation: its standard deviation over seeds; None for one seed.
    """

    settings: FinetuneSettings
    seeds: int
    mean: float
    deviation: float | None


@dataclass(frozen=True, kw_only=True)
class Results:
    """All runs so far.

    Attributes:
        task: the task.
        primary: the name of the score that runs are compared by.
        runs: in the order that they were made in.
        interval: bounds of the chosen model's primary score on the dev file, once all is done.
        test: metrics of the chosen model on the test files that have labels.
    """

    task: str
    primary: str
    runs: tuple[Run, ...] = ()
    interval: tuple[float, float] | None = None
    test: FileScores = field(default_factory=dict)

    @property
    def chosen(self) -> Run:
        """The run with the highest score; the first of those."""
        return max(self.runs, key=lambda run: run.score)

    def points(self) -> list[Point]:
        """The combinations of settings, in the order that they were tried in."""
        found: dict[tuple[int, int, float], list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.settings.point, []).append(run)
        return [_point(runs) for runs in found.values()]

    def with_run(self, run: Run) -> Results:
        """These and one more."""
        return dataclasses.replace(self, runs=(*self.runs, run))


def save_results(folder: Path, results: Results) -> None:
    """Writes `results.json` into a folder that is already there.

    Raises:
        InputError: if the folder cannot be written.
    """
    points = [
        {
            **{name: point.settings.to_json()[name] for name in _POINT},
            "seeds": point.seeds,
            "mean": point.mean,
            "standard_deviation": point.deviation,
        }
        for point in results.points()
    ]
    write_signed_json(
        folder / RESULTS_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": _KIND,
            "task": results.task,
            "primary": results.primary,
            "runs": [run.to_json() for run in results.runs],
            "settings": points,
            "chosen": results.chosen.to_json(),
            "interval_95": None if results.interval is None else list(results.interval),
            "test": {name: dict(found) for name, found in results.test.items()},
        },
    )


def load_results(folder: Path) -> Results:
    """Reads them back.

    Raises:
        InputError: if they are of a later version.
        DamagedFileError: if they are missing, or were torn, truncated or edited.
    """
    path = folder / RESULTS_FILE
    document = read_signed_json(path, kind=_KIND, schema_version=SCHEMA_VERSION, remedy=_REMEDY)
    try:
        interval = document["interval_95"]
        bounds = None if interval is None else items(interval, number)
        return Results(
            task=text(document["task"]),
            primary=text(document["primary"]),
            runs=tuple(Run.from_json(run) for run in items(document["runs"], mapping)),
            interval=None if bounds is None else (bounds[0], bounds[1]),
            test=_file_scores(document["test"]),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} holds no results ({error}): {_REMEDY}") from error


_POINT = ("epochs", "batch_size", "learning_rate")


def _point(runs: Sequence[Run]) -> Point:
    values = [run.score for run in runs]
    return Point(
        settings=runs[0].settings,
        seeds=len(runs),
        mean=statistics.fmean(values),
        deviation=statistics.stdev(values) if len(values) > 1 else None,
    )


def _file_scores(value: object) -> FileScores:
    return {
        text(name): {text(metric): number(score) for metric, score in mapping(found).items()}
        for name, found in mapping(value).items()
    }
