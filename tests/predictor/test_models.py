"""The two models of quiet latency: cost terms and lookup table."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotinybert.errors import InputError
from predictor.features import COST_TERMS, cost_terms
from predictor.lookup_table import LookupTable
from predictor.model import MODELS
from predictor.regressors import CostTermRegressor
from supernet.architecture import Architecture, IntMatrix, from_matrix, to_matrix
from supernet.cost import flops
from supernet.space import kd_space

SPACE = kd_space()


def device_ms(architectures: IntMatrix) -> npt.NDArray[np.float64]:
    """A device as the evidence describes one: products, row traffic and a fixed part."""
    layers, hidden, ffn, _, qkv = architectures.astype(float).T
    return np.asarray(
        flops(architectures) / 9e7
        + 2e-4 * layers * (hidden + ffn + 2 * qkv)
        + 0.03 * layers
        + 1e-4 * hidden
        + 0.1,
        dtype=np.float64,
    )


def sample(count: int, seed: int) -> IntMatrix:
    return to_matrix([*SPACE.corners(), *SPACE.space_filling(np.random.default_rng(seed), count)])


def test_cost_terms_are_the_named_products() -> None:
    (terms,) = cost_terms(to_matrix([Architecture(2, 20, 30, 3, 33)]))
    named = dict(zip(COST_TERMS, terms.tolist(), strict=True))
    assert named["L*d*q"] == 2 * 20 * 33
    assert named["L*d*f"] == 2 * 20 * 30
    assert named["L*h"] == 2 * 3
    assert named["1"] == 1
    assert named["L*d16*q16"] == 2 * 32 * 48
    assert named["L*d16*f16"] == 2 * 32 * 32
    assert named["d16"] == 32
    assert cost_terms(sample(7, 0)).shape == (9, len(COST_TERMS))


@pytest.mark.parametrize(("name", "worst"), [("cost-terms", 0.001), ("lookup-table", 0.03)])
def test_a_device_without_noise_is_learnt_from_sixty_shapes(name: str, worst: float) -> None:
    train, test = sample(58, 0), sample(300, 1)
    model = MODELS[name].fit(train, device_ms(train))
    errors = np.abs(model.predict(test) / device_ms(test) - 1)
    assert errors.max() < worst


@pytest.mark.parametrize("name", MODELS)
def test_noise_of_one_percent_is_averaged_out(name: str) -> None:
    train, test = sample(58, 0), sample(300, 1)
    noisy = device_ms(train) * (1 + 0.01 * np.random.default_rng(0).normal(size=len(train)))
    model = MODELS[name].fit(train, noisy)
    errors = np.abs(model.predict(test) / device_ms(test) - 1)
    assert errors.mean() < 0.01


def test_predicted_latency_is_positive_and_grows_with_every_size() -> None:
    train = sample(40, 0)
    noisy = device_ms(train) * np.random.default_rng(0).uniform(0.8, 1.25, len(train))
    model = CostTermRegressor.fit(train, noisy)
    assert (model.prices_ms >= 0).all()
    for smaller in from_matrix(sample(30, 2)):
        row = np.array([smaller.row])
        for column in range(5):
            larger = row.copy()
            larger[0, column] *= 2
            assert 0 < model.predict(row)[0] <= model.predict(larger)[0]


def test_a_table_interpolates_between_its_entries() -> None:
    table = LookupTable(
        hidden_sizes=np.array([100.0, 200.0]),
        qkv_sizes=np.array([10.0, 30.0]),
        ffn_sizes=np.array([100.0, 300.0]),
        embedding_ms=np.array([1.0, 2.0]),
        attention_ms=np.array([[1.0, 3.0], [2.0, 6.0]]),
        ffn_ms=np.array([[10.0, 30.0], [20.0, 60.0]]),
        head_ms=0.5,
    )
    (latency_ms,) = table.predict(np.array([[3, 150, 200, 2, 20]]))
    # Half way along every axis: the mean of the four entries of each block.
    assert latency_ms == pytest.approx(1.5 + 3 * (3.0 + 30.0 + 2 * 0.5))
    blocks = list(table.blocks())
    assert blocks[0] == ("embedding", 100, None, 1.0)
    assert ("attention", 200, 30, 6.0) in blocks
    assert ("ffn", 100, 300, 30.0) in blocks
    assert blocks[-1] == ("head", None, None, 0.5)
    assert len(blocks) == 2 + 4 + 4 + 1


@pytest.mark.parametrize("name", MODELS)
def test_a_model_reads_back_bit_for_bit(name: str) -> None:
    train = sample(40, 0)
    model = MODELS[name].fit(train, device_ms(train))
    read = MODELS[name].from_json(json.loads(json.dumps(model.to_json())))
    np.testing.assert_array_equal(read.predict(train), model.predict(train))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cost-terms", {"L*d*q": None}),
        ("cost-terms", {"L*d*q": "free"}),
        ("cost-terms", {"gold": 1.0}),
        ("lookup-table", {"head_ms": None}),
        ("lookup-table", {"attention_ms": [[1.0]]}),
        ("lookup-table", {"ffn_sizes": "many"}),
    ],
)
def test_what_is_no_model_is_refused(name: str, change: dict[str, Any]) -> None:
    train = sample(40, 0)
    value = {**MODELS[name].fit(train, device_ms(train)).to_json(), **change}
    with pytest.raises(InputError):
        MODELS[name].from_json(value)
