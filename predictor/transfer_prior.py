"""What is believed of a new device before it is measured: it is a known one, scaled part by part.

A price of the new device is the known price times a factor. All factors share one that is free (a
slower clock), the products share another and what is no product another (int8, threads), the terms
of a group a third (a kernel that this device is better at), and every term has a little of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictor.features import COST_TERMS

FloatVector = npt.NDArray[np.float64]
FloatMatrix = npt.NDArray[np.float64]

# The kind of work that each term of `COST_TERMS` is paid for.
GROUP_OF_TERM = {
    "L*d*q": "projections",
    "L*d16*q16": "projections",
    "L*d*f": "FFN",
    "L*d16*f16": "FFN",
    "L*q": "scores",
    "L*q16": "scores",
    "L*h": "scores",
    "L*f": "activation",
    "L*f16": "activation",
    "L*d": "row traffic",
    "L*d16": "row traffic",
    "L": "layer overhead",
    "d": "start",
    "d16": "start",
    "1": "start",
}
GROUPS = tuple(dict.fromkeys(GROUP_OF_TERM.values()))
_PRODUCTS = ("projections", "FFN")

_GROUP_INDEX = np.array([GROUPS.index(GROUP_OF_TERM[term]) for term in COST_TERMS])
_IS_PRODUCT = np.array([GROUP_OF_TERM[term] in _PRODUCTS for term in COST_TERMS])

# The factor that all terms share is as good as free.
_COMMON_SD = 1.0

# A group that the known device spends nothing on may still cost this share of the whole.
_UNSEEN_SHARE = 0.1


@dataclass(frozen=True)
class Strength:
    """How far a new device is believed to be from a known one, as relative standard deviations.

    Attributes:
        kinds: of the factor of the products, and of that of the rest, from the common factor.
        groups: of the factor of a group from that of its kind.
        terms: of what one term costs from its share of its group, relative to the group.
    """

    kinds: float
    groups: float
    terms: float


# From "the same but for its clock" to "the known device says next to nothing", which is the plain
# fit; how likely each makes the measurements says how much it counts.
STRENGTHS = tuple(
    Strength(*values)
    for values in itertools.product((0.1, 0.5, 1.0), (0.05, 0.2, 0.5), (0.02, 0.1, 0.5, 2.0))
)

# What a device is expected to be when it is chosen what to measure.
EXPECTED = Strength(kinds=0.5, groups=0.3, terms=0.3)


def group_sums(contributions: FloatMatrix) -> FloatMatrix:
    """Contributions of terms, `[..., K]`, summed over each of `GROUPS`, `[..., G]`."""
    return contributions @ (_GROUP_INDEX[:, None] == np.arange(len(GROUPS))).astype(np.float64)


def prior_covariance(contributions: FloatVector, strength: Strength) -> FloatMatrix:
    """The covariance of what terms cost on the new device, `[K, K]`.

    Args:
        contributions: `[K]`, what they cost in the mean on the known one, relative to the latency.
        strength: how far the two are believed to be apart.
    """
    product = contributions * _IS_PRODUCT
    rest = contributions * ~_IS_PRODUCT
    in_group = _GROUP_INDEX[:, None] == _GROUP_INDEX
    of_group = group_sums(contributions)[_GROUP_INDEX]
    own = strength.terms * (of_group + _UNSEEN_SHARE * contributions.sum())
    covariance: FloatMatrix = (
        _COMMON_SD**2 * np.outer(contributions, contributions)
        + strength.kinds**2 * (np.outer(product, product) + np.outer(rest, rest))
        + strength.groups**2 * np.outer(contributions, contributions) * in_group
        + np.diag(own**2)
    )
    return covariance
