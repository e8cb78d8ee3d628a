from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotinybert.errors import InputError
from supernet.architecture import (
    UPPER_BOUNDS,
    Architecture,
    from_matrix,
    to_matrix,
)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    heads = draw(st.integers(1, 16))
    return Architecture(
        draw(st.integers(1, 24)),
        draw(st.integers(1, 1024)),
        draw(st.integers(1, 4096)),
        heads,
        heads * draw(st.integers(1, 64)),
    )


@given(architectures())
def test_id_reads_back_as_the_same_architecture(architecture: Architecture) -> None:
    assert Architecture.parse(str(architecture)) == architecture


def test_id_is_the_papers_tuple() -> None:
    assert str(Architecture(5, 564, 1024, 12, 528)) == "5-564-1024-12-528"
    assert Architecture.parse(" 5-564-1024-12-528\n").head_size == 44


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5-564",
        "5-564-1024-12-528-1",
        "5_564_1024_12_528",
        "-5-564-1024-12-528",
        "\u0665-1-1-1-1",
    ],
)
def test_text_that_is_no_architecture_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="5-564-1024-12-528"):
        Architecture.parse(text)


def test_qkv_size_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match="qkv_size 500 is not divisible by num_heads 12"):
        Architecture(5, 564, 1024, 12, 500)


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("value", [0, -1, 10**6, 2.0, True, "4", None])
def test_numbers_out_of_bounds_or_of_other_types_are_refused(index: int, value: object) -> None:
    row: list[object] = [2, 128, 512, 1, 128]
    row[index] = value
    with pytest.raises(InputError, match="must be"):
        Architecture(*row)  # type: ignore[arg-type]


def test_bounds_hold_every_published_space() -> None:
    assert Architecture(*(UPPER_BOUNDS.values())).num_layers == 96


@given(st.lists(architectures(), max_size=5))
def test_matrix_round_trip_keeps_order(many: list[Architecture]) -> None:
    matrix = to_matrix(many)
    assert matrix.shape == (len(many), 5)
    assert from_matrix(matrix) == many


@given(architectures())
def test_a_superplm_holds_itself_and_no_larger_shape(whole: Architecture) -> None:
    layers, hidden, ffn, heads, qkv = whole.row
    assert whole.holds(whole)
    for larger in (
        Architecture(layers + 1, hidden, ffn, heads, qkv),
        Architecture(layers, hidden + 1, ffn, heads, qkv),
        Architecture(layers, hidden, ffn + 1, heads, qkv),
        Architecture(layers, hidden, ffn, heads, qkv + heads),
        Architecture(layers, hidden, ffn, heads + 1, qkv + whole.head_size),
    ):
        assert not whole.holds(larger)
        assert larger.holds(whole)


@given(architectures(), architectures(), architectures())
def test_a_slice_of_a_slice_is_a_slice(
    first: Architecture, second: Architecture, third: Architecture
) -> None:
    if first.holds(second) and second.holds(third):
        assert first.holds(third)
    if first.holds(second) and second.holds(first):
        assert first == second


def test_fewer_and_larger_heads_are_no_slice() -> None:
    whole = Architecture(2, 48, 96, 4, 48)
    assert whole.holds(Architecture(2, 48, 96, 2, 24))
    assert not whole.holds(Architecture(2, 48, 96, 2, 48)), "heads of 24 dimensions, not of 12"
    assert not whole.holds(Architecture(2, 48, 96, 6, 48)), "six heads, not four"
