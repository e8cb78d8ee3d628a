"""Scores the shapes of a profile as slices: measured latencies to compare a search with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotinybert.errors import DamagedFileError
from device_profiles.journal import Journal, read_journal
from device_profiles.measurements import STATISTICS, Measurements, Slice
from device_profiles.profile import DeviceProfile
from search.evaluation import Evaluation
from search.searching import DEFAULT_SEQUENCES
from supernet.architecture import Architecture, from_matrix
from supernet.published import PUBLISHED_SHAPES
from supernet.supernet_folder import Supernet


@dataclass(frozen=True)
class ScoredShape:
    """A shape with a measured latency and a held-out loss.

    Attributes:
        architecture: the shape.
        name: what its authors call it; empty for a sampled one.
        loss: held-out loss of the slice.
        measured_ms: the budget's statistic, as measured.
    """

    architecture: Architecture
    name: str
    loss: float
    measured_ms: float


def score_profile(
    supernet: Supernet,
    profile: DeviceProfile,
    path: Path,
    *,
    sequences: int = DEFAULT_SEQUENCES,
    clock_s: Callable[[], float] = time.monotonic,
) -> None:
    """Scores every shape of a profile that a SuperPLM holds, into a journal.

    Args:
        supernet: the SuperPLM.
        profile: whose shapes.
        path: the journal; what it holds is not scored again.
        sequences: held-out sequences to score on.
        clock_s: reads seconds.
    """
    from search.fitness import slice_fitness

    largest = supernet.model.config.largest
    shapes = dict.fromkeys(from_matrix(profile.measurements.architectures))
    with Journal(path) as journal:
        if journal.records and journal.records[0].get("supernet_sha256") != supernet.sha256:
            journal.clear()
        if not journal.records:
            journal.append({"kind": "comparison", "supernet_sha256": supernet.sha256})
        known = _known(journal.records, path)
        missing = [shape for shape in shapes if largest.holds(shape) and shape not in known]
        if not missing:
            return
        fitness = slice_fitness(supernet, sequences=sequences)
        for architecture in missing:
            started_s = clock_s()
            score = fitness(architecture)
            evaluation = Evaluation(architecture, score, clock_s() - started_s)
            journal.append({"kind": "evaluation", **evaluation.to_json()})


def _known(records: Sequence[Mapping[str, Any]], path: Path) -> dict[Architecture, Evaluation]:
    """What a journal of scores knows, less its first line.

    Raises:
        DamagedFileError: if a line is no evaluation.
    """
    try:
        found = [Evaluation.from_json(dict(record)) for record in records[1:]]
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} holds other records ({error}): remove it") from error
    return {evaluation.architecture: evaluation for evaluation in found}


def read_scores(path: Path) -> list[Evaluation]:
    """Every score in a comparison's journal.

    Raises:
        DamagedFileError: if it is damaged.
    """
    return list(_known(read_journal(path, allow_torn_end=True), path).values())


def scored_shapes(
    path: Path, measurements: Measurements, slice_: Slice, column: str
) -> list[ScoredShape]:
    """The shapes of a comparison that were measured under one workload and target."""
    known = _known(read_journal(path, allow_torn_end=True), path)
    names: dict[Architecture, list[str]] = {}
    for shape in PUBLISHED_SHAPES:
        names.setdefault(shape.architecture, []).append(shape.name)
    return [
        ScoredShape(
            architecture,
            ", ".join(names.get(architecture, ())),
            known[architecture].score.loss,
            measured_ms,
        )
        for architecture, measured_ms in measured_shapes(measurements, slice_, column).items()
        if architecture in known
    ]


def measured_shapes(
    measurements: Measurements, slice_: Slice, column: str
) -> dict[Architecture, float]:
    """A statistic of every shape that is not rejected, under one workload and target."""
    assert column in STATISTICS
    values = measurements.statistics.get(column, np.full(len(measurements), np.nan))
    rows: Sequence[int] = [
        row
        for row in range(len(measurements))
        if measurements.slices[row] == slice_
        and measurements.verdicts[row] != "rejected"
        and not np.isnan(values[row])
    ]
    shapes = from_matrix(measurements.architectures[rows])
    return {shape: float(values[row]) for shape, row in zip(shapes, rows, strict=True)}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other beats in both coordinates, by the first; lower is better.

    Args:
        points: latency and loss.
    """
    front: list[int] = []
    lowest = np.inf
    for index in sorted(range(len(points)), key=lambda index: points[index]):
        if points[index][1] < lowest:
            front.append(index)
            lowest = points[index][1]
    return front
