"""A fit in tables of text: what a terminal shows and what the page repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from autotinybert.text_table import text_table
from predictor.comparison import ComparedShape
from predictor.fitting import SliceFit
from predictor.metrics import Accuracy

ACCURACY_HEADER = ("held out by architecture", "MAPE", "within 5 %", "within 10 %", "worst", "rank")
COMPARISON_HEADER = (
    "shape",
    "L-d-f-h-q",
    "measured ms",
    "predicted ms",
    "speed-up here",
    "published",
)


def accuracy_rows(accuracies: Mapping[str, Accuracy], chosen: str) -> list[tuple[str, ...]]:
    """Rows under `ACCURACY_HEADER`."""
    return [
        (
            f"{name}{' (chosen)' if name == chosen else ''}",
            f"{found.mape:.2%}",
            f"{found.within_5_percent:.1%}",
            f"{found.within_10_percent:.1%}",
            f"{found.worst:.1%}",
            f"{found.spearman:.4f}",
        )
        for name, found in accuracies.items()
    ]


def comparison_rows(compared: Sequence[ComparedShape]) -> list[tuple[str, ...]]:
    """Rows under `COMPARISON_HEADER`."""

    def number(value: float | None, unit: str = "", digits: int = 2) -> str:
        return "" if value is None else f"{value:.{digits}f}{unit}"

    return [
        (
            row.shape.name,
            str(row.shape.architecture),
            number(row.measured_ms, " ~" if row.noisy else ""),
            number(row.predicted_ms),
            number(row.speedup, "x", 1),
            number(row.published_speedup, "x", 1),
        )
        for row in compared
    ]


def fit_summary(fit: SliceFit, compared: Sequence[ComparedShape]) -> str:
    """The tables of one workload and target."""
    predictor = fit.predictor
    bounds = predictor.calibrations["quiet"]
    return "\n".join(
        [
            f"{predictor.label}: {predictor.rows} rows",
            text_table(ACCURACY_HEADER, accuracy_rows(predictor.accuracies, predictor.chosen)),
            f"90 % of measurements lie from {math.exp(bounds.low) - 1:+.1%} to "
            f"{math.exp(bounds.high) - 1:+.1%} of the prediction",
            text_table(COMPARISON_HEADER, comparison_rows(compared)),
            "~ noisy; empty: not measured, and outside the range that was; published: PyTorch on "
            "the authors' hardware",
            "",
        ]
    )
