"""Which shapes of a new device to measure, so that a handful tells most about it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autotinybert.errors import InputError
from autotinybert.files import whole_file
from predictor.transfer import FEWEST_SHAPES, take_apart
from predictor.transfer_prior import FloatMatrix, FloatVector, Strength
from supernet.architecture import ARCHITECTURE_FIELDS, IntMatrix

# How far from a known device a new one is expected to be.
_EXPECTED = Strength(kinds=0.7, groups=0.3, terms=0.2)

# Relative standard deviation of a row that is expected: of its label, and of what no terms hold.
_EXPECTED_NOISE = 0.02


def choose_transfer_shapes(
    known_ms: Mapping[str, FloatVector], typical: IntMatrix, count: int
) -> IntMatrix:
    """The shapes to measure on a new device, the most telling one first.

    Each is the one that lowers the expected squared relative error over all typical shapes most
    (I-optimal design, greedy), given those before it and what the known devices let expect, in
    their mean. The same arguments give the same shapes, and fewer are the first of more.

    Args:
        known_ms: of each device that the new one may resemble, by name, the latencies `[M]` of the
            typical shapes, predicted or measured.
        typical: int64 `[M, 5]`, the shapes that will be asked for, or a sample of them.
        count: how many to choose, at least 3.

    Returns:
        int64 `[count, 5]`, rows of `typical`.

    Raises:
        InputError: if no device is known, or `count` is under 3 or over the different shapes.
    """
    known = take_apart(known_ms, typical)
    different = len(np.unique(typical, axis=0))
    if not FEWEST_SHAPES <= count <= different:
        raise InputError(
            f"{count} shapes cannot be chosen: a transfer needs {FEWEST_SHAPES} or more, and "
            f"there are {different} to choose from"
        )
    relative = [device.typical for device in known]
    covariances = [device.elsewhere(_EXPECTED) for device in known]
    available = np.ones(len(typical), dtype=bool)
    chosen: list[int] = []
    for _ in range(count):
        gains = np.mean([_gains(*both) for both in zip(covariances, relative, strict=True)], axis=0)
        best = int(np.where(available, gains, -np.inf).argmax())
        chosen.append(best)
        available &= (typical != typical[best]).any(axis=1)
        covariances = [
            _after(covariance, rows[best])
            for covariance, rows in zip(covariances, relative, strict=True)
        ]
    return typical[chosen]


def _gains(covariance: FloatMatrix, relative: FloatMatrix) -> FloatVector:
    """By how much measuring each shape lowers the mean variance of all, `[M]`."""
    towards = relative @ covariance
    variance = np.einsum("mk,mk->m", towards, relative) + _EXPECTED_NOISE**2
    information = relative.T @ relative / len(relative)
    gains: FloatVector = np.einsum("mk,kl,ml->m", towards, information, towards) / variance
    return gains


def _after(covariance: FloatMatrix, measured: FloatVector) -> FloatMatrix:
    """What is believed after a shape, `[K]`, was measured."""
    towards = covariance @ measured
    return covariance - np.outer(towards, towards) / (measured @ towards + _EXPECTED_NOISE**2)


def write_shapes(path: Path, shapes: IntMatrix) -> None:
    """Writes shapes `[N, 5]` as the CSV file that `profile-device --architectures` takes."""
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ARCHITECTURE_FIELDS)
        writer.writerows(shapes.tolist())
