"""Bounds that hold without assuming how errors are distributed.

Split conformal prediction (Vovk; Lei et al. 2018): the errors of predictions for held-out rows,
ranked, bound the error of the next row, as long as it is drawn as those rows were. Errors are told
in units of a spread that grows where data are thin, so that bounds are wider there. Two things are
not as in the held-out rows, and have a term of their own: the next measurement is of another
campaign, and a search does not draw its rows at random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.values import items, mapping, number
from predictor.correction import LogSizes
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]
FloatMatrix = npt.NDArray[np.float64]

# A one-sided bound that 1 row in 20 may exceed needs 19 rows to be finite.
TAIL = 0.05
FEWEST_ROWS = math.ceil(1 / TAIL) - 1

# How much all latencies of a campaign move together from one campaign to the next, one standard
# deviation of the logarithm. One profile cannot tell; several of one machine can. This is about
# half of what campaigns on one shared virtual machine showed (`python -m
# benchmarks.predictor_accuracy --campaigns`): all of it would make every bound as wide as theirs.
# What is assumed counts as much as so many campaigns.
BETWEEN_CAMPAIGNS = 0.012
_ASSUMED_CAMPAIGNS = 2

# Rows that a campaign needs for its own level.
_FEWEST_ROWS_OF_A_CAMPAIGN = 5

# Where errors are convolved with that movement: quantiles of the standard normal distribution.
_NODES = np.array([-1.9600, -1.1503, -0.6745, -0.3186, 0.0, 0.3186, 0.6745, 1.1503, 1.9600])

# One degree tells the middle of the rows from their edges and corners, in the time there is.
_DEGREE = 1

# Ten times as uncertain as in the middle of the rows: what lies there is refused, or should be.
_MOST_SPREAD = 10.0

# No entry of a root is larger: the ridge bounds them.
_MOST_ROOT = 100.0

# A ridge of so many rows' weight keeps polynomials apart that few rows do not.
_RIDGE = 0.1

# How much more of the error is what the model does not know than what a measurement does not.
_IGNORANCES = (0.0, 1.0, 3.0, 10.0)

# By so much must every step of these raise the log likelihood.
_DOUBT = 1.0

# Searches that are simulated, and halvings of the range in which their bound lies.
_SEARCHES = 1000
_HALVINGS = 12


@dataclass(frozen=True)
class Spread:
    """How uncertain a prediction is by where it lies among the rows that were fitted; from 1 up.

    The square is one plus the leverage of the architecture in a regression on the log sizes,
    weighted.

    Attributes:
        sizes: the log sizes.
        root: `[T, T]`, lower triangular; the leverage is the squared norm of `root` times the
            polynomials.
    """

    sizes: LogSizes
    root: FloatMatrix

    @classmethod
    def fit(cls, architectures: IntMatrix, ignorance: float) -> Self:
        """The spread among rows.

        Args:
            architectures: int64 `[N, 5]`, of the rows.
            ignorance: how much the leverage weighs.
        """
        sizes = LogSizes.of(architectures)
        polynomials = sizes.polynomials(architectures, _DEGREE)
        gram = polynomials @ polynomials.T + _RIDGE * np.eye(len(polynomials))
        root = np.linalg.inv(np.linalg.cholesky(gram)) * math.sqrt(ignorance)
        return cls(sizes, root)

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """The spread of each architecture, `[N]`; of int64 `[N, 5]`."""
        if not self.root.any():
            return np.ones(len(architectures))
        polynomials = self.sizes.polynomials(architectures, _DEGREE)
        squares = np.ones(len(architectures))
        for row, weights in enumerate(self.root.tolist()):
            turned = np.zeros(len(architectures))
            for weight, values in zip(weights[: row + 1], polynomials, strict=False):
                turned += weight * values  # no matrix product: see `CostTermRegressor.predict`
            turned *= turned
            squares += turned
        return np.minimum(np.sqrt(squares, out=squares), _MOST_SPREAD, out=squares)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"sizes": self.sizes.to_json(), "root": self.root.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a spread back.

        Raises:
            ValueError, LookupError: if it is none.
        """
        sizes = LogSizes.from_json(mapping(value["sizes"]))
        terms = len(sizes.powers(_DEGREE))
        rows = items(value["root"], lambda row: items(row, number))
        if len(rows) != terms or any(len(row) != terms for row in rows):
            raise ValueError("the root of a spread has another size")
        if any(weight for place, row in enumerate(rows) for weight in row[place + 1 :]):
            raise ValueError("the root of a spread is not lower triangular")
        if any(abs(weight) > _MOST_ROOT for row in rows for weight in row):
            raise ValueError("the root of a spread has an entry that no rows give")
        return cls(sizes, np.array(rows, dtype=np.float64).reshape(terms, terms))


