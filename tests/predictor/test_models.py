"""The two models of quiet latency: cost terms and lookup table."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotinybert.errors import InputError
from device_profiles.blocks import BlockTime
from device_profiles.measurements import SLICE_DEFAULTS
from predictor.features import COST_TERMS, cost_terms
from predictor.lookup_table import LookupTable
from predictor.model import MODELS
from predictor.regressors import CostTermRegressor
from supernet.architecture import Architecture, IntMatrix, from_matrix, to_matrix
from supernet.cost import flops
from supernet.space import kd_space

SPACE = kd_space()

FloatVector = npt.NDArray[np.float64]


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


SLICE = tuple(SLICE_DEFAULTS.values())


def block_ms(block: str, hidden: int, size: int, heads: int) -> float:
    """A device whose blocks grow evenly with either size and with the heads."""
    if block == "embedding":
        return 0.1 + 1e-3 * hidden
    return {"attention": 4.0, "ffn": 2.0}[block] * hidden * size * 1e-6 + 0.01 * heads


def measured_blocks(heads: tuple[int, ...] = (12,)) -> list[BlockTime]:
    hidden_sizes = (128, 288, 448, 608, 768)
    found = [
        BlockTime(SLICE, "embedding", hidden, None, None, block_ms("embedding", hidden, 0, 0), "ok")
        for hidden in hidden_sizes
    ]
    for hidden in hidden_sizes:
        for size in (180, 324, 468, 612, 768):
            found += [
                BlockTime(
                    SLICE,
                    "attention",
                    hidden,
                    size,
                    count,
                    block_ms("attention", hidden, size, count),
                    "ok",
                )
                for count in heads
            ]
        for size in (128, 864, 1600, 2336, 3072):
            latency_ms = block_ms("ffn", hidden, size, 0)
            found.append(BlockTime(SLICE, "ffn", hidden, size, None, latency_ms, "ok"))
    return found


def whole_ms(architectures: IntMatrix, factors: tuple[float, float, float]) -> FloatVector:
    return np.array(
        [
            factors[0] * block_ms("embedding", d, 0, 0)
            + layers * factors[1] * block_ms("attention", d, q, h)
            + layers * factors[2] * block_ms("ffn", d, f, 0)
            for layers, d, f, h, q in architectures.tolist()
        ]
    )


@pytest.mark.parametrize("heads", [(12,), (2, 12)])
def test_measured_blocks_add_up_to_models_between_their_sizes(heads: tuple[int, ...]) -> None:
    shapes = sample(50, 0)
    table = LookupTable.measured(measured_blocks(heads))
    assert table.is_measured
    np.testing.assert_allclose(table.predict(shapes), whole_ms(shapes, (1, 1, 1)), rtol=1e-9)
    assert table.head_ms == pytest.approx(0.01 if len(heads) > 1 else 0.0)


def test_factors_are_what_blocks_take_more_inside_a_model_than_alone() -> None:
    train, test = sample(40, 0), sample(50, 1)
    factors = (1.5, 1.1, 0.9)
    table = LookupTable.from_blocks(measured_blocks(), train, whole_ms(train, factors))
    assert table.calibration == pytest.approx(factors, abs=0.02)
    errors = table.predict(test) / whole_ms(test, factors) - 1
    assert np.abs(errors).max() < 0.005
    raw = LookupTable.measured(measured_blocks())
    assert replace(table, calibration=(1.0, 1.0, 1.0)).to_json() == raw.to_json()


def test_one_wild_model_does_not_move_the_factors() -> None:
    train = sample(40, 0)
    latency_ms = whole_ms(train, (1, 1, 1))
    latency_ms[7] *= 3
    table = LookupTable.from_blocks(measured_blocks(), train, latency_ms)
    assert table.calibration == pytest.approx((1, 1, 1), abs=0.01)


def test_factors_are_never_negative() -> None:
    train = sample(40, 0)
    latency_ms = whole_ms(train, (0.0, 1.3, 0.0))
    table = LookupTable.from_blocks(measured_blocks(), train, latency_ms)
    assert table.calibration is not None
    assert min(table.calibration) >= 0


@pytest.mark.parametrize("name", ["fitted", "measured"])
def test_shares_add_up_and_rows_are_the_same_whatever_is_predicted_with_them(name: str) -> None:
    shapes = sample(60, 0)
    fitted = LookupTable.fit(shapes, device_ms(shapes))
    table = fitted if name == "fitted" else LookupTable.measured(measured_blocks((2, 12)))
    together = table.predict(shapes)
    np.testing.assert_allclose(sum(table.shares(shapes).values()), together, rtol=1e-12)
    alone = [table.predict(shapes[row : row + 1])[0] for row in range(len(shapes))]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(table.predict(shapes[3:40]), together[3:40])


def test_a_block_that_could_not_be_measured_lies_between_its_neighbours() -> None:
    blocks = measured_blocks()
    holes = {("attention", 448, 468), ("ffn", 128, 128), ("embedding", 288, None)}
    torn = [
        replace(block, latency_ms=None, verdict="rejected")
        if (block.block, block.hidden_size, block.size) in holes
        else block
        for block in blocks
    ]
    whole, mended = LookupTable.measured(blocks), LookupTable.measured(torn)
    np.testing.assert_allclose(mended.attention_ms, whole.attention_ms, rtol=0.01)
    np.testing.assert_allclose(mended.embedding_ms, whole.embedding_ms, rtol=1e-9)
    assert mended.ffn_ms[0, 0] == whole.ffn_ms[0, 1]


def test_blocks_that_mostly_could_not_be_measured_make_no_table() -> None:
    torn = [
        replace(block, latency_ms=None, verdict="rejected") if block.block == "ffn" else block
        for block in measured_blocks()
    ]
    assert not LookupTable.has_enough(torn)
    with pytest.raises(InputError, match="measure again with profile-device --blocks"):
        LookupTable.measured(torn)


def test_a_measured_table_reads_back_and_a_fitted_one_is_written_as_before() -> None:
    train = sample(40, 0)
    table = LookupTable.from_blocks(measured_blocks(), train, whole_ms(train, (1, 1.1, 0.9)))
    value = json.loads(json.dumps(table.to_json()))
    read = LookupTable.from_json(value)
    assert read.calibration == table.calibration
    np.testing.assert_array_equal(read.predict(train), table.predict(train))
    assert "calibration" not in LookupTable.fit(train, device_ms(train)).to_json()
    for calibration in ([1.0, 1.0], [1.0, 1.0, -1.0], 1.0, [1.0, 1.0, "1"], [1.0, 1.0, 1e99]):
        with pytest.raises(InputError, match="no lookup table"):
            LookupTable.from_json({**value, "calibration": calibration})


def test_the_entries_of_a_measured_table_are_what_blocks_take_inside_a_model() -> None:
    table = replace(LookupTable.measured(measured_blocks()), calibration=(2.0, 1.5, 0.5))
    entries = {entry[:3]: entry[3] for entry in table.blocks()}
    assert entries["embedding", 128, None] == pytest.approx(2 * block_ms("embedding", 128, 0, 0))
    assert entries["attention", 768, 180] == pytest.approx(
        1.5 * block_ms("attention", 768, 180, 12)
    )
    assert entries["ffn", 128, 3072] == pytest.approx(0.5 * block_ms("ffn", 128, 3072, 0))
