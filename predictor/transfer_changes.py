"""What may be different on a new device for a reason that is known: precision, and padded heads.

Such a change moves several terms at once and by a known amount, so that a row or two tell whether
it is there. Without it every one of its terms would have to be learnt from rows of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from predictor.features import COST_TERMS
from predictor.transfer_prior import (
    IS_PRODUCT,
    WEIGHTS_PREFIX,
    Composition,
    FloatMatrix,
    FloatVector,
    Strength,
    group_of,
)

# The projections for heads that are padded to a multiple of 16: `com.microsoft.Attention` does it.
_PADDED = np.array([term == "L*h*a16*d16" for term in COST_TERMS])
_EXACT = np.array([group_of(term) == "projections" for term in COST_TERMS]) & ~_PADDED

# From "the same, term by term" to "the known device says little of a term", which with many rows
# is the plain fit; how likely each makes the measurements says how much it counts.
_TERM_STRENGTHS = (0.05, 0.3, 1.0)
_GROUP_STRENGTH = 0.1

Heads = Literal["as they are", "padded", "exact"]


@dataclass(frozen=True)
class Change:
    """A reason why a new device differs from a known one.

    Attributes:
        products: what the products cost, as a multiple; the bytes of a weight change alike.
        heads: whether the projections pay for padded heads.
        kinds: how far the factors of the products and of the rest may still be apart, relatively.
    """

    products: float
    heads: Heads
    kinds: float

    def of(self, known: Composition) -> Composition:
        """The known device with this change."""
        present = np.asarray(known.typical.any(axis=0), dtype=np.bool_)
        matrix = self._of_heads() @ self._of_precision(known.scales, present)
        return replace(
            known,
            contributions=matrix @ known.contributions,
            covariance=matrix @ known.covariance @ matrix.T,
        )

    def strengths(self) -> list[Strength]:
        """How far the new device may be from the known one with this change."""
        return [Strength(self.kinds, _GROUP_STRENGTH, terms) for terms in _TERM_STRENGTHS]

    def _of_precision(self, scales: FloatVector, present: npt.NDArray[np.bool_]) -> FloatMatrix:
        """Between contributions, `[K, K]`; a cache holds more weights of fewer bytes."""
        matrix = np.diag(np.where(IS_PRODUCT, self.products, 1.0))
        if self.products == 1:
            return matrix
        steps = {
            int(term.removeprefix(WEIGHTS_PREFIX)): index
            for index, term in enumerate(COST_TERMS)
            if term.startswith(WEIGHTS_PREFIX)
        }
        matrix[:, list(steps.values())] = 0
        for step, index in steps.items():
            moved = steps.get(round(step / self.products))
            if moved is not None and present[index] and present[moved]:
                matrix[moved, index] = self.products * scales[index] / scales[moved]
        return matrix

    def _of_heads(self) -> FloatMatrix:
        """Between contributions, `[K, K]`."""
        matrix = np.eye(len(COST_TERMS))
        if self.heads == "padded":
            matrix[:, _EXACT] = np.outer(_PADDED, np.ones(_EXACT.sum()))
        elif self.heads == "exact":
            matrix[:, _PADDED] = np.outer(_EXACT / _EXACT.sum(), np.ones(_PADDED.sum()))
        return matrix


# fp32 to int8 and back leave little else open; whatever else a device is, is a factor of its
# products and one of the rest.
_PRECISIONS = ((1.0, 0.2), (0.25, 0.3), (4.0, 0.3), (1.0, 1.0))
_HEADS: tuple[Heads, ...] = ("as they are", "padded", "exact")

CHANGES = tuple(
    Change(products, heads, kinds)
    for (products, kinds), heads in itertools.product(
        _PRECISIONS, _HEADS if _PADDED.any() else _HEADS[:1]
    )
)
