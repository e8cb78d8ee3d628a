from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

from autotinybert.errors import InputError
from predictor.correction import Correction, LogSizes
from supernet.architecture import IntMatrix, to_matrix
from supernet.space import kd_space, mlm_space


def shapes(count: int, seed: int = 0) -> IntMatrix:
    return to_matrix(kd_space().sample(np.random.default_rng(seed), count))


def bend(architectures: IntMatrix) -> npt.NDArray[np.float64]:
    """A smooth two per cent that no sum of products is."""
    logs = np.log(architectures.astype(float))
    found: npt.NDArray[np.float64] = 0.02 * np.sin(2 * logs[:, 1]) * (logs[:, 2] - 6.5)
    return found


def test_what_is_smooth_is_learnt_and_noise_is_not() -> None:
    train, test = shapes(150), shapes(400, 1)
    noise = np.random.default_rng(2).normal(0, 0.005, len(train))
    learnt = Correction.fit(train, bend(train) + noise).predict(test)
    assert np.abs(learnt - bend(test)).mean() < 0.25 * np.abs(bend(test)).mean()
    of_noise = Correction.fit(train, noise).predict(test)
    assert np.abs(of_noise).mean() < 0.3 * np.abs(noise).mean()


def test_a_handful_of_rows_hardly_correct_anything() -> None:
    train = shapes(8)
    noise = np.random.default_rng(0).normal(0, 0.01, len(train))
    assert np.abs(Correction.fit(train, noise).predict(shapes(200, 1))).max() < 0.02


def test_more_rows_than_polynomials_and_fewer_follow_the_same_equations() -> None:
    train = shapes(200)
    found = Correction.fit(train, bend(train))
    # The posterior mean by its textbook formula must be stationary under the chosen prior: fitting
    # the fitted values again changes little.
    again = Correction.fit(train, found.predict(train))
    assert np.abs(again.predict(train) - found.predict(train)).max() < 2e-3


def test_a_prediction_is_the_same_bit_for_bit_whatever_is_predicted_with_it() -> None:
    train, test = shapes(80), shapes(1000, 1)
    found = Correction.fit(train, bend(train))
    whole = found.predict(test)
    alone = np.array([found.predict(test[row : row + 1])[0] for row in range(0, 1000, 37)])
    np.testing.assert_array_equal(alone, whole[::37])


def test_sizes_that_another_one_tells_are_left_out() -> None:
    of_mlm = to_matrix(mlm_space().sample(np.random.default_rng(0), 50))  # qkv is 64 times heads
    assert LogSizes.of(of_mlm).columns.tolist() == [0, 1, 2, 3]
    assert LogSizes.of(shapes(50)).columns.tolist() == [0, 1, 2, 4]  # always 12 heads
    assert LogSizes.of(np.repeat(shapes(1), 5, axis=0)).columns.tolist() == []


def test_polynomials_are_orthogonal_over_their_range() -> None:
    grid = np.ones((20001, 5), dtype=np.int64)
    grid[:, 2] = np.round(np.exp(np.linspace(np.log(1e5), np.log(1e9), len(grid))))
    found = LogSizes.of(grid).polynomials(grid, 3)
    products = found @ found.T / len(grid)
    np.testing.assert_allclose(products, np.diag([1, 1 / 3, 1 / 5, 1 / 7]), atol=1e-3)


def test_a_correction_reads_back_bit_for_bit() -> None:
    train = shapes(60)
    found = Correction.fit(train, bend(train))
    read = Correction.from_json(json.loads(json.dumps(found.to_json())))
    np.testing.assert_array_equal(read.predict(train), found.predict(train))


@pytest.mark.parametrize(
    "change",
    [
        {"coefficients": [0.0]},
        {"coefficients": "none"},
        {"sizes": {"num_layers": [0.0, 0.0]}},
        {"sizes": {"depth": [0.0, 1.0]}},
        {"sizes": None},
    ],
)
def test_what_is_no_correction_is_refused(change: dict[str, object]) -> None:
    train = shapes(60)
    with pytest.raises(InputError, match="no correction of a regressor"):
        Correction.from_json({**Correction.fit(train, bend(train)).to_json(), **change})
