"""The prices of a new device from a few rows and what is known of another device.

How the new device differs from the known one, and how far that is to be trusted, is not decided
beforehand: the fit is made for every change of `predictor.transfer_changes` and for several noises,
and each counts by how likely it makes the rows that were measured (Bayesian model averaging:
Hoeting et al. 1999, doi 10.1214/ss/1009212519). The weakest leave the known device little say, so
with many rows this is about the fit of the same terms to the rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from predictor.features import cost_terms
from predictor.regressors import priced
from predictor.transfer_changes import CHANGES
from predictor.transfer_prior import Composition, FloatMatrix, FloatVector
from supernet.architecture import IntMatrix

# How far a row may be from the best prices, relatively: noise of the label and what no terms hold.
_NOISES = (0.01, 0.02, 0.05, 0.1)

# Hypotheses that are less likely than this share of the best are not solved.
_LEAST_WEIGHT = 0.02


@dataclass(frozen=True)
class TransferFit:
    """A new device, as a known one lets expect it and its own rows correct it.

    Attributes:
        known: the name of the known device.
        prices_ms: `[K]`, prices of `COST_TERMS` on the new device, not negative.
        contributions: `[K]` each, what terms cost in typical shapes here, and on the known device,
            both relative to the latency there.
        spread: expected relative standard deviation of a measurement from its prediction.
        log_evidence: log density of the rows, to compare known devices by.
    """

    known: str
    prices_ms: FloatVector
    contributions: tuple[FloatVector, FloatVector]
    spread: float
    log_evidence: float

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """Latencies on the new device in milliseconds, `[N]`, of architectures `[N, 5]`."""
        return priced(cost_terms(architectures), self.prices_ms)


def fit_likeliest(
    known: Sequence[Composition], architectures: IntMatrix, latency_ms: FloatVector
) -> TransferFit:
    """The fit with the known devices, of which each counts by how likely it makes the rows.

    With a few rows several may be as likely, and their mean is better than any. The likeliest gives
    its name, and is what the new device is compared with.

    Args:
        known: one device or more.
        architectures: int64 `[N, 5]`.
        latency_ms: `[N]`, positive.
    """
    fits = [fit_one(device, architectures, latency_ms) for device in known]
    best = max(fits, key=lambda fit: fit.log_evidence)
    weights = np.exp([fit.log_evidence - best.log_evidence for fit in fits])
    weights /= weights.sum()
    return replace(
        best,
        prices_ms=weights @ np.stack([fit.prices_ms for fit in fits]),
        spread=float(np.sqrt(weights @ np.square([fit.spread for fit in fits]))),
    )


def fit_one(known: Composition, architectures: IntMatrix, latency_ms: FloatVector) -> TransferFit:
    """The prices of the new device, averaged over the hypotheses about one known device."""
    rows = cost_terms(architectures) / latency_ms[:, None] * known.scales
    expected, covariances = _hypotheses(known, rows)
    evidence = _log_evidence(rows, expected, covariances)
    best = float(evidence.max())
    weights = np.exp(evidence - best)
    log_evidence = best + float(np.log(weights.mean()))
    weights[weights < _LEAST_WEIGHT] = 0
    weights /= weights.sum()
    contributions = np.zeros(len(known.scales))
    variance = 0.0
    for index, noise_index in np.argwhere(weights).tolist():
        weight, noise = weights[index, noise_index], _NOISES[noise_index]
        mean, covariance = expected[index], covariances[index]
        contributions += weight * _likeliest(rows, noise, mean, covariance)
        typical = known.typical / (known.typical @ mean)[:, None]
        variance += weight * _variance(typical, rows, noise, covariance)
    return TransferFit(
        known=known.name,
        prices_ms=contributions * known.scales,
        contributions=(contributions, known.contributions),
        spread=float(np.sqrt(variance)),
        log_evidence=log_evidence,
    )


def _hypotheses(known: Composition, rows: FloatMatrix) -> tuple[FloatMatrix, FloatMatrix]:
    """What contributions each hypothesis lets expect, `[H, K]`, and how surely, `[H, K, K]`."""
    expected, covariances = [], []
    for change in CHANGES:
        changed = change.of(known)
        as_known = rows @ changed.contributions
        factor = float(as_known.sum() / (as_known @ as_known))
        for strength in change.strengths():
            expected.append(factor * changed.contributions)
            covariances.append(factor**2 * changed.elsewhere(strength))
    return np.stack(expected), np.stack(covariances)


def _log_evidence(
    rows: FloatMatrix, expected: FloatMatrix, covariances: FloatMatrix
) -> FloatMatrix:
    """The log density of the rows by hypothesis and noise, `[H, M]`, less a constant.

    Args:
        rows: `[N, K]`, times contributions about 1.
        expected: `[H, K]`, contributions.
        covariances: `[H, K, K]`, of contributions.
    """
    noises = np.square(_NOISES)[:, None, None] * np.eye(len(rows))
    lower = np.linalg.cholesky((rows @ covariances @ rows.T)[:, None] + noises)
    surprise = np.linalg.solve(lower, (1 - expected @ rows.T)[:, None, :, None])[..., 0]
    log_det = np.log(np.diagonal(lower, axis1=-2, axis2=-1)).sum(axis=-1)
    log_evidence: FloatMatrix = -0.5 * np.square(surprise).sum(axis=-1) - log_det
    return log_evidence


def _likeliest(
    rows: FloatMatrix, noise: float, expected: FloatVector, covariance: FloatMatrix
) -> FloatVector:
    """The most likely contributions that are not negative, `[K]`."""
    # Solving needs scipy; a device or a search that only predicts does without it.
    from scipy.optimize import nnls

    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    found, _ = nnls(
        np.vstack([rows / noise, whitening]),
        np.concatenate([np.full(len(rows), 1 / noise), whitening @ expected]),
    )
    return np.asarray(found, dtype=np.float64)


def _variance(
    typical: FloatMatrix, rows: FloatMatrix, noise: float, covariance: FloatMatrix
) -> float:
    """The relative variance of a measurement around its prediction, the mean of typical shapes."""
    of_rows = rows @ covariance
    total = of_rows @ rows.T + noise**2 * np.eye(len(rows))
    posterior = covariance - of_rows.T @ np.linalg.solve(total, of_rows)
    of_shapes = np.einsum("mk,kl,ml->m", typical, posterior, typical)
    return float(np.maximum(of_shapes, 0).mean()) + noise**2