# The same everywhere, for predictors of which nothing else is known.
EVEN_SPREAD = Spread(
    LogSizes(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)), np.zeros((1, 1))
)


def held_out_spreads(
    architectures: IntMatrix, folds: npt.NDArray[np.int64], ignorance: float
) -> FloatVector:
    """For each row, its spread among the rows of the other folds, `[N]`."""
    found = np.empty(len(architectures))
    for fold in np.unique(folds):
        held_out = folds == fold
        spread = Spread.fit(architectures[~held_out], ignorance)
        found[held_out] = spread.predict(architectures[held_out])
    return found


def choose_ignorance(
    architectures: IntMatrix, folds: npt.NDArray[np.int64], log_errors: FloatVector
) -> float:
    """How much the leverage weighs so that held-out errors are likeliest.

    Args:
        architectures: int64 `[N, 5]`.
        folds: `[N]`, the fold that each row was held out in.
        log_errors: `[N]`, log(measured / predicted); NaN for rows that do not count.
    """
    known = ~np.isnan(log_errors)

    def unlikelihood(step: int) -> float:
        spreads = held_out_spreads(architectures, folds, _IGNORANCES[step])[known]
        variance = float(((log_errors[known] / spreads) ** 2).mean())
        fit = 0.5 * math.log(max(variance, 1e-12)) + float(np.log(spreads).mean())
        # Chance alone makes some leverage likelier than none.
        return fit + step * _DOUBT / int(known.sum())

    return _IGNORANCES[min(range(len(_IGNORANCES)), key=unlikelihood)]


def campaign_levels(
    log_errors: FloatVector, campaigns: npt.NDArray[np.int64]
) -> tuple[FloatVector, float]:
    """How far each row's campaign lies off the others, and how far the next one may.

    Args:
        log_errors: `[N]`, log(measured / predicted); NaN for rows that do not count.
        campaigns: `[N]`, which campaign each row is of.

    Returns:
        The level of each row's campaign, `[N]`, 0 with only one; and the standard deviation of
        levels, to which what is assumed contributes as so many campaigns more.
    """
    levels = {}
    for campaign in np.unique(campaigns).tolist():
        found = log_errors[(campaigns == campaign) & ~np.isnan(log_errors)]
        if len(found) >= _FEWEST_ROWS_OF_A_CAMPAIGN:
            levels[campaign] = float(np.median(found))
    if len(levels) < 2:
        return np.zeros(len(log_errors)), BETWEEN_CAMPAIGNS
    middle = float(np.mean(list(levels.values())))
    squares = sum((level - middle) ** 2 for level in levels.values())
    squares += _ASSUMED_CAMPAIGNS * BETWEEN_CAMPAIGNS**2
    deviation = math.sqrt(squares / (_ASSUMED_CAMPAIGNS + len(levels) - 1))
    return np.array([levels.get(each, middle) for each in campaigns.tolist()]), deviation


