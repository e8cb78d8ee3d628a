"""Does measuring where least is known save shapes, and does its promised error hold?

    python -m benchmarks.active_sampling LATENCIES [--truth LATENCIES] [--figure FILE]

Plays campaigns on recorded rows, those of one workload and target. In each of 20 runs 100 shapes,
drawn anew, are kept out as the fresh ones; `predictor.active` starts with 12 of the others, adds 8
at a time, and stops at the first promise within the target. Two plans of a fixed size fill the
space with the same shapes: `sampled` takes them in the order of the rows, that of the sequence that
campaigns sample; `maximin` takes the one furthest, in log sizes, from all before it. Errors are
mean absolute relative ones over the fresh shapes, against the rows of `--truth`, which is a second
campaign of the same shapes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from device_profiles.measurements import Measurements, read_measurements
from predictor.active import choose_shapes, promised_error
from predictor.regressors import CorrectedRegressor
from predictor.svg import BLUE, ORANGE, STYLE, plain_log_ticks, svg_element
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]

_RUNS = 20
_FRESH = 100
_START = 12
_BATCH = 8
_FIXED_STEP = 4
_TARGETS = (0.03, 0.02, 0.015, 0.01)

# The requirement: the true error is at most so many times the promised one.
_MOST_OVER_PROMISE = 1.2


@dataclass(frozen=True)
class Run:
    """One run: errors by the number of shapes.

    Attributes:
        counts: `[C]`, shapes measured, of the active plan.
        promised: `[C]`.
        true: `[C]`.
        fixed_counts: `[D]`, of the fixed plans.
        fixed_true: `[D]`, by the plan's name.
    """

    counts: IntVector
    promised: FloatVector
    true: FloatVector
    fixed_counts: IntVector
    fixed_true: dict[str, FloatVector]

    def stop(self, target: float) -> int | None:
        """Where in `counts` the active plan stops; None if it has no more shapes before that."""
        within = np.flatnonzero(self.promised <= target)
        return int(within[0]) if len(within) else None


def recorded(path: Path, truth: Path | None) -> tuple[IntMatrix, FloatVector, FloatVector]:
    """Shapes of one head count and at most 8 layers, as the `kd` space has them.

    Returns:
        Architectures `[N, 5]`, their latencies, and the true ones.
    """
    first = _latencies(read_measurements(path))
    other = first if truth is None else _latencies(read_measurements(truth))
    shapes = [shape for shape in first if shape in other and shape[0] <= 8 and shape[3] == 12]
    return (
        np.array(shapes, dtype=np.int64),
        np.array([first[shape] for shape in shapes]),
        np.array([other[shape] for shape in shapes]),
    )


def _latencies(measurements: Measurements) -> dict[tuple[int, ...], float]:
    return {
        tuple(shape): float(latency_ms)
        for shape, latency_ms, verdict in zip(
            measurements.architectures.tolist(),
            measurements.statistics["latency_ms"],
            measurements.verdicts,
            strict=True,
        )
        if verdict == "ok"
    }


def maximin_order(architectures: IntMatrix) -> IntVector:
    """The order of a space-filling plan, `[N]`: the smallest, the largest, then the furthest."""
    logs = np.log(architectures[:, [0, 1, 2, 4]].astype(np.float64))
    logs = (logs - logs.min(axis=0)) / np.ptp(logs, axis=0)
    order = [int(logs.sum(axis=1).argmin()), int(logs.sum(axis=1).argmax())]
    distances = np.min([((logs - logs[row]) ** 2).sum(axis=1) for row in order], axis=0)
    while len(order) < len(logs):
        distances[order] = -1.0
        order.append(int(distances.argmax()))
        distances = np.minimum(distances, ((logs - logs[order[-1]]) ** 2).sum(axis=1))
    return np.array(order, dtype=np.int64)


def play(
    architectures: IntMatrix,
    latency_ms: FloatVector,
    truth_ms: FloatVector,
    seed: int,
) -> Run:
    """Plays one run."""
    shuffled = np.random.default_rng(seed).permutation(len(latency_ms))
    fresh, pool = shuffled[:_FRESH], np.sort(shuffled[_FRESH:])
    order = pool[maximin_order(architectures[pool])]

    def true_error(rows: IntVector) -> float:
        model = CorrectedRegressor.fit(architectures[rows], latency_ms[rows])
        return float(np.abs(model.predict(architectures[fresh]) / truth_ms[fresh] - 1).mean())

    candidates = architectures[pool]
    rows = order[:_START]
    counts, promised, true = [], [], []
    while True:  # bounded: every pass adds rows of the pool
        counts.append(len(rows))
        known = architectures[rows], latency_ms[rows]
        promised.append(promised_error(*known, candidates, CorrectedRegressor.fit))
        true.append(true_error(rows))
        chosen = choose_shapes(*known, candidates, _BATCH, CorrectedRegressor.fit)
        if not len(chosen):
            break
        rows = np.concatenate([rows, pool[chosen]])
    fixed_counts = [*range(_START, len(pool), _FIXED_STEP), len(pool)]
    return Run(
        np.array(counts),
        np.array(promised),
        np.array(true),
        np.array(fixed_counts),
        {
            name: np.array([true_error(plan[:count]) for count in fixed_counts])
            for name, plan in (("sampled", pool), ("maximin", order))
        },
    )


def mean_curves(runs: Sequence[Run]) -> dict[str, tuple[IntVector, FloatVector]]:
    """Shapes and mean error over the runs, by the name of the curve."""
    first = runs[0]
    return {
        "active, true": (first.counts, np.mean([run.true for run in runs], axis=0)),
        "active, promised": (first.counts, np.mean([run.promised for run in runs], axis=0)),
        **{
            f"{name}, true": (
                first.fixed_counts,
                np.mean([run.fixed_true[name] for run in runs], axis=0),
            )
            for name in first.fixed_true
        },
    }


def needed(counts: IntVector, errors: FloatVector, error: float) -> float:
    """How many shapes bring a curve to an error for good; infinite if none do."""
    above = np.flatnonzero(errors > error)
    last = int(above[-1]) if len(above) else -1
    return float(counts[last + 1]) if last + 1 < len(counts) else float("inf")


def describe(runs: Sequence[Run], target: float) -> str:
    """What came of a target, in one line."""
    stops = [(run, run.stop(target)) for run in runs]
    stopped = [(run, place) for run, place in stops if place is not None]
    if not stopped:
        return f"{target:.1%}: promised in none of {len(runs)} runs"
    promised = np.array([run.promised[place] for run, place in stopped])
    true = np.array([run.true[place] for run, place in stopped])
    ratios = true / promised
    used = np.array([run.counts[place] for run, place in stopped])
    return "; ".join(
        [
            f"{target:.1%}: promised in {len(stopped)} of {len(runs)} runs, "
            f"{promised.mean():.2%} promised, {true.mean():.2%} true",
            f"true/promised {np.median(ratios):.2f} (middle), {ratios.max():.2f} (most), above "
            f"{_MOST_OVER_PROMISE:g} in {(ratios > _MOST_OVER_PROMISE).sum()}",
            f"shapes {used.mean():.0f} ({used.min()} to {used.max()})",
            *(_fixed(name, runs, float(true.mean()), stopped) for name in runs[0].fixed_true),
        ]
    )


def _fixed(name: str, runs: Sequence[Run], error: float, stopped: list[tuple[Run, int]]) -> str:
    """How many shapes a fixed plan needs for the errors of the active one, in words."""
    counts, errors = mean_curves(runs)[f"{name}, true"]
    each = [needed(counts, run.fixed_true[name], run.true[place]) for run, place in stopped]
    no_more = sum(
        fixed <= run.counts[place] for fixed, (run, place) in zip(each, stopped, strict=True)
    )
    return (
        f"{name} needs {_count(needed(counts, errors, error), counts[-1])} by mean errors, "
        f"{_count(float(np.median(each)), counts[-1])} in the middle run, no more in {no_more} runs"
    )


def _count(shapes: float, most: int) -> str:
    return f"{shapes:.0f}" if np.isfinite(shapes) else f"more than {most}"


def draw(runs: Sequence[Run], path: Path) -> None:
    """Writes the curves, as an SVG for a page or as a picture on white."""
    styles = {
        "active, true": (BLUE, "-"),
        "active, promised": (BLUE, ":"),
        "sampled, true": (ORANGE, "-"),
        "maximin, true": (ORANGE, "--"),
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, (counts, errors) in mean_curves(runs).items():
            colour, line = styles[name]
            left.plot(counts, 100 * errors, line, color=colour, label=name)
        for run in runs:
            left.plot(run.counts, 100 * run.true, color=BLUE, alpha=0.15, linewidth=0.8)
        left.set(xlabel="shapes measured", ylabel="error on fresh shapes (%)", yscale="log")
        left.set(ylim=(0.5, 4))
        left.set_yticks([0.5, 0.7, 1, 1.5, 2, 3, 4], minor=False)
        left.yaxis.set_minor_locator(NullLocator())
        plain_log_ticks(left, vertical=True)
        left.legend()
        for place, target in enumerate(_TARGETS):
            ratios = [
                run.true[stop] / run.promised[stop]
                for run in runs
                if (stop := run.stop(target)) is not None
            ]
            right.scatter([place] * len(ratios), ratios, s=16, color=BLUE, alpha=0.5, linewidths=0)
        right.axhline(_MOST_OVER_PROMISE, color=ORANGE, linewidth=1)
        right.set_xticks(range(len(_TARGETS)), [f"{target:.1%}" for target in _TARGETS])
        right.set(xlabel="--until-error", ylabel="true / promised error", ylim=(0, None))
        if path.suffix == ".svg":
            svg = svg_element(figure, "Active sampling against a fixed plan")
            path.write_text(svg, encoding="utf-8")
        else:
            figure.savefig(path, dpi=150, facecolor="white")


def main() -> None:
    """Prints a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("latencies", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    rows = recorded(options.latencies, options.truth)
    runs = [play(*rows, seed) for seed in range(_RUNS)]
    for target in _TARGETS:
        print(describe(runs, target))
    for name, (counts, errors) in mean_curves(runs).items():
        print(name, " ".join(f"{n}:{e:.2%}" for n, e in zip(counts, errors, strict=True)))
    if options.figure is not None:
        draw(runs, options.figure)
        print(f"wrote {options.figure}")


if __name__ == "__main__":
    main()
