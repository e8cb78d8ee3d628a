"""Symmetric int8 quantisation of weights, one scale for each output of a product."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from supernet.weights import FloatArray

# -128 is left out: symmetric values let a product's kernel skip the correction for a zero point.
_LARGEST = 127


def quantise(matrix: FloatArray, *, axis: int) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Weights as int8 and what to multiply them by.

    Args:
        matrix: float32 `[R, C]`.
        axis: along which one scale holds: 0 gives every column its own, 1 every row.

    Returns:
        int8 `[R, C]`, and the scales, float32 `[1, C]` or `[R, 1]`. The largest error is half a
        scale.
    """
    scales = np.abs(matrix).max(axis=axis, keepdims=True) / np.float32(_LARGEST)
    # All zeros, or so small that a scale would be denormal, and slow: zeros of any scale.
    scales = np.where(scales >= np.finfo(np.float32).tiny, scales, np.float32(1))
    whole = np.clip(np.rint(matrix / scales), -_LARGEST, _LARGEST).astype(np.int8)
    return whole, scales
