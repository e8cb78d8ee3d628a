"""Baselines fitted to the same rows, so that an accuracy has something to stand beside."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from predictor.fitting import ModelFitter, SliceFit, assign_folds, held_out_predictions
from predictor.metrics import Accuracy, accuracy
from supernet.architecture import IntMatrix
from supernet.cost import flops

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _OnLogarithms:
    """A model of log latency on the logarithms of the five sizes."""

    predict_log: Callable[[FloatArray], FloatArray]

    def predict(self, architectures: IntMatrix) -> FloatArray:
        return np.exp(self.predict_log(np.log(architectures)), dtype=np.float64)

    def to_json(self) -> dict[str, object]:
        return {}  # a baseline is compared, never kept


@dataclass(frozen=True)
class _ProportionalToFlops:
    """Every operation takes the same time: the median over the rows."""

    ms_per_flop: float

    def predict(self, architectures: IntMatrix) -> FloatArray:
        return np.multiply(flops(architectures), self.ms_per_flop, dtype=np.float64)

    def to_json(self) -> dict[str, object]:
        return {}


def _fit_proportional(architectures: IntMatrix, latency_ms: FloatArray) -> _ProportionalToFlops:
    return _ProportionalToFlops(float(np.median(latency_ms / flops(architectures))))


def _fit_forest(architectures: IntMatrix, latency_ms: FloatArray) -> _OnLogarithms:
    forest = RandomForestRegressor(n_estimators=100, random_state=0)
    return _OnLogarithms(forest.fit(np.log(architectures), np.log(latency_ms)).predict)


def _fit_quadratic(architectures: IntMatrix, latency_ms: FloatArray) -> _OnLogarithms:
    pipeline = make_pipeline(
        PolynomialFeatures(2), StandardScaler(), RidgeCV(np.logspace(-6, 2, 17))
    )
    return _OnLogarithms(pipeline.fit(np.log(architectures), np.log(latency_ms)).predict)


@dataclass(frozen=True)
class _OnScaledSizes:
    """A network on sizes from 0 to 1, for latencies as multiples of their mean."""

    network: MLPRegressor
    columns: tuple[int, ...]
    most: FloatArray
    unit_ms: float

    def predict(self, architectures: IntMatrix) -> FloatArray:
        scaled = (architectures[:, self.columns] / self.most).astype(np.float32)
        # A network may say that a small shape takes no time at all.
        latency_ms = np.maximum(self.network.predict(scaled) * self.unit_ms, 1e-6)
        return np.asarray(latency_ms, dtype=np.float64)

    def to_json(self) -> dict[str, object]:
        return {}


def _network_fitter(
    hidden: tuple[int, ...], columns: tuple[int, ...], max_epochs: int
) -> ModelFitter:
    def fit(architectures: IntMatrix, latency_ms: FloatArray) -> _OnScaledSizes:
        most = architectures[:, columns].max(axis=0).astype(np.float64)
        unit_ms = float(latency_ms.mean())
        network = MLPRegressor(
            hidden,
            batch_size=min(32, len(latency_ms)),
            learning_rate_init=3e-4,
            max_iter=max_epochs,
            n_iter_no_change=20,
            random_state=0,
        )
        scaled = (architectures[:, columns] / most).astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are part of the recipe
            network.fit(scaled, (latency_ms / unit_ms).astype(np.float32))
        return _OnScaledSizes(network, columns, most, unit_ms)

    return fit


_BASELINES: dict[str, ModelFitter] = {
    "quadratic in logarithms": _fit_quadratic,
    "random forest": _fit_forest,
    "proportional to FLOPs": _fit_proportional,
}

# As published, but for the optimiser's settings, which are ours: a batch of theirs is more rows
# than a campaign has. They take a minute or two, so with fewer folds.
_NETWORKS: dict[str, ModelFitter] = {
    # AutoTinyBERT: layers, hidden, FFN and QKV size through four layers of 2000.
    "network of AutoTinyBERT, 5 folds": _network_fitter((2000,) * 4, (0, 1, 2, 4), 100),
    # HAT: every size, three layers of 400.
    "network of HAT, 5 folds": _network_fitter((400,) * 3, (0, 1, 2, 3, 4), 1500),
}
_FOLDS_OF_NETWORKS = 5


def quick_baselines() -> dict[str, ModelFitter]:
    """The baselines that take seconds, by name."""
    return dict(_BASELINES)


def baseline_accuracies(fit: SliceFit, *, seed: int, networks: bool) -> dict[str, Accuracy]:
    """Held-out accuracy of each baseline, on the folds of the fit itself.

    Args:
        fit: what the baselines are fitted to.
        seed: of the folds.
        networks: add those that take minutes.
    """
    latency_ms = fit.statistics["latency_ms"]
    folds = assign_folds(fit.architectures, seed=seed)
    fitters = [(name, fitter, folds) for name, fitter in _BASELINES.items()]
    if networks:
        fewer = folds % _FOLDS_OF_NETWORKS
        fitters += [(name, fitter, fewer) for name, fitter in _NETWORKS.items()]
    return {
        name: accuracy(
            latency_ms, held_out_predictions(fitter, fit.architectures, latency_ms, which)
        )
        for name, fitter, which in fitters
    }
