from __future__ import annotations

import numpy as np
import pytest

from supernet.quantisation import quantise


@pytest.mark.parametrize("axis", [0, 1])
def test_no_weight_is_further_off_than_half_its_scale(axis: int) -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.normal(0, 1, (40, 30)) * 10.0 ** rng.integers(-4, 4, (40, 30))).astype(np.float32)
    whole, scales = quantise(matrix, axis=axis)
    assert whole.dtype == np.int8
    assert whole.shape == matrix.shape
    assert scales.shape == ((1, 30) if axis == 0 else (40, 1))
    assert (np.abs(whole * scales - matrix) <= scales * 0.5001).all()
    assert np.abs(whole).max() == 127


def test_weights_without_a_usable_scale_are_zeros() -> None:
    matrix = np.array([[0.0, 1e-40, 2.0], [0.0, -1e-40, -1.0]], dtype=np.float32)
    whole, scales = quantise(matrix, axis=0)
    np.testing.assert_array_equal(whole, [[0, 0, 127], [0, 0, -64]])
    assert (scales >= np.finfo(np.float32).tiny).all()
    np.testing.assert_array_equal(scales[0, :2], [1, 1])
