from __future__ import annotations

import numpy as np
import pytest

from autotinybert.errors import InputError
from predictor.intervals import FEWEST_ROWS, conformal_bounds


@pytest.mark.parametrize("rows", [FEWEST_ROWS, 40, 200])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_bounds_cover_new_rows_as_often_as_they_promise(rows: int, shape: str) -> None:
    rng = np.random.default_rng(rows)
    draw = rng.normal if shape == "normal" else lambda size: rng.exponential(size=size)
    below = above = 0
    for _ in range(2000):
        low, high = conformal_bounds(np.asarray(draw(size=rows)))
        new = float(np.asarray(draw(size=1))[0])
        below += new < low
        above += new > high
    # 5 % at most on either side; with few rows the ranks make it a little less.
    assert below / 2000 < 0.065
    assert above / 2000 < 0.065
    assert (below + above) / 2000 > 0.05


def test_bounds_do_not_depend_on_order_and_scale_with_the_errors() -> None:
    errors = np.random.default_rng(0).normal(size=50)
    low, high = conformal_bounds(errors)
    assert conformal_bounds(errors[::-1]) == (low, high)
    assert conformal_bounds(2 * errors) == (2 * low, 2 * high)
    assert low < 0 < high


def test_too_few_rows_have_no_bounds() -> None:
    with pytest.raises(InputError, match="bounds need at least 19 rows, not 18"):
        conformal_bounds(np.zeros(18))
