"""Every architecture of a space that meets a budget, known before a search begins.

A budget is a gate: what does not meet it is never drawn, so it is never evaluated. The space is
scored in blocks by the predictor's upper bound, the one that holds for what a search selects, and
what passes is kept as sorted ranks. So sampling is uniform by construction, membership is a binary
search, and a budget that nothing meets is known at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from predictor.model import SlicePredictor
from supernet.architecture import Architecture, IntMatrix, from_matrix
from supernet.space import Space

FloatVector = npt.NDArray[np.float64]

# Architectures scored at a time: 10 MiB.
_BLOCK = 1 << 18

# Says of architectures `[N, 5]` which are to be considered at all, bool `[N]`.
Rule = Callable[[IntMatrix], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class FeasibleSet:
    """The architectures of a space whose predicted upper bound is within a limit.

    Attributes:
        space: the space.
        limit_ms: the budget.
        ranks: of the feasible ones, int64 `[N]`, increasing.
        latency_ms: their expected latency, `[N]`.
        high_ms: their upper bound, `[N]`.
        lowest: the architecture with the lowest bound, feasible or not.
        lowest_ms: its bound.
        unpredicted: how many of those considered lie outside the predictor's range.
    """

    space: Space
    limit_ms: float
    ranks: npt.NDArray[np.int64]
    latency_ms: FloatVector
    high_ms: FloatVector
    lowest: Architecture
    lowest_ms: float
    unpredicted: int

    def __len__(self) -> int:
        return len(self.ranks)

    def __contains__(self, architecture: Architecture) -> bool:
        return self._find(architecture) is not None

    def _find(self, architecture: Architecture) -> int | None:
        if architecture not in self.space:
            return None
        rank = self.space.rank(architecture)
        place = int(np.searchsorted(self.ranks, rank))
        return place if place < len(self.ranks) and self.ranks[place] == rank else None

    def predicted_ms(self, architecture: Architecture) -> tuple[float, float]:
        """Expected latency and upper bound of a feasible architecture.

        Raises:
            KeyError: if it is not feasible.
        """
        place = self._find(architecture)
        if place is None:
            raise KeyError(str(architecture))
        return float(self.latency_ms[place]), float(self.high_ms[place])

    def sample(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        """Draws up to `count` different feasible architectures, uniformly."""
        places = rng.choice(len(self.ranks), size=min(count, len(self.ranks)), replace=False)
        return from_matrix(self.space.at(self.ranks[places]))

    def near_limit(self, share: float) -> FeasibleSet:
        """The part that uses at least `share` of the budget; all of it if none does."""
        kept = self.high_ms >= share * self.limit_ms
        if not kept.any():
            return self
        return dataclasses.replace(
            self,
            ranks=self.ranks[kept],
            latency_ms=self.latency_ms[kept],
            high_ms=self.high_ms[kept],
        )


def feasible_set(
    space: Space,
    predictor: SlicePredictor,
    limit_ms: float,
    *,
    statistic: str,
    rule: Rule | None = None,
    rule_name: str = "",
) -> FeasibleSet:
    """Finds everything in a space that meets a budget.

    Args:
        space: what is searched.
        predictor: for the workload and target of the budget.
        limit_ms: the budget on the statistic's upper bound.
        statistic: `quiet`, `p50` or `p95`.
        rule: leaves out what a search method does not consider.
        rule_name: what to call the rule in a message.

    Raises:
        InputError: if nothing meets it; names the lowest latency there is. If the predictor
            answers for nothing, or lacks the statistic; says why.
    """
    predictor.calibration(statistic)  # refuses a statistic that was not measured
    which = f"space {space.name}{f' under the {rule_name} rule' if rule_name else ''}"
    outside: IntMatrix | None = None
    parts: list[tuple[npt.NDArray[np.int64], FloatVector, FloatVector]] = []
    lowest_ms, lowest_rank = np.inf, -1
    unpredicted = start = 0
    for block in space.blocks(_BLOCK):
        ranks = np.arange(start, start + len(block), dtype=np.int64)
        start += len(block)
        if rule is not None:
            considered = rule(block)
            block, ranks = block[considered], ranks[considered]
        inside = np.ones(len(block), dtype=bool)
        unknown = predictor.out_of_range(block)
        inside[unknown] = False
        unpredicted += len(unknown)
        if outside is None and len(unknown):
            outside = block[unknown[0]]
        if len(unknown) == len(block):
            continue
        ranks = ranks[inside]
        found = predictor.predict(block[inside], statistic)
        best = int(found.safe_ms.argmin())
        if found.safe_ms[best] < lowest_ms:
            lowest_ms, lowest_rank = float(found.safe_ms[best]), int(ranks[best])
        within = found.safe_ms <= limit_ms
        parts.append((ranks[within], found.latency_ms[within], found.safe_ms[within]))
    if lowest_rank < 0:
        if outside is None:
            raise InputError(f"there is no shape in {which}: search a space with more shapes")
        example = "-".join(map(str, outside.tolist()))
        why = predictor.explain_out_of_range(outside)
        raise InputError(f"the predictor answers for nothing in {which}: {example}: {why}")
    lowest = from_matrix(space.at(np.array([lowest_rank])))[0]
    if lowest_ms > limit_ms:
        raise InputError(
            f"nothing in {which} meets {limit_ms:.4g} ms: the lowest {statistic} latency there is "
            f"{_rounded_up(lowest_ms)} ms (upper bound of {lowest}); allow that much, or give a "
            "space with smaller shapes"
        )
    ranks, latency_ms, high_ms = (np.concatenate(column) for column in zip(*parts, strict=True))
    return FeasibleSet(space, limit_ms, ranks, latency_ms, high_ms, lowest, lowest_ms, unpredicted)


def _rounded_up(latency_ms: float) -> str:
    """A latency in four digits, never below itself: as a budget, it is met."""
    scale = 10.0 ** (3 - math.floor(math.log10(latency_ms)))
    return f"{math.ceil(latency_ms * scale) / scale:.4g}"
