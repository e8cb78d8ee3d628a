from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autotinybert.errors import InputError
from search.operators import cross, fit_to_budget, move, mutate
from supernet.architecture import ARCHITECTURE_FIELDS, Architecture, from_matrix
from supernet.space import QkvRule, Space, hf_native_space, kd_space, mlm_space

KD = kd_space(hidden_step=16, ffn_step=32)

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True).map(sorted).map(tuple)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """A small space of any rule, with or without a limit of the head size."""
    rule: QkvRule = draw(st.sampled_from(("free", "per-head", "hidden")))
    qkv_sizes: tuple[int, ...] = ()
    if rule == "free":
        qkv_sizes = draw(sizes)
    elif rule == "per-head":
        qkv_sizes = (draw(st.integers(1, 8)),)
    try:
        return Space(
            name="drawn",
            num_layers=draw(sizes),
            hidden_sizes=draw(sizes),
            ffn_sizes=draw(sizes),
            num_heads=draw(sizes),
            qkv_rule=rule,
            qkv_sizes=qkv_sizes,
            max_head_size=draw(st.none() | st.integers(2, 20)),
        )
    except InputError:  # no number of heads divides a QKV size
        assume(False)
        raise


def one_of(space: Space, seed: int) -> Architecture:
    return space.sample(np.random.default_rng(seed), 1)[0]


seeds = st.integers(0, 2**32)
axes = st.sampled_from(ARCHITECTURE_FIELDS)


@settings(deadline=None)
@given(spaces(), seeds, axes, st.integers(-6, 6))
def test_a_move_stays_in_the_space_and_never_goes_the_other_way(
    space: Space, seed: int, axis: str, steps: int
) -> None:
    start = one_of(space, seed)
    moved = move(space, start, axis, steps)
    assert moved in space
    assert (getattr(moved, axis) - getattr(start, axis)) * steps >= 0
    if steps == 0:
        assert moved == start


@settings(deadline=None)
@given(spaces(), seeds, axes, st.sampled_from((-1, 1)))
def test_a_step_keeps_what_the_space_does_not_tie_to_the_axis(
    space: Space, seed: int, axis: str, step: int
) -> None:
    start = one_of(space, seed)
    moved = move(space, start, axis, step)
    kept = {
        "num_layers": ("hidden_size", "ffn_size", "num_heads", "qkv_size"),
        "ffn_size": ("num_layers", "hidden_size", "num_heads", "qkv_size"),
        "hidden_size": ("num_layers", "ffn_size"),
        "num_heads": ("num_layers", "ffn_size", "hidden_size"),
        "qkv_size": ("num_layers", "ffn_size", "hidden_size", "num_heads"),
    }[axis]
    if axis == "hidden_size" and space.qkv_rule != "hidden":
        kept = (*kept, "num_heads", "qkv_size")
    assert [getattr(moved, name) for name in kept] == [getattr(start, name) for name in kept]


@settings(deadline=None)
@given(spaces(), seeds, axes, st.sampled_from((-1, 1)))
def test_steps_end_at_the_end_of_the_axis_and_one_long_move_ends_there_too(
    space: Space, seed: int, axis: str, step: int
) -> None:
    place = start = one_of(space, seed)
    for _ in range(40):
        place = move(space, place, axis, step)
    assert move(space, place, axis, step) == place
    if axis != "hidden_size" or space.qkv_rule != "hidden":
        assert getattr(move(space, start, axis, 40 * step), axis) == getattr(place, axis)


def test_a_move_of_several_steps_is_several_moves() -> None:
    start = Architecture(4, 256, 512, 12, 240)
    moved = start
    for _ in range(3):
        moved = move(KD, moved, "hidden_size", 1)
    assert moved == move(KD, start, "hidden_size", 3) == Architecture(4, 304, 512, 12, 240)
    assert move(KD, start, "qkv_size", -2) == Architecture(4, 256, 512, 12, 216)
    assert move(KD, start, "num_layers", 9) == Architecture(8, 256, 512, 12, 240)
    assert move(KD, start, "ffn_size", -99) == Architecture(4, 256, 128, 12, 240)
    assert move(KD, start, "num_heads", 1) == start


def test_qkv_follows_the_heads_or_the_hidden_size_that_it_is_tied_to() -> None:
    mlm, native = mlm_space(), hf_native_space()
    start = Architecture(4, 256, 512, 4, 256)
    assert move(mlm, start, "num_heads", 1) == Architecture(4, 256, 512, 5, 320)
    assert move(mlm, start, "hidden_size", 1) == Architecture(4, 260, 512, 4, 256)
    assert move(mlm, start, "qkv_size", 1) == start
    assert move(native, start, "hidden_size", 1) == Architecture(4, 260, 512, 4, 260)
    assert move(native, start, "num_heads", 1) == Architecture(4, 256, 512, 8, 256)
    twelve = Architecture(4, 252, 512, 12, 252)
    assert move(native, twelve, "hidden_size", 1) == Architecture(4, 264, 512, 12, 264)


