"""The prices of a new device from a few rows and the prices of a known one.

What is unknown are the prices of `COST_TERMS` on the new device. The known device's prices say
which to expect (`predictor.transfer_prior`), the measured rows correct that. How much a known device
is to be trusted is not decided beforehand: the fit is made for several strengths, and each counts
by how likely it makes the rows that were measured (Bayesian model averaging: Hoeting et al. 1999,
doi 10.1214/ss/1009212519). The weakest leaves the known device next to no say, so with many rows
this is the fit of the same terms to the rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from predictor.features import COST_TERMS, cost_terms
from predictor.transfer_prior import STRENGTHS, FloatMatrix, FloatVector, prior_covariance
from supernet.architecture import IntMatrix

# How far a row may be from the best prices, relatively: noise of the label and what no terms hold.
_NOISES = (0.005, 0.01, 0.02, 0.04, 0.08)

# How much of what the known device's terms leave over the new one has, too.
_CORRECTION_SHARES = (0.0, 0.5, 1.0)

# Hypotheses that are less likely than this share of the best are not solved.
_LEAST_WEIGHT = 0.02


@dataclass(frozen=True)
class KnownDevice:
    """A device, or one target of it, whose latencies are known.

    Attributes:
        name: for people.
        prices_ms: `[K]`, milliseconds for one unit of each of `COST_TERMS`, not negative.
        predict: its latencies in milliseconds, `[N]`, of architectures `[N, 5]`, where more is known
            than the terms say; None if the terms are all.
    """

    name: str
    prices_ms: FloatVector
    predict: Callable[[IntMatrix], FloatVector] | None = None

    def log_correction(self, architectures: IntMatrix) -> FloatVector:
        """log(latency / what the terms say), `[N]`; 0 where the terms are all that is known."""
        if self.predict is None:
            return np.zeros(len(architectures))
        by_terms = cost_terms(architectures) @ self.prices_ms
        correction: FloatVector = np.log(self.predict(architectures) / by_terms)
        return correction


@dataclass(frozen=True)
class TransferFit:
    """A new device, as the known one that explains its rows best lets expect it.

    Attributes:
        known: that device.
        prices_ms: `[K]`, prices of `COST_TERMS` on the new device.
        correction_share: the power of the known device's correction that applies here, too.
        spread: expected relative standard deviation of a measurement from its prediction.
        log_evidence: log density of the rows, to compare known devices by.
    """

    known: KnownDevice
    prices_ms: FloatVector
    correction_share: float
    spread: float
    log_evidence: float

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """Latencies on the new device in milliseconds, `[N]`, of architectures `[N, 5]`."""
        latency_ms: FloatVector = cost_terms(architectures) @ self.prices_ms
        if self.correction_share:
            correction = self.known.log_correction(architectures)
            latency_ms = latency_ms * np.exp(self.correction_share * correction)
        return latency_ms


def fit_likeliest(
    known: Sequence[KnownDevice],
    architectures: IntMatrix,
    latency_ms: FloatVector,
    *,
    typical: IntMatrix,
) -> TransferFit:
    """The fit with the known device that makes the rows likeliest.

    Args:
        known: one device or more.
        architectures: int64 `[N, 5]`.
        latency_ms: `[N]`, positive.
        typical: int64 `[M, 5]`, shapes that the spread is a mean over.
    """
    fits = [_fit_one(device, architectures, latency_ms, typical) for device in known]
    return max(fits, key=lambda fit: fit.log_evidence)


def _fit_one(
    known: KnownDevice, architectures: IntMatrix, latency_ms: FloatVector, typical: IntMatrix
) -> TransferFit:
    """The prices of the new device, averaged over the hypotheses about one known device."""
    correction = known.log_correction(architectures)
    shares = _CORRECTION_SHARES if np.any(correction) else (0.0,)
    terms, typical_terms = cost_terms(architectures), cost_terms(typical)
    hypotheses = []
    for share in shares:
        relative = terms / (latency_ms / np.exp(share * correction))[:, None]
        hypotheses.append(_Hypotheses.make(relative, known.prices_ms))
    evidence = np.stack([found.log_evidence for found in hypotheses])
    best = float(evidence.max())
    weights = np.exp(evidence - best)
    log_evidence = best + float(np.log(weights.mean()))
    weights[weights < _LEAST_WEIGHT] = 0
    weights /= weights.sum()
    prices_ms = np.zeros(len(COST_TERMS))
    variance = 0.0
    for found, weight_of in zip(hypotheses, weights, strict=True):
        for strength, noise in np.argwhere(weight_of).tolist():
            weight = weight_of[strength, noise]
            prices_ms += weight * found.solve(strength, _NOISES[noise])
            variance += weight * found.variance(strength, _NOISES[noise], typical_terms)
    return TransferFit(
        known=known,
        prices_ms=prices_ms,
        correction_share=float(np.array(shares) @ weights.sum(axis=(1, 2))),
        spread=float(np.sqrt(variance)),
        log_evidence=log_evidence,
    )


@dataclass(frozen=True)
class _Hypotheses:
    """Strengths and noises for one known device, as Gaussians over contributions of terms.

    A contribution is a price times the mean of its term, relative to the latency: those of a device
    sum to about 1.

    Attributes:
        rows: `[N, K]`, terms relative to the latency, scaled to a mean of 1.
        scales: `[K]`, prices are contributions times these.
        expected: `[K]`, contributions on the known device, times the factor that fits best.
        covariances: `[S, K, K]`, for each strength.
        log_evidence: `[S, M]`, log density of the rows by strength and noise.
    """

    rows: FloatMatrix
    scales: FloatVector
    expected: FloatVector
    covariances: FloatMatrix
    log_evidence: FloatMatrix

    @classmethod
    def make(cls, relative: FloatMatrix, known_prices_ms: FloatVector) -> _Hypotheses:
        """From terms relative to the latency, `[N, K]`, and the known prices, `[K]`."""
        scales = 1 / relative.mean(axis=0)
        rows = relative * scales
        expected = known_prices_ms / scales
        of_rows = rows @ expected
        expected = expected * of_rows.sum() / (of_rows @ of_rows)
        covariances = np.stack([prior_covariance(expected, s) for s in STRENGTHS])
        noises = np.square(_NOISES)[:, None, None] * np.eye(len(rows))
        total = (rows @ covariances @ rows.T)[:, None] + noises
        lower = np.linalg.cholesky(total)
        surprise = np.linalg.solve(lower, (1 - rows @ expected)[:, None])[..., 0]
        log_det = np.log(np.diagonal(lower, axis1=-2, axis2=-1)).sum(axis=-1)
        return cls(
            rows, scales, expected, covariances, -0.5 * np.square(surprise).sum(axis=-1) - log_det
        )

    def solve(self, strength: int, noise: float) -> FloatVector:
        """The most likely prices that are not negative, `[K]`."""
        # Solving needs scipy; a device or a search that only predicts does without it.
        from scipy.optimize import nnls

        whitening = np.linalg.inv(np.linalg.cholesky(self.covariances[strength]))
        left = np.vstack([self.rows / noise, whitening])
        right = np.concatenate([np.full(len(self.rows), 1 / noise), whitening @ self.expected])
        contributions, _ = nnls(left, right)
        return np.asarray(contributions * self.scales, dtype=np.float64)

    def variance(self, strength: int, noise: float, terms: FloatMatrix) -> float:
        """The relative variance of a measurement around its prediction, a mean over shapes.

        Args:
            strength: index of the strength.
            noise: relative standard deviation of a row.
            terms: `[M, K]`, `cost_terms` of the shapes.
        """
        relative = terms * self.scales
        relative = relative / (relative @ self.expected)[:, None]
        prior = self.covariances[strength]
        of_rows = self.rows @ prior
        total = of_rows @ self.rows.T + noise**2 * np.eye(len(self.rows))
        posterior = prior - of_rows.T @ np.linalg.solve(total, of_rows)
        of_shapes = np.einsum("mk,kl,ml->m", relative, posterior, relative)
        return float(np.maximum(of_shapes, 0).mean()) + noise**2
