"""Which shapes of a new device to measure, so that a handful tells most about it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autotinybert.errors import InputError
from autotinybert.files import whole_file
from predictor.features import cost_terms
from predictor.transfer import FEWEST_SHAPES
from predictor.transfer_fit import KnownDevice
from predictor.transfer_prior import EXPECTED, FloatMatrix, prior_covariance
from supernet.architecture import ARCHITECTURE_FIELDS, IntMatrix

# Relative standard deviation of a row that is expected: of its label, and of what no terms hold.
_EXPECTED_NOISE = 0.02


def choose_transfer_shapes(
    known: Sequence[KnownDevice], candidates: IntMatrix, count: int
) -> IntMatrix:
    """The shapes to measure first on a new device, the most telling one first.

    Each is the one that lowers the expected squared relative error over all candidates most
    (I-optimal design, greedy), given those before it and what a known device lets expect. The
    same arguments give the same shapes, and fewer are the first of more.

    Args:
        known: devices that the new one may resemble; their mean decides.
        candidates: int64 `[M, 5]`, the shapes that will be asked for, or a sample of them.
        count: how many to choose, at least 3.

    Returns:
        int64 `[count, 5]`.

    Raises:
        InputError: if no device is known, or `count` is under 3 or over the different candidates.
    """
    if not known:
        raise InputError("no known device: name a predictor to transfer from")
    shapes = np.unique(candidates, axis=0)
    if not FEWEST_SHAPES <= count <= len(shapes):
        raise InputError(
            f"{count} shapes cannot be chosen: a transfer needs {FEWEST_SHAPES} or more, and "
            f"there are {len(shapes)} to choose from"
        )
    posteriors, rows = zip(*(_before(device, shapes) for device in known), strict=True)
    covariances, relative = np.stack(posteriors), np.stack(rows)
    chosen: list[int] = []
    for _ in range(count):
        gains = np.mean(
            [_gains(cov, of_shapes) for cov, of_shapes in zip(covariances, relative, strict=True)],
            axis=0,
        )
        gains[chosen] = -np.inf
        best = int(gains.argmax())
        chosen.append(best)
        for index, of_shapes in enumerate(relative):
            covariances[index] = _after(covariances[index], of_shapes[best])
    return shapes[chosen]


def _before(known: KnownDevice, shapes: IntMatrix) -> tuple[FloatMatrix, FloatMatrix]:
    """What is believed before measuring, `[K, K]`, and the terms that it is about, `[M, K]`."""
    terms = cost_terms(shapes)
    relative = terms / (terms @ known.prices_ms)[:, None]
    scales = 1 / relative.mean(axis=0)
    return prior_covariance(known.prices_ms / scales, EXPECTED), relative * scales


def _gains(covariance: FloatMatrix, relative: FloatMatrix) -> FloatMatrix:
    """By how much measuring each shape lowers the summed variance of all, `[M]`."""
    towards = relative @ covariance
    variance = np.einsum("mk,mk->m", towards, relative) + _EXPECTED_NOISE**2
    gains: FloatMatrix = np.einsum("mk,kl,ml->m", towards, relative.T @ relative, towards)
    return gains / variance / len(relative)


def _after(covariance: FloatMatrix, measured: FloatMatrix) -> FloatMatrix:
    """What is believed after a shape, `[K]`, was measured."""
    towards = covariance @ measured
    return covariance - np.outer(towards, towards) / (measured @ towards + _EXPECTED_NOISE**2)


def write_shapes(path: Path, shapes: IntMatrix) -> None:
    """Writes shapes `[N, 5]` as the CSV file that `profile-device --architectures` takes."""
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ARCHITECTURE_FIELDS)
        writer.writerows(shapes.tolist())
