from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats

from autotinybert.errors import InputError
from predictor.model import SlicePredictor
from search.constraints import parse_latency
from search.feasible import FeasibleSet, feasible_set
from supernet.architecture import Architecture, from_matrix, to_matrix
from supernet.space import Space, fast_rule

SPACE = Space(
    name="small",
    num_layers=(1, 2, 4),
    hidden_sizes=(128, 192, 256, 320),
    ffn_sizes=(128, 256, 384, 512),
    num_heads=(12,),
    qkv_rule="free",
    qkv_sizes=(180, 240, 300),
)


def high_ms(predictor: SlicePredictor, architecture: Architecture, statistic: str) -> float:
    return float(predictor.predict(to_matrix([architecture]), statistic).safe_ms[0])


def all_of(space: Space) -> list[Architecture]:
    return [architecture for block in space.blocks() for architecture in from_matrix(block)]


def middle_ms(predictor: SlicePredictor, space: Space = SPACE) -> float:
    """A budget that half of a space meets."""
    return float(np.median([high_ms(predictor, shape, "p50") for shape in all_of(space)]))


@pytest.fixture
def feasible(latency_predictor: SlicePredictor) -> FeasibleSet:
    return feasible_set(SPACE, latency_predictor, middle_ms(latency_predictor), statistic="p50")


