"""`--until-error`: what a campaign measures next, decided by a predictor of what it measured."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from device_profiles.measurements import MeasuredRow, Slice, slice_of
from device_profiles.protocol import Protocol
from device_profiles.rows import rows_of
from device_profiles.target import Configuration
from device_profiles.visits import CampaignRecord
from profiler.growth import Grow, Growth
from profiler.until_error import BATCH_SHAPES, UntilError, percent
from supernet.architecture import IntMatrix, from_matrix, to_matrix

FloatVector = npt.NDArray[np.float64]


def growing(asked: UntilError, others: int, protocol: Protocol) -> Grow:
    """Decides what a campaign measures next, and when it has measured enough.

    Args:
        asked: what was asked for.
        others: how many architectures of the plan were not sampled.
        protocol: how it measures.

    Raises:
        InputError: if scipy is missing, which fitting needs.
    """
    if importlib.util.find_spec("scipy") is None:
        raise InputError(
            "--until-error fits predictors as it goes, which needs scipy: "
            "pip install 'autotinybert[predict]'"
        )
    from predictor.active import choose_shapes, promised_error
    from predictor.fitting import FEWEST_ARCHITECTURES
    from predictor.regressors import CorrectedRegressor

    fit = CorrectedRegressor.fit
    candidates = to_matrix(asked.candidates())

    def grow(record: CampaignRecord) -> Growth:
        # Every workload and target is promised the same; the worst decides.
        usable = [_usable(rows) for rows in _by_slice(rows_of(record, protocol))]
        errors = [
            promised_error(*rows, candidates, fit) if len(rows[1]) else math.inf for rows in usable
        ]
        worst = int(np.argmax(errors))
        error = errors[worst]
        promised = error if math.isfinite(error) else None
        promise = f"the promised error is {percent(error)}"
        if promised is None:
            promise = f"{len(usable[worst][1])} usable rows are too few to promise an error"
            if not len(usable[worst][1]):
                return Growth((), None, promise)
        # A promise is of no use with rows that `fit-predictor` finds too few.
        fewest = min(len(np.unique(rows[0], axis=0)) for rows in usable)
        if error <= asked.error and fewest >= FEWEST_ARCHITECTURES:
            return Growth((), promised, f"{promise}, within {percent(asked.error)}")
        taken = list(dict.fromkeys(each.architecture for each in record.configurations))
        left = asked.most_shapes - (len(taken) - others)
        if left <= 0:
            why = f"of {percent(asked.error)} asked for, after the most shapes"
            return Growth((), promised, f"{promise}, {why}, {asked.most_shapes}")
        known = {each.row for each in taken}
        free = np.array([tuple(each) not in known for each in candidates.tolist()], dtype=np.bool_)
        chosen = choose_shapes(*usable[worst], candidates, min(left, BATCH_SHAPES), fit, free=free)
        if not len(chosen):
            return Growth((), promised, f"{promise}, and there are no more shapes")
        slices = dict.fromkeys((each.workload, each.target) for each in record.configurations)
        added = itertools.product(from_matrix(candidates[chosen]), slices)
        return Growth(tuple(Configuration(shape, *each) for shape, each in added), promised)

    return grow


def _by_slice(rows: Sequence[MeasuredRow]) -> list[list[MeasuredRow]]:
    found: dict[Slice, list[MeasuredRow]] = {}
    for row in rows:
        found.setdefault(slice_of(row.configuration), []).append(row)
    return list(found.values())


def _usable(rows: Sequence[MeasuredRow]) -> tuple[IntMatrix, FloatVector]:
    """The rows that a fit would use: their architectures `[N, 5]` and latencies `[N]`."""
    from predictor.fitting import FEWEST_ARCHITECTURES

    kept = [row for row in rows if row.verdict == "ok"]
    if len({row.configuration.architecture for row in kept}) < FEWEST_ARCHITECTURES:
        kept = [row for row in rows if row.latency_ms is not None]
    architectures = to_matrix([row.configuration.architecture for row in kept])
    return architectures, np.array([row.latency_ms for row in kept], dtype=np.float64)
