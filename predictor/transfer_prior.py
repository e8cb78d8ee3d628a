"""What is believed of a new device before it is measured: it is a known one, scaled part by part.

A known device is taken apart first: which share of its latency each cost term has. The rows of a
device leave that open where terms go together, so the parts have an uncertainty, and what an
ordinary encoder spends its time on fills the gap. On the new device each part costs what it costs
on the known one times a factor. All factors share one that is free (a slower clock); those of the
products share another, and so do the others (threads); those of a group share a third (a kernel
that this device is better at), and every term has a little of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictor.features import COST_TERMS, cost_terms
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]
FloatMatrix = npt.NDArray[np.float64]

# The kind of work that a term is paid for, and the share of the latency that it has on the CPUs
# this was developed on, between fp32 and int8. It decides only what rows leave open.
_GROUPS: dict[str, tuple[float, tuple[str, ...]]] = {
    "projections": (0.25, ("L*d*q", "L*d16*q16", "L*d64*q64", "L*h*a16*d16")),
    "FFN": (0.37, ("L*d*f", "L*d16*f16", "L*d64*f64")),
    "weights": (0.05, ()),
    "scores": (0.15, ("L*q", "L*q16", "L*h", "L*h*a16")),
    "activation": (0.07, ("L*f", "L*f16")),
    "row traffic": (0.05, ("L*d", "L*d16")),
    "layer overhead": (0.04, ("L",)),
    "start": (0.02, ("d", "d16", "1")),
}
GROUPS = tuple(_GROUPS)

# Faster together when the precision is lower.
_PRODUCTS = ("projections", "FFN", "weights")

# `weights>N` is reading weights beyond N, which no cache holds.
WEIGHTS_PREFIX = "weights>"


def group_of(term: str) -> str:
    """The group of a term of `COST_TERMS`.

    Raises:
        KeyError: if the term has none: add it to the table.
    """
    if term.startswith(WEIGHTS_PREFIX):
        return "weights"
    for group, (_, terms) in _GROUPS.items():
        if term in terms:
            return group
    raise KeyError(term)


_GROUP = np.array([GROUPS.index(group_of(term)) for term in COST_TERMS])
_IN_GROUP = (_GROUP[:, None] == _GROUP).astype(np.float64)
IS_PRODUCT = np.array([group_of(term) in _PRODUCTS for term in COST_TERMS])
_OF_KIND = (IS_PRODUCT[:, None] == IS_PRODUCT).astype(np.float64)
_TERMS_IN_GROUP = _IN_GROUP.sum(axis=1)
_ORDINARY = np.array([share for share, _ in _GROUPS.values()])[_GROUP] / _TERMS_IN_GROUP

# A known device's latencies are worth so many rows with so much noise each, however many there
# are: what they are off by is shared by shapes that are alike.
_KNOWN_ROWS = 30
_KNOWN_NOISE = 0.01

# A term that the known device spends nothing on may still cost this much of its ordinary share.
_UNSEEN = 0.3

# Keeps matrices of full rank where a term is absent.
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Strength:
    """How far a new device is believed to be from a known one, as relative standard deviations.

    Attributes:
        kinds: of the factor of the products, and of that of the rest, from the common factor.
        groups: of the factor of a group from that of its kind.
        terms: of the factor of a term from that of its group.
    """

    kinds: float
    groups: float
    terms: float

    def of_factors(self) -> FloatMatrix:
        """The covariance of the factors of all terms, `[K, K]`; a common one is as good as free."""
        covariance: FloatMatrix = (
            1.0
            + self.kinds**2 * _OF_KIND
            + self.groups**2 * _IN_GROUP
            + self.terms**2 * np.eye(len(_GROUP))
        )
        return covariance


@dataclass(frozen=True)
class Composition:
    """What a device spends its time on in typical shapes.

    A contribution is a price times what it is paid for in a typical shape, relative to its latency:
    the contributions of a device sum to about 1.

    Attributes:
        name: of the device.
        typical: `[M, K]`, terms of the typical shapes: times contributions they give about 1.
        scales: `[K]`, prices in milliseconds are contributions times these.
        contributions: `[K]`, not negative.
        covariance: `[K, K]`, how well they are known.
    """

    name: str
    typical: FloatMatrix
    scales: FloatVector
    contributions: FloatVector
    covariance: FloatMatrix

    @classmethod
    def of(cls, name: str, typical: IntMatrix, latency_ms: FloatVector) -> Composition:
        """Takes a known device apart, by its latencies `[M]` of typical shapes int64 `[M, 5]`."""
        # Solving needs scipy; a device or a search that only predicts does without it.
        from scipy.optimize import nnls

        before = cls.ordinary(typical, latency_ms)
        relative = before.typical
        precision = np.sqrt(_KNOWN_ROWS / len(relative)) / _KNOWN_NOISE
        whitening = np.linalg.inv(np.linalg.cholesky(before.covariance))
        contributions, _ = nnls(
            np.vstack([relative * precision, whitening]),
            np.concatenate([np.full(len(relative), precision), whitening @ before.contributions]),
        )
        information = relative.T @ relative * precision**2 + whitening.T @ whitening
        return cls(name, relative, before.scales, contributions, np.linalg.inv(information))

    @classmethod
    def ordinary(cls, typical: IntMatrix, latency_ms: FloatVector) -> Composition:
        """A device of which nothing is known but that it runs encoders; `[M, 5]` and `[M]`.

        The latencies are only what its contributions are relative to; their factor is free.
        """
        relative = cost_terms(typical) / latency_ms[:, None]
        means = relative.mean(axis=0)
        present = means > 0
        # A term that no shape has (a cache that all fit in) is nothing to scale by.
        scales = 1 / np.where(present, means, 1.0)
        shares = _ORDINARY * present
        # A group may as well cost nothing or twice its share, and each of its terms all of that.
        covariance = (
            np.outer(shares, shares) * _IN_GROUP * _TERMS_IN_GROUP
            + np.diag(shares**2 * _TERMS_IN_GROUP)
            + np.diag(np.where(present, 0.0, _LEAST_VARIANCE))
        )
        return cls("", relative * scales, scales, shares, covariance)

    def elsewhere(self, strength: Strength) -> FloatMatrix:
        """The covariance of the contributions on a device that differs by a strength, `[K, K]`.

        That of a product of factors of mean 1 and contributions that are not certain themselves.
        """
        mean = np.outer(self.contributions, self.contributions)
        unseen = _UNSEEN * strength.terms * self.contributions.sum() * _ORDINARY
        covariance: FloatMatrix = (
            (1 + strength.of_factors()) * (mean + self.covariance)
            - mean
            + np.diag(unseen**2 + _LEAST_VARIANCE)
        )
        return covariance


def group_sums(contributions: FloatVector) -> FloatVector:
    """Contributions of terms, `[K]`, summed over each of `GROUPS`, `[G]`."""
    sums = np.bincount(_GROUP, contributions, minlength=len(GROUPS))
    return sums.astype(np.float64)
