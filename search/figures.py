"""The figures of the whole path: the cloud and its front, prediction, verification, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from predictor.svg import BLUE, INK, ORANGE, RED, STYLE, plain_log_ticks, svg_element
from search.comparison import ScoredShape, pareto_front

FloatVector = npt.NDArray[np.float64]

GREEN = "#3f9b63"


@dataclass(frozen=True)
class FinalModel:
    """The verified model on the front.

    Attributes:
        measured_ms: its statistic, as verified.
        upper_ms: the upper confidence bound of it.
        slice_loss: held-out loss of the slice that it began as.
        loss: held-out loss after further training.
    """

    measured_ms: float
    upper_ms: float
    slice_loss: float
    loss: float


def searched_cloud(
    profiled: Sequence[ScoredShape],
    measured: Sequence[ScoredShape],
    predicted: Sequence[tuple[float, float]],
    final: FinalModel | None,
    *,
    limit_ms: float,
    statistic: str,
) -> str:
    """Latency against held-out loss: what was measured, what was searched, and the front.

    Args:
        profiled: shapes of the profile; named ones are published or rivals.
        measured: shapes that the search found, measured afterwards.
        predicted: latency and loss of those that were evaluated and not measured.
        final: the verified model, if there is one.
        limit_ms: the budget.
        statistic: what the latencies are.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 5.2), layout="constrained")
        axes = figure.subplots()
        axes.axvline(limit_ms, color=RED, linewidth=1.2, linestyle="--", label="budget")
        sampled = [shape for shape in profiled if not shape.name]
        _scatter(axes, sampled, color=BLUE, label="sampled shapes, measured", size=18, alpha=0.65)
        if predicted:
            axes.scatter(
                [latency_ms for latency_ms, _ in predicted],
                [loss for _, loss in predicted],
                s=14,
                facecolors="none",
                edgecolors=ORANGE,
                linewidths=0.7,
                alpha=0.8,
                label="searched, latency predicted",
            )
        _scatter(axes, measured, color=ORANGE, label="searched, measured", size=22, alpha=0.9)
        named = [shape for shape in profiled if shape.name]
        _scatter(axes, named, color=GREEN, label="published shapes as slices", size=34, marker="D")
        _label(axes, named)
        everything = [*profiled, *measured]
        front = pareto_front([(shape.measured_ms, shape.loss) for shape in everything])
        axes.step(
            [everything[index].measured_ms for index in front],
            [everything[index].loss for index in front],
            where="post",
            color=INK,
            alpha=0.5,
            linewidth=1,
            label="Pareto front, measured",
            zorder=1,
        )
        if final is not None:
            axes.annotate(
                "",
                (final.measured_ms, final.loss),
                xytext=(final.measured_ms, final.slice_loss),
                arrowprops={"arrowstyle": "->", "color": INK, "alpha": 0.6},
            )
            axes.scatter(
                [final.measured_ms],
                [final.loss],
                marker="*",
                s=190,
                color=RED,
                zorder=5,
                label="the model, trained further and verified",
            )
        axes.set(xscale="log", xlabel=f"{statistic} latency (ms)", ylabel="held-out loss")
        _decimal_ticks(axes, [shape.measured_ms for shape in everything])
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
        return svg_element(figure, "Searched architectures: latency against held-out loss")


def _label(axes: Axes, named: Sequence[ScoredShape]) -> None:
    """Names beside points, in a column of their own so that they do not lie on each other."""
    bottom, top = axes.get_ylim()
    least_gap = 0.045 * (top - bottom)
    height = np.inf
    for shape in sorted(named, key=lambda shape: -shape.loss):
        height = min(shape.loss + 0.3 * least_gap, height - least_gap)
        axes.annotate(
            shape.name,
            (shape.measured_ms, shape.loss),
            xytext=(1.01, height),
            textcoords=axes.get_yaxis_transform(),
            arrowprops={"arrowstyle": "-", "color": GREEN, "alpha": 0.35, "linewidth": 0.8},
            va="center",
            fontsize=8,
        )