def conformal_bounds(
    log_errors: FloatVector, spreads: FloatVector | None = None, *, between: float = 0.0
) -> tuple[float, float]:
    """The lower and upper bound of the next row's error, in units of its spread.

    Args:
        log_errors: `[N]`, log(measured / predicted) of held-out rows.
        spreads: `[N]`, of these rows; without them every spread is 1.
        between: standard deviation of what moves all of the next campaign's rows together.

    Returns:
        Two numbers, to multiply by the next row's spread and to add to its log prediction. Each is
        exceeded by at most 5 % of further rows, so that 90 % lie between them.

    Raises:
        InputError: if there are fewer than 19 rows.
    """
    count = len(log_errors)
    if count < FEWEST_ROWS:
        raise InputError(f"bounds need at least {FEWEST_ROWS} rows, not {count}: measure more")
    unit = np.ones(count) if spreads is None else spreads
    nodes = _NODES if between > 0 else np.zeros(1)
    # Every row stands for as many as there are nodes.
    scores = np.sort(((log_errors[:, None] + between * nodes) / unit[:, None]).ravel())
    # The k-th smallest of N is exceeded with probability 1 - k / (N + 1).
    rank = math.ceil((count + 1) * (1 - TAIL)) * len(nodes)
    rank = min(rank, len(scores))
    return float(scores[len(scores) - rank]), float(scores[rank - 1])


def selection_bound(
    architectures: IntMatrix,
    log_predicted: FloatVector,
    log_errors: FloatVector,
    spreads: FloatVector,
    high: float,
    rng: np.random.Generator,
    *,
    between: float = 0.0,
) -> float:
    """An upper bound that also holds for the row that a search selects.

    Of all rows whose bound is within a budget a search takes the best, and that is more often one
    whose latency was predicted too low: too low is what let a large shape in. And it lies at the
    edge of the space more often than a row drawn at random. So searches are simulated, for a random
    budget and a quality that grows with every size by random amounts: once among the held-out rows
    as they are, a random half of them, and once among all, errors dealt out to them at random.

    Args:
        architectures: int64 `[N, 5]`.
        log_predicted: `[N]`, of held-out rows.
        log_errors: `[N]`, log(measured / predicted).
        spreads: `[N]`.
        high: the bound that holds for rows drawn at random.
        rng: draws the searches.
        between: standard deviation of what moves all of the next campaign's rows together.

    Returns:
        A bound of at least `high`, in units of the spread, that at most 5 % of the selected rows
        exceed.
    """
    logs = np.log(architectures)
    sizes = (logs - logs.mean(axis=0)) / np.maximum(logs.std(axis=0), 1e-9)
    quality = rng.dirichlet(np.ones(sizes.shape[1]), _SEARCHES) @ sizes.T
    budgets = np.quantile(log_predicted, rng.uniform(0.1, 0.95, _SEARCHES))[:, None]
    moved = between * rng.standard_normal((_SEARCHES, 1))
    scores = np.tile(log_errors / spreads, (_SEARCHES, 1))
    dealt = rng.permuted(scores, axis=1)
    offered = np.where(rng.random(quality.shape) < 0.5, quality, -np.inf)
    as_they_are = _Searches(log_predicted, spreads, offered, budgets, scores + moved / spreads)
    dealt_out = _Searches(
        log_predicted + (scores - dealt) * spreads,
        spreads,
        quality,
        budgets,
        dealt + moved / spreads,
    )
    return max(high, as_they_are.bound(), dealt_out.bound())


@dataclass(frozen=True)
class _Searches:
    """Simulated searches: `[S]` of them, each among `[N]` rows."""

    log_predicted: FloatMatrix
    spreads: FloatVector
    quality: FloatMatrix
    budgets: FloatMatrix
    scores: FloatMatrix

    def bound(self) -> float:
        """The lowest bound that at most 5 % of the selected rows exceed."""
        low, high = 0.0, float(self.scores.max())
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._holds(middle) else (middle, high)
        return high

    def _holds(self, bound: float) -> bool:
        within = self.log_predicted + bound * self.spreads <= self.budgets
        chosen = np.where(within, self.quality, -np.inf)
        best = chosen.argmax(axis=1)[:, None]
        found = np.isfinite(np.take_along_axis(chosen, best, axis=1))
        exceeded = np.take_along_axis(self.scores, best, axis=1) > bound
        return bool(exceeded[found].sum() <= TAIL * found.sum())
