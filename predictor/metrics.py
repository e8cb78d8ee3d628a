"""How far predictions are from measurements."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

FloatVector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of predictions, relative to the measurements.

    Attributes:
        rows: how many predictions.
        mape: mean absolute percentage error, as a share.
        within_5_percent: share of predictions within 5 % of the measurement.
        within_10_percent: the same for 10 %.
        worst: largest absolute percentage error, as a share.
        spearman: rank correlation. It hides calibration: read it beside the others.
    """

    rows: int
    mape: float
    within_5_percent: float
    within_10_percent: float
    worst: float
    spearman: float

    def to_json(self) -> dict[str, float]:
        """As a JSON object."""
        return asdict(self)


def accuracy(measured: FloatVector, predicted: FloatVector) -> Accuracy:
    """Compares predictions with measurements, both `[N]`, positive, N at least 1."""
    errors = np.abs(predicted / measured - 1)
    return Accuracy(
        rows=len(measured),
        mape=float(errors.mean()),
        within_5_percent=float((errors <= 0.05).mean()),
        within_10_percent=float((errors <= 0.10).mean()),
        worst=float(errors.max()),
        spearman=spearman(measured, predicted),
    )


def spearman(first: FloatVector, second: FloatVector) -> float:
    """Rank correlation, ties sharing their mean rank; 0 where one side does not vary."""
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (first, second)]
    scale = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum()) / scale if scale else 0.0


def _ranks(values: FloatVector) -> FloatVector:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: FloatVector = (last - 1) - (counts - 1) / 2
    return means[inverse]
