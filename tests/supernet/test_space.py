from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotinybert.errors import InputError
from supernet.architecture import Architecture, to_matrix
from supernet.space import (
    QkvRule,
    Space,
    fast_rule,
    hf_native_space,
    kd_space,
    mlm_space,
)
from supernet.space_file import BUILT_IN_SPACES

SPACES = {name: make() for name, make in BUILT_IN_SPACES.items()}
TINY = Space(
    name="tiny",
    num_layers=(1, 3),
    hidden_sizes=(8, 12),
    ffn_sizes=(16, 32, 64),
    num_heads=(1, 2, 3),
    qkv_rule="free",
    qkv_sizes=(4, 6),
)


@pytest.mark.parametrize(("name", "size"), [("kd", 47_462_800), ("mlm", 11_391_072)])
def test_built_in_spaces_have_the_published_sizes(name: str, size: int) -> None:
    assert SPACES[name].size == size


def test_size_counts_exactly_what_brute_force_counts() -> None:
    brute = {
        Architecture(layers, hidden, ffn, heads, qkv)
        for layers, hidden, ffn, heads, qkv in itertools.product(
            (1, 3), (8, 12), (16, 32, 64), (1, 2, 3), (4, 6)
        )
        if qkv % heads == 0
    }
    enumerated = [Architecture(*row) for block in TINY.blocks(7) for row in block.tolist()]
    assert len(enumerated) == TINY.size == len(brute)
    assert set(enumerated) == brute
    assert all(architecture in TINY for architecture in brute)


def test_hf_native_holds_exactly_the_shapes_whose_heads_divide_the_hidden_size() -> None:
    space = hf_native_space(hidden_step=4, ffn_step=512)
    expected = {
        (hidden, heads, hidden)
        for hidden in range(128, 769, 4)
        for heads in (1, 2, 3, 4, 6, 8, 12)
        if hidden % heads == 0
    }
    assert set(map(tuple, space.widths.tolist())) == expected


