"""The cost terms that a transformer encoder's latency is linear in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from supernet.architecture import IntMatrix

FloatMatrix = npt.NDArray[np.float64]

# Vector units and cache lines work on blocks of 16 floats: a kernel pays for the rounded size.
_BLOCK = 16

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
)


def cost_terms(architectures: IntMatrix) -> FloatMatrix:
    """The terms of `COST_TERMS` for each architecture.

    L is the number of layers, d the hidden size, f the FFN size, h the heads, q the QKV size; 16
    marks a size rounded up to a multiple of 16.

    Args:
        architectures: int64 `[N, 5]`.

    Returns:
        float64 `[N, len(COST_TERMS)]`.
    """
    layers, d, f, h, q = architectures.astype(np.float64).T
    d16, f16, q16 = (np.ceil(size / _BLOCK) * _BLOCK for size in (d, f, q))
    terms = (
        layers * d * q,
        layers * d * f,
        layers * q,
        layers * d,
        layers * f,
        layers * h,
        layers,
        d,
        np.ones_like(d),
        layers * d16 * q16,
        layers * d16 * f16,
        layers * q16,
        layers * d16,
        layers * f16,
        d16,
    )
    return np.stack(terms, axis=1)
