"""Baselines fitted to the same rows, so that an accuracy has something to stand beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
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


_BASELINES: dict[str, ModelFitter] = {
    "quadratic in logarithms": _fit_quadratic,
    "random forest": _fit_forest,
    "proportional to FLOPs": _fit_proportional,
}


def baseline_accuracies(fit: SliceFit, *, seed: int) -> dict[str, Accuracy]:
    """Held-out accuracy of each baseline, on the folds of the fit itself."""
    latency_ms = fit.statistics["latency_ms"]
    folds = assign_folds(fit.architectures, seed=seed)
    return {
        name: accuracy(
            latency_ms, held_out_predictions(fitter, fit.architectures, latency_ms, folds)
        )
        for name, fitter in _BASELINES.items()
    }
