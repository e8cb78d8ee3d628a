"""Values out of JSON, each of the kind that a reader expects or refused.

`int`, `float`, `str`, `dict` and `tuple` take too much: `int("3")`, `int(3.7)`, `float(True)`,
`str(None)`, `map(int, "123")`. A document that was edited by hand would be read as something that
nobody wrote.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def parse_json(text: str | bytes) -> Any:
    """Parses JSON; a key that stands in an object twice, NaN and infinity are refused.

    Raises:
        ValueError: if it is not valid JSON, or one of those.
        RecursionError: if it is nested too deep.
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def integer(value: object, *, lowest: int = 0, highest: int = 2**63 - 1) -> int:
    """An integer within bounds.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ValueError(f"{_brief(value)} is no integer from {lowest} to {highest}")
    return value


def number(value: object, *, lowest: float = -math.inf) -> float:
    """A finite number, an integer too.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_brief(value)} is no number")
    try:
        found = float(value)
    except OverflowError as error:
        raise ValueError(f"{_brief(value)} is too large a number") from error
    if not (math.isfinite(found) and found >= lowest):
        raise ValueError(f"{_brief(value)} is no finite number from {lowest:g} on")
    return found


def text(value: object) -> str:
    """A text that can be written to a file.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(value, str):
        raise ValueError(f"{_brief(value)} is no text")
    value.encode()  # JSON can hold halves of characters; UnicodeEncodeError is a ValueError
    return value


def mapping(value: object) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{_brief(value)} is no object")
    return value


def items(value: object, of: Callable[[Any], T]) -> list[T]:
    """A JSON list, each of whose items is read with `of`.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"{_brief(value)} is no list")
    return [of(item) for item in value]


def optional(value: object, of: Callable[[Any], T]) -> T | None:
    """None, or what `of` reads."""
    return None if value is None else of(value)


def _brief(value: object) -> str:
    found = repr(value)
    return found if len(found) <= 40 else f"{found[:37]}..."