@pytest.mark.parametrize("statistic", ["quiet", "p50"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_it_is_what_brute_force_finds(
    latency_predictor: SlicePredictor, statistic: str, share: float
) -> None:
    bounds = {shape: high_ms(latency_predictor, shape, statistic) for shape in all_of(SPACE)}
    limit_ms = float(np.quantile(list(bounds.values()), share))
    found = feasible_set(SPACE, latency_predictor, limit_ms, statistic=statistic)
    expected = [shape for shape, bound in bounds.items() if bound <= limit_ms]
    assert from_matrix(SPACE.at(found.ranks)) == expected
    assert len(found) == len(expected)
    assert found.high_ms == pytest.approx([bounds[shape] for shape in expected])
    assert (found.latency_ms <= found.high_ms).all()
    assert found.lowest == min(bounds, key=bounds.__getitem__)
    assert found.lowest_ms == pytest.approx(min(bounds.values()))
    assert found.unpredicted == 0


def test_members_have_predictions_and_others_have_none(
    feasible: FeasibleSet, latency_predictor: SlicePredictor
) -> None:
    members = set(from_matrix(SPACE.at(feasible.ranks)))
    for shape in all_of(SPACE):
        assert (shape in feasible) == (shape in members)
    inside = next(iter(members))
    predicted = latency_predictor.predict(to_matrix([inside]), "p50")
    assert feasible.predicted_ms(inside) == pytest.approx(
        (predicted.latency_ms[0], predicted.safe_ms[0])
    )
    outside = next(shape for shape in all_of(SPACE) if shape not in members)
    for shape in (outside, Architecture(1, 130, 128, 12, 180)):
        assert shape not in feasible
        with pytest.raises(KeyError, match=str(shape)):
            feasible.predicted_ms(shape)


def test_draws_are_uniform_and_never_twice_the_same(feasible: FeasibleSet) -> None:
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(from_matrix(SPACE.at(feasible.ranks)), 0)
    for _ in range(2000):
        drawn = feasible.sample(rng, 5)
        assert len(set(drawn)) == 5
        for shape in drawn:
            counts[shape] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.001
    assert set(feasible.sample(rng, 10_000)) == set(counts)
    assert feasible.sample(np.random.default_rng(3), 7) == feasible.sample(
        np.random.default_rng(3), 7
    )


def test_shapes_outside_the_predictors_range_are_counted_and_never_feasible(
    latency_predictor: SlicePredictor,
) -> None:
    highest = int(latency_predictor.highest[1])
    wide = dataclasses.replace(SPACE, hidden_sizes=(64, 128, 192, highest + 64))
    found = feasible_set(wide, latency_predictor, 1e6, statistic="p50")
    assert found.unpredicted == wide.size // 2
    assert len(found) == wide.size // 2
    assert {shape.hidden_size for shape in from_matrix(wide.at(found.ranks))} == {128, 192}
    assert Architecture(1, 64, 128, 12, 180) not in found


def test_a_space_outside_the_predictors_range_is_refused_by_field(
    latency_predictor: SlicePredictor,
) -> None:
    tiny = dataclasses.replace(SPACE, name="tiny", hidden_sizes=(16, 32))
    with pytest.raises(InputError) as raised:
        feasible_set(tiny, latency_predictor, 1e6, statistic="p50")
    message = str(raised.value)
    assert (
        "answers for nothing in space tiny: 1-16-128-12-180: hidden_size 16 is outside" in message
    )
    assert "\n" not in message


def test_an_impossible_budget_is_refused_with_the_lowest_latency_there_is(
    latency_predictor: SlicePredictor,
) -> None:
    with pytest.raises(InputError) as raised:
        feasible_set(SPACE, latency_predictor, 0.01, statistic="p50")
    message = str(raised.value)
    assert "nothing in space small meets 0.01 ms: the lowest p50 latency there is" in message
    assert "(upper bound of 1-128-128-12-180)" in message
    assert "\n" not in message
    # What the message says is enough is enough.
    said = parse_latency(message.partition("latency there is ")[2].partition(" (upper")[0])
    found = feasible_set(SPACE, latency_predictor, said, statistic="p50")
    assert found.lowest in found
    assert said <= found.lowest_ms * 1.001


def test_a_statistic_that_was_not_measured_is_refused(latency_predictor: SlicePredictor) -> None:
    with pytest.raises(InputError, match="p95 was not measured"):
        feasible_set(SPACE, latency_predictor, 10.0, statistic="p95")


def test_a_rule_leaves_shapes_out(latency_predictor: SlicePredictor) -> None:
    limit_ms = middle_ms(latency_predictor)
    space = dataclasses.replace(SPACE, ffn_sizes=(128, 224, 352, 512))
    found = feasible_set(
        space, latency_predictor, limit_ms, statistic="p50", rule=fast_rule, rule_name="fast"
    )
    expected = [
        shape
        for shape in all_of(space)
        if high_ms(latency_predictor, shape, "p50") <= limit_ms
        and 1.6 * shape.hidden_size <= shape.ffn_size <= 1.9 * shape.hidden_size
        and 0.7 * shape.hidden_size <= shape.qkv_size <= shape.hidden_size
    ]
    assert expected
    assert from_matrix(space.at(found.ranks)) == expected
    assert found.unpredicted == 0
    with pytest.raises(InputError, match="nothing in space small under the fast rule meets"):
        feasible_set(
            space, latency_predictor, 0.01, statistic="p50", rule=fast_rule, rule_name="fast"
        )


def test_a_rule_that_leaves_nothing_is_refused(latency_predictor: SlicePredictor) -> None:
    wide = dataclasses.replace(SPACE, ffn_sizes=(2048,))
    with pytest.raises(InputError, match="there is no shape in space small under the fast rule"):
        feasible_set(
            wide, latency_predictor, 100.0, statistic="p50", rule=fast_rule, rule_name="fast"
        )


def test_near_the_limit_are_those_that_use_most_of_it_or_all_if_none_does(
    feasible: FeasibleSet, latency_predictor: SlicePredictor
) -> None:
    near = feasible.near_limit(0.8)
    high = feasible.high_ms
    assert near.ranks.tolist() == feasible.ranks[high >= 0.8 * feasible.limit_ms].tolist()
    assert 0 < len(near) < len(feasible)
    assert all(shape in feasible for shape in near.sample(np.random.default_rng(0), 5))
    assert feasible.near_limit(0.0).ranks.tolist() == feasible.ranks.tolist()
    ample = feasible_set(SPACE, latency_predictor, 1e6, statistic="p50")
    assert ample.near_limit(0.85) is ample


def test_a_space_of_several_blocks_is_scored_as_one_of_a_single_block(
    latency_predictor: SlicePredictor,
) -> None:
    """A million shapes: ranks go on from block to block."""
    fine = dataclasses.replace(
        SPACE,
        num_layers=tuple(range(1, 9)),
        hidden_sizes=tuple(range(128, 384, 4)),
        ffn_sizes=tuple(range(128, 1024, 8)),
        qkv_sizes=tuple(range(180, 384, 12)),
    )
    assert fine.size > 3 * (1 << 18)
    found = feasible_set(fine, latency_predictor, 3.0, statistic="p50")
    rng = np.random.default_rng(0)
    for shape in fine.sample(rng, 300):
        assert (shape in found) == (high_ms(latency_predictor, shape, "p50") <= 3.0)
    for layers, hidden in itertools.product((1, 8), (128, 380)):
        corner = Architecture(layers, hidden, 128, 12, 180)
        assert (corner in found) == (high_ms(latency_predictor, corner, "p50") <= 3.0)
