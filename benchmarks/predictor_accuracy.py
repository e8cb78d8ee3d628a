"""How accurate a predictor is, from how few rows, and whether its bounds hold another day.

    python -m benchmarks.predictor_accuracy PROFILE [--again PROFILE] [--draws 20] [--splits 200]
        [--campaigns PROFILE...]

PROFILE is a campaign over many shapes under one workload and target, `--again` a second campaign
over the same shapes: `profile-device --configs 240 --visits 10 --out A`, then `profile-device
--architectures A/latencies.csv --visits 10 --seed 1 --out B`. Claims, held out by architecture, for
`kd` shapes at 128 tokens: MAPE at most 0.9 % from 150 shapes, all within 5 %; 1.2 % from 40; 1.5 %
from 20. A tenth of the rows 30 % too slow: at most 1.2 times the error. Fitted on one campaign, 88
to 92 % of the other one's rows lie within the 90 % bounds, and at most 5 % of the rows that
simulated searches select above their bound; median width at most 5 %. With `--campaigns`, each of
these and of the two is left out in turn, and the others are fitted together.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_profiles.measurements import Measurements, concatenate
from device_profiles.profile import DeviceProfile
from device_profiles.rows import label_noise
from predictor.baselines import quick_baselines
from predictor.fitting import ModelFitter, fit_slices
from predictor.model import MODELS
from supernet.architecture import IntMatrix
from supernet.published import PUBLISHED_SHAPES

FloatVector = npt.NDArray[np.float64]

# Searches that are simulated in every split.
_SEARCHES = 20


def usable(profile: DeviceProfile) -> tuple[IntMatrix, FloatVector]:
    """Shapes and labels of the rows that are `ok`, without published shapes: of the space alone."""
    rows = profile.measurements
    published = {shape.architecture.row for shape in PUBLISHED_SHAPES}
    kept = np.array(
        [
            verdict == "ok" and tuple(shape) not in published
            for verdict, shape in zip(rows.verdicts, rows.architectures.tolist(), strict=True)
        ]
    )
    return rows.architectures[kept], rows.statistics["latency_ms"][kept]


def corners(shapes: IntMatrix) -> npt.NDArray[np.int64]:
    """The smallest and the largest shape: every campaign has them, so every fit does."""
    weight = np.log(shapes).sum(axis=1)
    return np.array([weight.argmin(), weight.argmax()])


def accuracies(shapes: IntMatrix, latency_ms: FloatVector, draws: int) -> None:
    """Prints the error of every model and baseline by the number of shapes it was fitted to."""
    fitters: dict[str, ModelFitter] = {name: model.fit for name, model in MODELS.items()}
    fitters |= quick_baselines()
    rng = np.random.default_rng(0)
    for count in (20, 40, 150):
        if count > 0.8 * len(shapes):
            continue
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in fitters}
        for _ in range(draws):
            order = rng.permutation(np.setdiff1d(np.arange(len(shapes)), corners(shapes)))
            train = np.concatenate([corners(shapes), order[: count - 2]])
            test = order[count - 2 :]
            for name, fit in fitters.items():
                predicted = fit(shapes[train], latency_ms[train]).predict(shapes[test])
                errors = np.abs(predicted / latency_ms[test] - 1)
                found[name].append((errors.mean(), (errors <= 0.05).mean(), errors.max()))
        for name, values in found.items():
            mape, within, worst = np.array(values).T
            print(
                f"{count:4d} shapes, {name}: MAPE {mape.mean():.2%} (of draws {mape.min():.2%} to "
                f"{mape.max():.2%}), within 5 % {within.mean():.2%}, worst {worst.max():.1%}"
            )


def robustness(shapes: IntMatrix, latency_ms: FloatVector, draws: int) -> None:
    """Prints how much a tenth of the training rows 30 % too slow costs."""
    rng = np.random.default_rng(1)
    for count in (40, 150):
        if count > 0.8 * len(shapes):
            continue
        for name, model in MODELS.items():
            ratios = []
            for _ in range(draws):
                order = rng.permutation(len(shapes))
                train, test = order[:count], order[count:]
                spoilt = latency_ms[train].copy()
                spoilt[rng.choice(count, count // 10, replace=False)] *= 1.3
                clean, bent = (
                    np.abs(
                        model.fit(shapes[train], labels).predict(shapes[test]) / latency_ms[test]
                        - 1
                    ).mean()
                    for labels in (latency_ms[train], spoilt)
                )
                ratios.append(bent / clean)
            print(
                f"{count:4d} shapes, a tenth 30 % too slow, {name}: {np.mean(ratios):.2f} times "
                f"the error (median {np.median(ratios):.2f}, worst {max(ratios):.2f})"
            )


def coverage(first: DeviceProfile, second: DeviceProfile, count: int, splits: int) -> None:
    """Prints whether bounds of one campaign hold in another, for rows at random and selected."""
    shapes, _ = usable(first)
    others = dict(zip(map(tuple, usable(second)[0].tolist()), usable(second)[1], strict=True))
    shapes = np.array([row for row in shapes.tolist() if tuple(row) in others])
    again_ms = np.array([others[tuple(row)] for row in shapes.tolist()])
    place = {tuple(row): n for n, row in enumerate(first.measurements.architectures.tolist())}
    rows = np.array([place[tuple(row)] for row in shapes.tolist()])
    rng = np.random.default_rng(2)
    inside, above, widths = [], [], []
    selected: list[float] = []
    safe: list[float] = []
    for _ in range(splits):
        order = rng.permutation(np.setdiff1d(np.arange(len(shapes)), corners(shapes)))
        train = np.concatenate([corners(shapes), order[: count - 2]])
        test = order[count - 2 :]
        predictor = fit_slices(_rows(first.measurements, rows[train]))[0].predictor
        test = np.delete(test, predictor.out_of_range(shapes[test]))
        found, measured = predictor.predict(shapes[test]), again_ms[test]
        inside.append(((found.low_ms <= measured) & (measured <= found.high_ms)).mean())
        above.append((measured > found.high_ms).mean())
        widths.append(np.median((found.high_ms - found.low_ms) / found.latency_ms))
        logs = np.log(shapes[test])
        sizes = (logs - logs.mean(axis=0)) / np.maximum(logs.std(axis=0), 1e-9)
        for _ in range(_SEARCHES):
            quality = sizes @ rng.dirichlet(np.ones(sizes.shape[1]))
            limit = np.quantile(found.latency_ms, rng.uniform(0.1, 0.95))
            for bound, exceeded in ((found.high_ms, selected), (found.safe_ms, safe)):
                feasible = np.flatnonzero(bound <= limit)
                if len(feasible):
                    best = feasible[quality[feasible].argmax()]
                    exceeded.append(float(measured[best] > bound[best]))
    low, high = np.quantile(inside, [0.05, 0.95])
    print(
        f"{count:4d} shapes, {splits} splits: {np.mean(inside):.1%} of the other campaign's rows "
        f"within the 90 % bounds (of splits {low:.0%} to {high:.0%}), {np.mean(above):.1%} above; "
        f"median width {np.median(widths):.1%}; of selected rows {np.mean(selected):.1%} above the "
        f"upper bound, {np.mean(safe):.1%} above the bound for selected rows"
    )


def campaigns_left_out(profiles: Sequence[DeviceProfile]) -> None:
    """Prints whether bounds that were fitted to all campaigns but one hold in that one.

    The workload and target are those of the first campaign's first row; shapes of the published
    ones, which all campaigns have, are left out.
    """
    values = profiles[0].measurements.slices[0]
    parts = []
    for profile in profiles:
        shapes, _ = usable(profile)
        of_space = {tuple(row) for row in shapes.tolist()}
        found = profile.measurements
        rows = [
            row
            for row, shape in enumerate(found.architectures.tolist())
            if found.slices[row] == values
            and found.verdicts[row] == "ok"
            and tuple(shape) in of_space
        ]
        parts.append(_rows(found, np.array(rows)))
    shares = []
    for place, part in enumerate(parts):
        (fit,) = fit_slices(concatenate(parts[:place] + parts[place + 1 :]))
        tried = np.setdiff1d(np.arange(len(part)), fit.predictor.out_of_range(part.architectures))
        measured = part.statistics["latency_ms"][tried]
        found_ms = fit.predictor.predict(part.architectures[tried])
        off = float(np.expm1(np.median(np.log(measured / found_ms.latency_ms))))
        within = (found_ms.low_ms <= measured) & (measured <= found_ms.high_ms)
        shares.append(float(within.mean()))
        print(
            f"{profiles[place].folder.name}, left out: {len(tried)} rows lie {off:+.1%} off, "
            f"{within.mean():.0%} within bounds of width "
            f"{np.median((found_ms.high_ms - found_ms.low_ms) / found_ms.latency_ms):.1%}; "
            f"{fit.between:.1%} between campaigns"
        )
    print(f"in the mean {np.mean(shares):.0%} of a campaign's rows, {min(shares):.0%} at the least")


def _rows(measurements: Measurements, rows: npt.NDArray[np.int64]) -> Measurements:
    return Measurements(
        measurements.source,
        measurements.architectures[rows],
        [measurements.slices[row] for row in rows.tolist()],
        {name: column[rows] for name, column in measurements.statistics.items()},
        [measurements.verdicts[row] for row in rows.tolist()],
    )


def main() -> None:
    """Prints accuracy, robustness and coverage."""
    parser = argparse.ArgumentParser()
    parser.add_argument("profile", type=Path)
    parser.add_argument("--again", type=Path, default=None)
    parser.add_argument("--campaigns", type=Path, nargs="+", default=[])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--splits", type=int, default=200)
    arguments = parser.parse_args()
    profile = DeviceProfile.load(arguments.profile)
    shapes, latency_ms = usable(profile)
    noise = label_noise(profile.campaign(), profile.protocol)
    floor = float(np.nanmean(noise)) * np.sqrt(2 / np.pi)
    print(f"{len(shapes)} shapes; the labels' own part of a MAPE, by their visits: {floor:.2%}")
    again = None if arguments.again is None else DeviceProfile.load(arguments.again)
    if again is not None:
        others = dict(zip(map(tuple, usable(again)[0].tolist()), usable(again)[1], strict=True))
        both = [row for row, shape in enumerate(shapes.tolist()) if tuple(shape) in others]
        logs = np.log([others[tuple(shapes[row].tolist())] / latency_ms[row] for row in both])
        left = np.abs(logs - np.median(logs))
        print(
            f"again, {len(both)} shapes: all moved by {np.expm1(np.median(logs)):+.2%}; without "
            f"that the labels differ by {np.median(left):.2%} in the median, so their own part of "
            f"a MAPE is {left.mean() / np.sqrt(2):.2%}"
        )
    accuracies(shapes, latency_ms, arguments.draws)
    robustness(shapes, latency_ms, arguments.draws)
    if again is not None:
        for count in (40, 60, 150):
            if count < 0.8 * len(shapes):
                coverage(profile, again, count, arguments.splits)
                coverage(again, profile, count, arguments.splits)
    if arguments.campaigns:
        more = [DeviceProfile.load(path) for path in arguments.campaigns]
        campaigns_left_out([profile, *([again] if again else []), *more])


if __name__ == "__main__":
    main()
