"""The cost terms that a transformer encoder's latency is linear in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from supernet.architecture import IntMatrix

FloatMatrix = npt.NDArray[np.float64]

# Vector units and cache lines work on blocks of 16 floats, and the kernels of matrix products on
# panels of up to 64 columns: a kernel pays for the rounded size.
_BLOCK = 16
_PANEL = 64

# Weights that do not fit a cache are read from the next one, or from memory, in every run. How
# many weights of the layers fit, nobody tells: every power of two from half a MiB of int8 to 128
# MiB of fp32 has a term of its own, and the fit chooses.
CACHE_STEPS = tuple(1 << power for power in range(19, 26))

COST_TERMS = (
    "L*d*q",
    "L*d*f",
    "L*q",
    "L*d",
    "L*f",
    "L*h",
    "L",
    "d",
    "1",
    "L*d16*q16",
    "L*d16*f16",
    "L*q16",
    "L*d16",
    "L*f16",
    "d16",
    "L*d64*q64",
    "L*d64*f64",
    "L*h*a16",
    "L*h*a16*d16",
    *(f"weights>{step}" for step in CACHE_STEPS),
)


# How reluctantly a fit gives a term a price: the weight of the price's square, terms scaled alike,
# against the mean square of relative errors. Terms that only models above some size have could
# explain a few rows too well and the next ones badly; between others it decides ties.
RELUCTANCE = np.array([1e-3 if term.startswith("weights>") else 1e-7 for term in COST_TERMS])


def cost_terms(architectures: IntMatrix) -> FloatMatrix:
    """The terms of `COST_TERMS` for each architecture.

    L is the number of layers, d the hidden size, f the FFN size, h the heads, q the QKV size, a
    the size of a head; 16 and 64 mark a size rounded up to a multiple. `weights>N` is how many
    weights the products of all layers have beyond N.

    Args:
        architectures: int64 `[N, 5]`.

    Returns:
        float64 `[N, len(COST_TERMS)]`; each column is contiguous.
    """
    layers, d, f, h, q = np.ascontiguousarray(architectures.T, dtype=np.float64)
    d16, f16, q16 = (_rounded(size, _BLOCK) for size in (d, f, q))
    d64, f64, q64 = (_rounded(size, _PANEL) for size in (d, f, q))
    heads = h * _rounded(q / h, _BLOCK)
    by_qkv, by_ffn = layers * d * q, layers * d * f
    weights = 4 * by_qkv + 2 * by_ffn
    by_d16 = layers * d16
    by_d64 = layers * d64
    terms = np.empty((len(COST_TERMS), len(layers)))
    for place, term in enumerate(
        (
            by_qkv,
            by_ffn,
            layers * q,
            layers * d,
            layers * f,
            layers * h,
            layers,
            d,
            1.0,
            by_d16 * q16,
            by_d16 * f16,
            layers * q16,
            by_d16,
            layers * f16,
            d16,
            by_d64 * q64,
            by_d64 * f64,
            layers * heads,
            by_d16 * heads,
            *(np.maximum(weights - step, 0.0) for step in CACHE_STEPS),
        )
    ):
        terms[place] = term
    return terms.T


def _rounded(size: npt.NDArray[np.float64], multiple: int) -> npt.NDArray[np.float64]:
    return np.ceil(size / multiple) * multiple
