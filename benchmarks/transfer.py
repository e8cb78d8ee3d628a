"""How well does a handful of shapes carry one target over to another?

    python -m benchmarks.transfer LATENCIES.csv... [--draws 10] [--all-known]

Takes campaigns in which the same shapes were measured on several targets (`latencies.csv` of a
profile). For each ordered pair of targets one is known and the other new. The shapes are dealt into
five parts; the known target is fitted to four of them, the new one has 3, 5, 10 or 20 shapes of
those four, and the errors are those for the fifth part, which neither has seen. Shapes are chosen,
or drawn at random `--draws` times for each part. `plain` is the fit of the same terms to the same
shapes alone. With `--all-known` all other targets are known at once.

Claims: with 3 chosen shapes a MAPE of at most 3 %; with 5 and 10 at most 0.8 times that of `plain`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_profiles.measurements import (
    Measurements,
    Slice,
    concatenate,
    describe_slice,
    read_measurements,
)
from predictor.regressors import CostTermRegressor
from predictor.transfer import fit_transfer, take_apart
from predictor.transfer_fit import fit_likeliest
from predictor.transfer_prior import Composition
from predictor.transfer_shapes import choose_transfer_shapes
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]

COUNTS = (3, 5, 10, 20)
_PARTS = 5
_SHARE_OK = 0.9


@dataclass(frozen=True)
class Errors:
    """Mean absolute percentage errors for one pair of targets and one number of shapes.

    Attributes:
        chosen: with the chosen shapes, in the mean of the parts.
        chosen_plain: of the plain fit to the same.
        drawn: `[draws]`, with shapes drawn at random.
        drawn_plain: `[draws]`, of the plain fit to the same.
        resembling: the share of the parts where the known target is said to resemble.
        spread: the spread that the fit expects over the one that was found, chosen shapes.
    """

    chosen: float
    chosen_plain: float
    drawn: FloatVector
    drawn_plain: FloatVector
    resembling: float
    spread: float

    @property
    def ratio(self) -> float:
        """Error of the transfer over that of the plain fit, means over the draws."""
        return float(self.drawn.mean() / self.drawn_plain.mean())


def latencies_by_target(
    measurements: Measurements,
) -> tuple[IntMatrix, dict[Slice, FloatVector]]:
    """The shapes that are `ok` on every target, `[N, 5]`, and their latencies there, `[N]`.

    A target where less than nine tenths are `ok` was measured too badly to judge a method by.
    """
    found: dict[Slice, dict[tuple[int, ...], float]] = {}
    counts: dict[Slice, int] = {}
    for row, values in enumerate(measurements.slices):
        counts[values] = counts.get(values, 0) + 1
        if measurements.verdicts[row] == "ok":
            shape = tuple(measurements.architectures[row].tolist())
            latency_ms = float(measurements.statistics["latency_ms"][row])
            found.setdefault(values, {})[shape] = latency_ms
    for values, count in counts.items():
        ok = len(found.get(values, {}))
        if ok < _SHARE_OK * count:
            print(f"left out: {describe_slice(values)}, of which {ok} of {count} rows are ok")
            found.pop(values, None)
    common = sorted(set.intersection(*map(set, found.values()))) if found else []
    if len(found) < 2 or len(common) < 2 * max(COUNTS):
        raise SystemExit(f"{len(found)} targets with {len(common)} shapes in common are too few")
    return np.array(common), {
        values: np.array([of_target[shape] for shape in common])
        for values, of_target in found.items()
    }


def mape(latency_ms: FloatVector, predicted_ms: FloatVector) -> float:
    """Mean absolute percentage error, as a share."""
    return float(np.abs(predicted_ms / latency_ms - 1).mean())


def _both_errors(
    known: Sequence[Composition],
    measured: tuple[IntMatrix, FloatVector],
    truth: tuple[IntMatrix, FloatVector],
) -> tuple[float, float]:
    """The errors of the transfer and of the plain fit, for other shapes."""
    architectures, latency_ms = truth
    return (
        mape(latency_ms, fit_likeliest(known, *measured).predict(architectures)),
        mape(latency_ms, CostTermRegressor.fit(*measured).predict(architectures)),
    )


def errors_of(
    known_ms: Mapping[str, FloatVector],
    new_ms: FloatVector,
    shapes: IntMatrix,
    count: int,
    draws: int,
) -> Errors:
    """The errors of one new target with some known ones, all `[N]` like the shapes."""
    rng = np.random.default_rng(count)
    parts = np.random.default_rng(0).permutation(len(shapes)) % _PARTS
    chosen, drawn, resembling, spreads = [], [], [], []
    for part in range(_PARTS):
        seen, unseen = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        typical = shapes[seen]
        seen_ms = {
            name: CostTermRegressor.fit(typical, latency_ms[seen]).predict(typical)
            for name, latency_ms in known_ms.items()
        }
        known = take_apart(seen_ms, typical)
        truth = shapes[unseen], new_ms[unseen]
        picked = choose_transfer_shapes(seen_ms, typical, count)
        rows = np.array([int(np.flatnonzero((shapes == row).all(axis=1))[0]) for row in picked])
        chosen.append(_both_errors(known, (shapes[rows], new_ms[rows]), truth))
        judged = fit_transfer(seen_ms, typical, shapes[rows], new_ms[rows])
        resembling.append(judged.resembles)
        deviations = judged.fit.predict(shapes[unseen]) / new_ms[unseen] - 1
        spreads.append(judged.fit.spread / np.sqrt(np.square(deviations).mean()))
        for _ in range(draws):
            rows = rng.choice(seen, count, replace=False)
            drawn.append(_both_errors(known, (shapes[rows], new_ms[rows]), truth))
    chosen_mean = np.mean(chosen, axis=0)
    drawn_errors = np.array(drawn)
    return Errors(
        chosen=float(chosen_mean[0]),
        chosen_plain=float(chosen_mean[1]),
        drawn=drawn_errors[:, 0],
        drawn_plain=drawn_errors[:, 1],
        resembling=float(np.mean(resembling)),
        spread=float(np.median(spreads)),
    )


def print_table(title: str, rows: Sequence[tuple[str, Errors]]) -> None:
    """A line for each pair, and the mean and the worst of them."""
    print(f"\n{title}")
    header = ("chosen", "plain", "drawn", "p90", "plain", "ratio", "(p10-p90)", "alike", "spread")
    print(" ".join(f"{name:>9}" for name in header))
    for name, found in rows:
        low, high = np.quantile(found.drawn / found.drawn_plain, [0.1, 0.9])
        print(
            f"{found.chosen:9.2%} {found.chosen_plain:9.2%} {found.drawn.mean():9.2%} "
            f"{np.quantile(found.drawn, 0.9):9.2%} {found.drawn_plain.mean():9.2%} "
            f"{found.ratio:9.2f} {f'{low:.2f}-{high:.2f}':>9} {found.resembling:9.0%} "
            f"{found.spread:9.2f}  {name}"
        )
    for name, summary in (("mean", np.mean), ("worst", np.max)):
        columns = [
            (found.chosen, found.chosen_plain, found.drawn.mean(), found.ratio) for _, found in rows
        ]
        values = summary(columns, axis=0)
        print(
            f"{values[0]:9.2%} {values[1]:9.2%} {values[2]:9.2%} {'':9} {'':9} {values[3]:9.2f}"
            f"{'':31} {name} of {len(rows)}"
        )


def main() -> None:
    """Prints a table for each number of shapes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--all-known", action="store_true")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    arguments = parser.parse_args()
    parts = [read_measurements(path) for path in arguments.paths]
    shapes, by_target = latencies_by_target(concatenate(parts))
    latencies = {describe_slice(values): of_target for values, of_target in by_target.items()}
    print(f"{len(shapes)} shapes on {len(latencies)} targets")
    pairs: list[tuple[str, dict[str, FloatVector], str]]
    if arguments.all_known:
        pairs = [
            ("all others", {name: latencies[name] for name in latencies if name != new}, new)
            for new in latencies
        ]
    else:
        pairs = [
            (name, {name: latencies[name]}, new)
            for name, new in itertools.permutations(latencies, 2)
        ]
    for count in arguments.counts:
        rows = [
            (
                f"{name} -> {new}",
                errors_of(known, latencies[new], shapes, count, arguments.draws),
            )
            for name, known, new in pairs
        ]
        print_table(f"{count} shapes of the new target", rows)


if __name__ == "__main__":
    main()