def _decimal_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Ticks at 1, 2, 5 times powers of ten within the data."""
    low, high = min(values, default=1.0), max(values, default=10.0)
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [m * 10.0**e for e in exponents for m in (1, 2, 5) if low / 2 < m * 10.0**e < high * 2]
    axes.set_xticks(ticks)
    axes.minorticks_off()
    plain_log_ticks(axes)


def _scatter(
    axes: Axes,
    shapes: Sequence[ScoredShape],
    *,
    color: str,
    label: str,
    size: float,
    alpha: float = 0.9,
    marker: str = "o",
) -> None:
    if shapes:
        axes.scatter(
            [shape.measured_ms for shape in shapes],
            [shape.loss for shape in shapes],
            s=size,
            color=color,
            alpha=alpha,
            marker=marker,
            linewidths=0,
            label=label,
        )


def convergence(losses: Sequence[float], method: str) -> str:
    """The loss of each architecture in the order proposed, and the lowest so far."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.8), layout="constrained")
        axes = figure.subplots()
        numbers = np.arange(1, len(losses) + 1)
        axes.scatter(numbers, losses, s=14, color=ORANGE, linewidths=0, label="evaluated")
        axes.step(
            numbers,
            np.minimum.accumulate(losses),
            where="post",
            color=BLUE,
            linewidth=1.6,
            label=f"lowest so far, {method}",
        )
        axes.set(xlabel="evaluation", ylabel="held-out loss")
        figure.legend(loc="outside upper right", ncols=2)
        return svg_element(figure, "Course of the search")


def prediction_against_measurement(
    predicted_ms: FloatVector, high_ms: FloatVector, measured_ms: FloatVector, *, limit_ms: float
) -> str:
    """Searched shapes measured after the search: error of the prediction, and its bound.

    Args:
        predicted_ms: `[N]`.
        high_ms: `[N]`, the upper bounds that the search went by.
        measured_ms: `[N]`.
        limit_ms: the budget.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.2), layout="constrained")
        axes = figure.subplots()
        order = np.argsort(predicted_ms)
        places = np.arange(len(order))
        axes.axhline(limit_ms, color=RED, linewidth=1.2, linestyle="--", label="budget")
        axes.vlines(
            places, predicted_ms[order], high_ms[order], color=BLUE, alpha=0.35, linewidth=4
        )
        axes.scatter(places, predicted_ms[order], s=20, color=BLUE, label="predicted, upper bound")
        axes.scatter(places, measured_ms[order], s=26, color=ORANGE, marker="x", label="measured")
        axes.set(xlabel="searched shapes, fastest first", ylabel="latency (ms)")
        axes.set_xticks([])
        figure.legend(loc="outside upper right", ncols=3)
        return svg_element(figure, "Prediction against measurement")


def verification_visits(
    visits: Mapping[str, Sequence[float]], *, limit_ms: float | None, statistic: str
) -> str:
    """The median run of every visit of every file that was verified, against the budget.

    Args:
        visits: median runs in milliseconds, by the name of the file.
        limit_ms: the budget; None where it is a speed-up.
        statistic: what the budget is on.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 1.2 + 0.45 * len(visits)), layout="constrained")
        axes = figure.subplots()
        for place, medians in enumerate(visits.values()):
            axes.scatter(medians, [place] * len(medians), s=26, color=BLUE, alpha=0.7, linewidths=0)
        if limit_ms is not None:
            label = f"budget on {statistic}"
            axes.axvline(limit_ms, color=RED, linewidth=1.2, linestyle="--", label=label)
            figure.legend(loc="outside upper right")
        axes.set_yticks(range(len(visits)), list(visits))
        axes.invert_yaxis()
        axes.margins(y=0.4)
        axes.set(xlabel="median run of each visit (ms)")
        return svg_element(figure, "Visits of the verification")


def training_curves(
    supernet: Mapping[str, FloatVector], winner: Mapping[str, FloatVector] | None
) -> str:
    """Training losses over time: the SuperPLM's slices, and the winner trained further.

    Args:
        supernet: columns of its `training.csv`.
        winner: of the winner's, if one was trained.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for column, colour, name in (
            ("sampled_loss", BLUE, "sampled slices"),
            ("largest_loss", GREEN, "largest slice"),
        ):
            left.plot(supernet["elapsed_s"], supernet[column], ".-", color=colour, label=name)
        left.set(xlabel="seconds of training", ylabel="training loss", title="SuperPLM")
        right.set(xlabel="seconds of training", title="the winner, on its own")
        if winner is not None:
            right.plot(winner["elapsed_s"], winner["largest_loss"], ".-", color=RED, label="winner")
        for axes in (left, right):
            axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=3)
        return svg_element(figure, "Training losses")


def stage_costs(seconds: Sequence[tuple[str, float]]) -> str:
    """What each stage has cost, as bars."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 0.7 + 0.3 * len(seconds)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(seconds))
        axes.barh(places, [spent for _, spent in seconds], height=0.6, color=BLUE)
        for place, (_, spent) in zip(places, seconds, strict=True):
            axes.annotate(
                f"{spent:.0f} s",
                (spent, place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(places, [name for name, _ in seconds])
        axes.invert_yaxis()
        axes.set(xlabel="seconds")
        axes.margins(x=0.1, y=0.02)
        return svg_element(figure, "Cost of every stage")
