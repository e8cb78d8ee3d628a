"""The published shapes on this device: latency, speed-up, and what their authors printed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device_profiles.measurements import Measurements
from device_profiles.target import Workload
from predictor.model import SlicePredictor
from supernet.architecture import to_matrix
from supernet.published import BERT_BASE, PUBLISHED_SHAPES, PublishedShape


@dataclass(frozen=True)
class ComparedShape:
    """A published shape on this device.

    Attributes:
        shape: as published.
        measured_ms: its quiet latency, None if it was not measured.
        noisy: whether that measurement is not to be trusted fully.
        predicted_ms: what the predictor says, None outside its range.
        speedup: BERT-base's latency over its own, measured where it was, else predicted.
        published_speedup: what its authors printed, where they ran it as here: 128 tokens, batch 1.
    """

    shape: PublishedShape
    measured_ms: float | None
    noisy: bool
    predicted_ms: float | None
    speedup: float | None
    published_speedup: float | None


def compare_published(predictor: SlicePredictor, measurements: Measurements) -> list[ComparedShape]:
    """Every published shape under the workload and target of one slice predictor."""
    measured: dict[tuple[int, ...], float] = {}
    noisy: set[tuple[int, ...]] = set()
    for row, (values, verdict) in enumerate(
        zip(measurements.slices, measurements.verdicts, strict=True)
    ):
        if values == predictor.slice and verdict != "rejected":
            architecture = tuple(measurements.architectures[row].tolist())
            measured[architecture] = float(measurements.statistics["latency_ms"][row])
            if verdict == "noisy":
                noisy.add(architecture)
    matrix = to_matrix([shape.architecture for shape in PUBLISHED_SHAPES])
    inside = np.ones(len(matrix), dtype=bool)
    inside[predictor.out_of_range(matrix)] = False
    predicted = np.full(len(matrix), np.nan)
    predicted[inside] = predictor.predict(matrix[inside]).latency_ms

    def latency_ms(index: int, shape: PublishedShape) -> float | None:
        value = measured.get(shape.architecture.row, float(predicted[index]))
        return None if np.isnan(value) else value

    base_ms = latency_ms(PUBLISHED_SHAPES.index(BERT_BASE), BERT_BASE)
    usual = Workload()
    is_usual = predictor.slice[:2] == (usual.sequence_length, usual.batch_size)
    compared = []
    for index, shape in enumerate(PUBLISHED_SHAPES):
        own_ms = latency_ms(index, shape)
        compared.append(
            ComparedShape(
                shape=shape,
                measured_ms=measured.get(shape.architecture.row),
                noisy=shape.architecture.row in noisy,
                predicted_ms=float(predicted[index]) if inside[index] else None,
                speedup=base_ms / own_ms if base_ms and own_ms else None,
                published_speedup=shape.speedup if is_usual else None,
            )
        )
    return compared