def test_where_no_hidden_size_goes_with_the_heads_a_step_changes_them() -> None:
    space = Space("tied", (1,), (8, 9), (4,), (4, 9), "hidden")
    small, large = Architecture(1, 8, 4, 4, 8), Architecture(1, 9, 4, 9, 9)
    assert space.size == 2
    assert move(space, small, "hidden_size", 1) == large
    assert move(space, large, "hidden_size", -1) == small


@settings(deadline=None)
@given(spaces(), seeds, seeds)
def test_children_are_in_the_space(space: Space, seed: int, other: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = one_of(space, seed), one_of(space, other)
    assert mutate(space, first, rng) in space
    child = cross(space, first, second, rng)
    assert child in space
    for name in ARCHITECTURE_FIELDS:
        assert getattr(child, name) in (getattr(first, name), getattr(second, name))


@pytest.mark.parametrize(
    "space", [KD, mlm_space(), hf_native_space()], ids=lambda space: space.name
)
def test_children_are_in_the_built_in_spaces(space: Space) -> None:
    rng = np.random.default_rng(0)
    child, other = space.sample(rng, 2)
    for _ in range(200):
        child = mutate(space, child, rng)
        assert child in space
        crossed = cross(space, child, other, rng)
        assert crossed in space


def test_a_mutation_moves_up_to_three_axes_both_ways_and_mostly_by_a_step() -> None:
    rng = np.random.default_rng(0)
    parent = Architecture(4, 448, 1600, 12, 480)
    children = [mutate(KD, parent, rng) for _ in range(500)]
    changed = [
        {name for name in ARCHITECTURE_FIELDS if getattr(child, name) != getattr(parent, name)}
        for child in children
    ]
    assert {len(names) for names in changed} == {1, 2, 3}
    assert set.union(*changed) == {*ARCHITECTURE_FIELDS} - {"num_heads"}
    steps = [(child.ffn_size - 1600) // 32 for child in children if child.ffn_size != 1600]
    assert min(steps) < 0 < max(steps)
    assert np.mean(np.abs(steps) == 1) > 0.4
    assert max(map(abs, steps)) <= 8


def test_in_a_space_of_one_shape_children_are_that_shape() -> None:
    rng = np.random.default_rng(0)
    space = Space("one", (2,), (8,), (16,), (2,), "free", (4,))
    (only,) = space.sample(rng, 1)
    assert all(
        move(space, only, axis, step) == only for axis in ARCHITECTURE_FIELDS for step in (-1, 1)
    )
    assert mutate(space, only, rng) == only
    assert cross(space, only, only, rng) == only
    assert fit_to_budget(space, only, lambda _: True, rng) == only
    assert fit_to_budget(space, only, lambda _: False, rng) is None


def cost(architecture: Architecture) -> float:
    layers, hidden, ffn, heads, qkv = architecture.row
    return layers * (hidden * (ffn + 4 * qkv) + 10 * heads)


def is_at_the_edge(
    space: Space, architecture: Architecture, feasible: Callable[[Architecture], bool]
) -> bool:
    larger = (move(space, architecture, axis, 1) for axis in ARCHITECTURE_FIELDS)
    return not any(feasible(moved) for moved in larger if moved != architecture)


@settings(deadline=None)
@given(spaces(), seeds, st.floats(0, 1))
def test_what_is_fitted_is_feasible_and_at_the_edge(space: Space, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    costs = sorted(map(cost, from_matrix(next(space.blocks()))))
    limit = costs[int(share * (len(costs) - 1))]

    def feasible(architecture: Architecture) -> bool:
        assert architecture in space
        return cost(architecture) <= limit

    found = fit_to_budget(space, one_of(space, seed), feasible, rng)
    if space.qkv_rule != "hidden" and len(space.num_heads) == 1:
        assert found is not None  # every shrinking walk ends at the smallest shape
    if found is not None:
        assert feasible(found)
        assert is_at_the_edge(space, found, feasible)


@settings(max_examples=50, deadline=None)
@given(spaces(), seeds, st.integers(1, 4))
def test_fitting_ends_whatever_is_feasible(space: Space, seed: int, one_in: int) -> None:
    """As under a rule that is no matter of size."""

    def feasible(architecture: Architecture) -> bool:
        return sum(architecture.row) % one_in == 0

    found = fit_to_budget(space, one_of(space, seed), feasible, np.random.default_rng(seed))
    if found is not None:
        assert feasible(found)
        assert is_at_the_edge(space, found, feasible)


def test_what_is_over_the_budget_shrinks_and_what_is_far_below_it_grows() -> None:
    rng = np.random.default_rng(0)
    limit = cost(Architecture(4, 304, 640, 12, 240))
    smallest, largest = KD.corners()
    for start in (smallest, largest):
        found = [
            fit_to_budget(KD, start, lambda shape: cost(shape) <= limit, rng) for _ in range(20)
        ]
        assert all(shape is not None and 0.9 * limit < cost(shape) <= limit for shape in found)
        assert len(set(found)) > 15
