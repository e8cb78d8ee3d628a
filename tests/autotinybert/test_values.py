from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autotinybert.values import integer, items, mapping, number, optional, parse_json, text


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 2**63, [1], 10**400])
def test_what_is_no_integer_within_bounds_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is no integer from 0"):
        integer(value)


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), 10**400, [1.0]])
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is (no|too large a)"):
        number(value)


@pytest.mark.parametrize("value", [1, None, ["a"], "half a character: \ud800"])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is no text|surrogates not allowed"):
        text(value)


@pytest.mark.parametrize(("read", "value"), [(mapping, []), (mapping, "ab"), (mapping, None)])
def test_what_is_no_object_is_refused(read: Callable[[Any], object], value: object) -> None:
    with pytest.raises(ValueError, match="is no object"):
        read(value)


@pytest.mark.parametrize("value", ["123", {"1": 2}, None, 5])
def test_what_is_no_list_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is no list"):
        items(value, integer)


def test_what_is_right_is_returned_as_it_is() -> None:
    assert (integer(3), number(3), number(-0.5), text("a"), mapping({"a": 1})) == (
        *(3, 3.0, -0.5, "a"),
        {"a": 1},
    )
    assert items([1, 2], integer) == [1, 2]
    assert optional(None, integer) is None
    assert optional(3, integer) == 3
    with pytest.raises(ValueError, match="no integer"):
        optional("3", integer)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "'a' stands there twice"),
        ('[{"x": {"a": 1, "a": 2}}]', "'a' stands there twice"),
        ("[NaN]", "NaN is no number"),
        ("-Infinity", "-Infinity is no number"),
        ("{", "Expecting"),
    ],
)
def test_json_is_read_strictly(content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(content)


def test_equal_keys_of_different_objects_are_fine() -> None:
    assert parse_json('[{"a": 1}, {"a": {"a": 2}}]') == [{"a": 1}, {"a": {"a": 2}}]
