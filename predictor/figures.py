"""The figures of a fit and of a campaign."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from predictor.comparison import ComparedShape
from predictor.svg import BLUE, INK, ORANGE, RED, STYLE, plain_log_ticks, svg_element

FloatVector = npt.NDArray[np.float64]


def measured_against_predicted(
    measured_ms: FloatVector, held_out_ms: FloatVector, low: float, high: float
) -> str:
    """Held-out predictions and their relative errors, with the 90 % bounds.

    Args:
        measured_ms: `[N]`.
        held_out_ms: `[N]`.
        low: lower bound of measured / predicted.
        high: upper bound of measured / predicted.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        ends = [
            min(measured_ms.min(), held_out_ms.min()),
            max(measured_ms.max(), held_out_ms.max()),
        ]
        left.plot(ends, ends, color=INK, alpha=0.4, linewidth=1)
        left.scatter(held_out_ms, measured_ms, s=16, color=BLUE, alpha=0.8, linewidths=0)
        left.set(xscale="log", yscale="log", xlabel="predicted, held out (ms)")
        left.set(ylabel="measured (ms)")
        errors = measured_ms / held_out_ms - 1
        right.axhspan(
            100 * (low - 1),
            100 * (high - 1),
            color=BLUE,
            alpha=0.15,
            linewidth=0,
            label="90 % bounds",
        )
        right.axhline(0, color=INK, alpha=0.4, linewidth=1)
        right.scatter(held_out_ms, 100 * errors, s=16, color=BLUE, alpha=0.8, linewidths=0)
        right.set(xscale="log", xlabel="predicted, held out (ms)", ylabel="error (%)")
        figure.legend(loc="outside upper right")  # inside, it would look like data
        for axes in (left, right):
            plain_log_ticks(axes)
        plain_log_ticks(left, vertical=True)
        return svg_element(figure, "Measured against predicted latency")


def speedups(compared: Sequence[ComparedShape]) -> str:
    """Speed-up of each published shape against BERT-base, ours beside theirs."""
    shown = sorted(
        (row for row in compared if row.speedup is not None), key=lambda row: row.speedup or 0
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 0.8 + 0.3 * len(shown)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(shown))
        ours = [row.speedup or 0.0 for row in shown]
        axes.barh(places, ours, height=0.6, color=BLUE, label="here: ONNX Runtime")
        published = [
            (place, row.published_speedup)
            for place, row in zip(places, shown, strict=True)
            if row.published_speedup is not None
        ]
        axes.scatter(
            [value for _, value in published],
            [place for place, _ in published],
            marker="D",
            s=26,
            color=ORANGE,
            zorder=3,
            label="published: PyTorch, other hardware",
        )
        axes.set_yticks(places, [row.shape.name for row in shown])
        for place, value in zip(places, ours, strict=True):
            axes.annotate(
                f"{value:.1f}x",
                (value, place),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set(xscale="log", xlabel="times faster than BERT-base")
        axes.set_xlim(left=0.9)
        axes.margins(x=0.1, y=0.02)
        axes.legend(loc="lower right")
        plain_log_ticks(axes)
        return svg_element(figure, "Speed-up against BERT-base")


def campaign_course(
    started_s: FloatVector,
    excess: FloatVector,
    slow: npt.NDArray[np.bool_],
    rounds: Sequence[tuple[float, int]],
) -> str:
    """How much slower than its configuration's best each visit was, over time.

    Args:
        started_s: `[V]`, when each visit began.
        excess: `[V]`, its fastest run over its configuration's best, less 1.
        slow: `[V]`, whether it fell into a slow block.
        rounds: when each round began, and its number.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.0), layout="constrained")
        axes = figure.subplots()
        for (start, number), following in itertools.zip_longest(rounds, rounds[1:]):
            end = following[0] if following else float(started_s.max()) + 1
            if number % 2 == 0:
                axes.axvspan(start, end, color=INK, alpha=0.06, linewidth=0)
            if end - start > 0.04 * float(started_s.max()):
                axes.annotate(
                    f"round {number}",
                    ((start + end) / 2, 1),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    va="bottom",
                    fontsize=8,
                )
        for chosen, colour, name in ((~slow, BLUE, "accepted"), (slow, RED, "in a slow block")):
            if chosen.any():
                axes.scatter(
                    started_s[chosen],
                    100 * excess[chosen],
                    s=12,
                    color=colour,
                    alpha=0.75,
                    linewidths=0,
                    label=name,
                )
        axes.set(xlabel="seconds since the campaign began", ylabel="above the best visit (%)")
        figure.legend(loc="outside upper right")  # inside, it would look like data
        return svg_element(figure, "Course of the campaign")