@pytest.mark.parametrize("name", SPACES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_rank_and_at_are_inverse(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    rank = data.draw(st.integers(0, space.size - 1))
    architecture = Architecture(*space.at(np.array([rank]))[0].tolist())
    assert architecture in space
    assert space.rank(architecture) == rank


def test_ranks_outside_the_space_are_refused() -> None:
    with pytest.raises(IndexError, match=f"0 to {TINY.size - 1}"):
        TINY.at(np.array([TINY.size]))
    with pytest.raises(InputError, match="not in space tiny"):
        TINY.rank(Architecture(2, 8, 16, 1, 4))


@pytest.mark.parametrize("name", SPACES)
def test_same_seed_draws_the_same_and_everything_drawn_is_a_member(name: str) -> None:
    space = SPACES[name]
    for draw in (space.sample, space.space_filling):
        first, second = (draw(np.random.default_rng(3), 50) for _ in range(2))
        assert first == second
        assert len(set(first)) == 50
        assert all(architecture in space for architecture in first)
        assert draw(np.random.default_rng(4), 50) != first


def test_uniform_sampling_reaches_every_architecture_about_equally() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros(TINY.size)
    for _ in range(4000):
        counts[TINY.rank(TINY.sample(rng, 1)[0])] += 1
    expected = 4000 / TINY.size
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    # 99.99 % quantile of chi-square with 59 degrees of freedom is 107.
    assert TINY.size == 60
    assert chi_square < 107


@pytest.mark.parametrize("name", SPACES)
def test_space_filling_covers_each_axis_more_evenly_than_uniform_draws(name: str) -> None:
    space = SPACES[name]

    def unevenness(architectures: list[Architecture]) -> float:
        """Mean over the axes of the Kolmogorov distance from the axis's own distribution."""
        matrix = to_matrix(architectures)[:, [0, 1, 2]]
        axes = (space.num_layers, space.hidden_sizes, space.ffn_sizes)
        distances = []
        for column, axis in zip(matrix.T, axes, strict=True):
            ours = np.searchsorted(np.sort(column), axis, side="right") / len(column)
            exact = np.arange(1, len(axis) + 1) / len(axis)
            distances.append(np.abs(ours - exact).max())
        return float(np.mean(distances))

    seeds = range(20)
    even = [unevenness(space.space_filling(np.random.default_rng(s), 60)) for s in seeds]
    random = [unevenness(space.sample(np.random.default_rng(s), 60)) for s in seeds]
    assert np.mean(even) < 0.6 * np.mean(random)


def test_a_prefix_of_a_space_filling_plan_is_the_shorter_plan() -> None:
    space = SPACES["kd"]
    longer = space.space_filling(np.random.default_rng(1), 40)
    assert longer[:15] == space.space_filling(np.random.default_rng(1), 15)


@pytest.mark.parametrize("draw", ["sample", "space_filling"])
def test_a_whole_space_can_be_drawn_and_no_more(draw: str) -> None:
    everything = getattr(TINY, draw)(np.random.default_rng(0), TINY.size)
    assert len(set(everything)) == TINY.size
    with pytest.raises(InputError, match="61 cannot be drawn"):
        getattr(TINY, draw)(np.random.default_rng(0), TINY.size + 1)


@pytest.mark.parametrize("name", SPACES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_neighbours_are_other_members_near_by(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    rank = data.draw(st.integers(0, space.size - 1))
    here = Architecture(*space.at(np.array([rank]))[0].tolist())
    around = space.neighbours(here)
    assert around == space.neighbours(here)
    assert 1 <= len(around) <= 10
    assert len(set(around)) == len(around)
    assert here not in around
    assert all(architecture in space for architecture in around)


@pytest.mark.parametrize("space", [kd_space(), mlm_space()], ids=["kd", "mlm"])
def test_neighbourhood_is_symmetric_where_qkv_does_not_depend_on_hidden(space: Space) -> None:
    for here in space.sample(np.random.default_rng(0), 40):
        for there in space.neighbours(here):
            assert here in space.neighbours(there), (here, there)


def test_every_architecture_can_be_reached_by_steps() -> None:
    start = TINY.corners()[0]
    reached, front = {start}, [start]
    while front:
        front = [n for here in front for n in TINY.neighbours(here) if n not in reached]
        reached.update(front)
    assert len(reached) == TINY.size


@pytest.mark.parametrize("name", SPACES)
def test_corners_bound_every_axis(name: str) -> None:
    space = SPACES[name]
    low, high = to_matrix(space.corners())
    drawn = to_matrix(space.sample(np.random.default_rng(0), 500))
    assert (drawn >= low).all()
    assert (drawn <= high).all()


def everything(space: Space) -> set[Architecture]:
    return {Architecture(*row) for block in space.blocks() for row in block.tolist()}


def axis(highest: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(1, highest), min_size=1, max_size=3).map(lambda v: tuple(sorted(v)))


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces of every rule; some hold heads that differ in number and size."""
    rule: QkvRule = draw(st.sampled_from(("free", "per-head", "hidden")))
    # One head divides everything, so that no space is empty.
    heads = tuple(sorted({1, *draw(axis(6))}))
    qkv_sizes = {"free": axis(24), "per-head": axis(8).map(lambda v: v[:1]), "hidden": st.just(())}
    return Space(
        name="drawn",
        num_layers=draw(axis(4)),
        hidden_sizes=draw(axis(24)),
        ffn_sizes=draw(axis(24)),
        num_heads=heads,
        qkv_rule=rule,
        qkv_sizes=draw(qkv_sizes[rule]),
    )


@st.composite
def shapes(draw: st.DrawFn) -> Architecture:
    heads = draw(st.integers(1, 6))
    layers, hidden_size, ffn_size = (draw(st.integers(1, top)) for top in (4, 24, 24))
    return Architecture(layers, hidden_size, ffn_size, heads, heads * draw(st.integers(1, 10)))


@given(space=spaces(), largest=shapes())
@settings(max_examples=300, deadline=None)
def test_a_clipped_space_is_exactly_what_the_superplm_holds(
    space: Space, largest: Architecture
) -> None:
    held = {shape for shape in everything(space) if largest.holds(shape)}
    if not held:
        with pytest.raises(InputError, match="space drawn"):
            space.clipped(largest)
        return
    clipped = space.clipped(largest)
    assert everything(clipped) == held
    assert clipped.size == len(held)
    assert clipped.clipped(largest) == clipped
    assert all(corner in held for corner in clipped.corners())


@given(space=spaces(), first=shapes(), second=shapes())
@settings(max_examples=100, deadline=None)
def test_clipping_twice_keeps_what_both_hold_in_either_order(
    space: Space, first: Architecture, second: Architecture
) -> None:
    both = {s for s in everything(space) if first.holds(s) and second.holds(s)}
    if both:
        assert everything(space.clipped(first).clipped(second)) == both
        assert everything(space.clipped(second).clipped(first)) == both


def test_a_superplm_of_the_largest_shape_holds_the_whole_space() -> None:
    assert kd_space().clipped(Architecture(12, 768, 3072, 12, 768)).size == kd_space().size
    mini = kd_space().clipped(Architecture(6, 384, 1536, 12, 384))
    assert mini.size == 6 * 65 * 353 * 18
    assert mini.corners()[-1] == Architecture(6, 384, 1536, 12, 384)


@pytest.mark.parametrize(
    ("space", "largest", "message"),
    [
        (kd_space(), "4-64-512-12-768", "hidden_size begins at 128 there, .* ends at 64"),
        (kd_space(), "4-256-512-4-256", "num_heads begins at 12 there, .* ends at 4"),
        (kd_space(), "4-256-512-12-144", "qkv_size begins at 180 there, .* ends at 144"),
        (mlm_space(), "4-256-512-12-384", "head size begins at 64 there, .* ends at 32"),
        (hf_native_space(), "4-128-512-12-48", "into heads of 4 or less"),
    ],
)
def test_a_superplm_that_holds_nothing_is_told_which_axis_is_to_blame(
    space: Space, largest: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        space.clipped(Architecture.parse(largest))


@given(st.integers(1, 200), st.integers(1, 400), st.integers(1, 300))
@settings(max_examples=300)
def test_the_fast_rule_is_the_papers_in_exact_numbers(hidden: int, ffn: int, qkv: int) -> None:
    row = np.array([[1, hidden, ffn, 1, qkv]])
    expected = (
        Fraction(16, 10) * hidden <= ffn <= Fraction(19, 10) * hidden
        and Fraction(7, 10) * hidden <= qkv <= hidden
    )
    assert fast_rule(row).tolist() == [expected]


def test_the_fast_rule_holds_its_bounds_themselves() -> None:
    rows = [(1, 320, 512, 1, 224), (1, 320, 608, 1, 320), (1, 320, 511, 1, 224)]
    outside = [(1, 320, 609, 1, 320), (1, 320, 512, 1, 223), (1, 320, 512, 1, 321)]
    assert fast_rule(np.array([*rows, *outside])).tolist() == [True, True, *[False] * 4]
    assert fast_rule(np.zeros((0, 5), dtype=np.int64)).shape == (0,)
