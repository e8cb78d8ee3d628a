"""A fit in tables of text: what a terminal shows and what the page repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from autotinybert.text_table import text_table
from device_profiles.measurements import describe_slice
from predictor.comparison import ComparedShape
from predictor.fitting import SliceFit
from predictor.metrics import Accuracy
from predictor.workload_model import WorkloadModel

_MOST_SUSPECTS = 10

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
    low, high = fit.typical_bounds()
    return "\n".join(
        [
            f"{predictor.label}: {predictor.rows} rows",
            text_table(ACCURACY_HEADER, accuracy_rows(predictor.accuracies, predictor.chosen)),
            *noise_lines(fit),
            f"90 % of measurements lie from {low - 1:+.1%} to {high - 1:+.1%} of the prediction, "
            "further where rows are few",
            *ratio_lines(fit),
            *suspect_lines(fit),
            text_table(COMPARISON_HEADER, comparison_rows(compared)),
            "~ noisy; empty: not measured, and outside the range that was; published: PyTorch on "
            "the authors' hardware",
            "",
        ]
    )


def noise_lines(fit: SliceFit) -> list[str]:
    """How much of the error is the labels' own, where that is known."""
    noise = fit.predictor.label_noise
    if noise is None:
        return []
    # Of normal errors; a label can be off by so much whatever the predictor is.
    floor = noise * math.sqrt(2 / math.pi)
    return [f"noise of the labels: {floor:.2%} of the MAPE is theirs, by how visits differ"]


def ratio_lines(fit: SliceFit) -> list[str]:
    """How far other statistics lie above the quiet latency."""
    found = [
        f"{name} {math.exp(float(np.median(value.centers))):.3f} "
        f"({math.exp(value.centers.min()):.3f} to {math.exp(value.centers.max()):.3f})"
        for name, value in fit.predictor.calibrations.items()
        if name != "quiet"
    ]
    return [f"times the quiet latency: {', '.join(found)}"] if found else []


def suspect_lines(fit: SliceFit) -> list[str]:
    """The rows that are not believed."""
    rows = fit.suspect_rows()
    if not rows:
        return []
    named = [
        f"{shape} ({measured_ms:.3g} ms, expected {expected_ms:.3g})"
        for shape, measured_ms, expected_ms in rows[:_MOST_SUSPECTS]
    ]
    more = f" and {len(rows) - len(named)} more" if len(rows) > len(named) else ""
    are = "rows are" if len(rows) > 1 else "row is"
    return [f"{len(rows)} {are} far off and hardly counted: {', '.join(named)}{more}"]


def workload_summary(model: WorkloadModel) -> str:
    """What the model of all workloads of a target answers for, and how well."""
    lengths, batches = (sorted(set(axis)) for axis in zip(*model.workloads, strict=True))
    bounds, found = model.calibrations["quiet"], model.held_out
    low, high = math.exp(bounds.low), math.exp(bounds.high)
    return (
        f"Between the measured workloads ({', '.join(map(str, lengths))} tokens, batch "
        f"{', '.join(map(str, batches))}; {describe_slice((lengths[0], batches[0], *model.target))}"
        f" and so on): MAPE {found.mape:.2%} on workloads that were left out whole, 90 % of "
        f"measurements from {low - 1:+.1%} to {high - 1:+.1%}\n"
    )
