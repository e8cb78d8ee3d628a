"""Mutations of files, for tests that drive readers with them: of bytes, lines and JSON values."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from autotinybert.errors import AutoTinyBertError
from autotinybert.files import canonical_json, sha256_text

# How long a reader of a small file may take before it counts as hung.
_LONGEST_S = 60

QUICK = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(QUICK, max_examples=1000)

REFUSED = object()


@contextlib.contextmanager
def _no_hang() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise AssertionError(f"the reader hangs: no answer within {_LONGEST_S} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def outcome(read: Callable[[], object]) -> object:
    """What a reader returns, or `REFUSED` where it says in one line what is wrong.

    Anything else that it raises goes through, and fails the test.
    """
    with _no_hang():
        try:
            return read()
        except AutoTinyBertError as error:
            return REFUSED if str(error).strip() else "an error without a message"


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` cut short, or with bytes or lines changed, added, removed or swapped."""
    position = draw(st.integers(0, len(content)))
    kind = draw(st.sampled_from(("cut", "change", "insert", "delete", "swap", "repeat")))
    if kind == "cut":
        return content[:position]
    if kind == "change":
        return content[:position] + bytes([draw(st.integers(0, 255))]) + content[position + 1 :]
    if kind == "insert":
        odd = st.sampled_from(
            (b"\0", b"\xff\xfe", b"\n", b'"', b",", b"{", b"9" * 400, b"[" * 5000)
        )
        added = draw(st.one_of(st.binary(min_size=1, max_size=4), odd))
        return content[:position] + added + content[position:]
    if kind == "delete":
        return content[:position] + content[position + draw(st.integers(1, 40)) :]
    lines = content.splitlines(keepends=True)
    first, second = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    if kind == "repeat":
        lines.insert(first, lines[second])
    else:
        lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


Path_ = tuple[str | int, ...]


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# What no reader expects; each is of valid JSON.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "text", "1", "\0", "\ud800", "x" * 5000, "../../etc/passwd"),
    *(0, -1, 1, 2**31, 2**63, 10**30, 10**400, -(10**400)),
    *(0.0, -0.5, 1.5, 1e308, -1e308, 5e-324),
    *([], [1], [[]], {}, {"a": 1}),
)


@dataclass(frozen=True)
class Change:
    """What was done to a JSON value: where, and what stands there now (nothing if removed)."""

    where: Path_
    value: Any
    removed: bool
    document: Any

    def of_another_kind(self, original: Any) -> bool:
        """Whether no reader may take what stands there now for what stood there."""
        holder: Any = None
        for key in self.where:
            holder, original = original, original[key]
        if self.removed:  # a list may be shorter; an object lacks a key
            return isinstance(holder, dict)
        return _kind(original) != _kind(self.value)

    def touches(self, prefixes: Sequence[Path_]) -> bool:
        """Whether it lies within one of these places; `*` stands for any key or index."""
        return any(
            len(prefix) <= len(self.where)
            and all(key in ("*", at) for key, at in zip(prefix, self.where, strict=False))
            for prefix in prefixes
        )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _places(value: Any, where: Path_ = ()) -> Iterator[Path_]:
    if where:
        yield where
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*where, key))
    elif isinstance(value, list):
        for index in {0, len(value) // 2, len(value) - 1} - {-1}:
            if value:
                yield from _places(value[index], (*where, index))


@st.composite
def changed_json(draw: st.DrawFn, document: Any) -> Change:
    """A JSON value with one value in it removed, or replaced by an odd one."""
    # The places near the root first: there are few of them, and they matter most.
    by_depth: dict[int, list[Path_]] = {}
    for place in _places(document):
        by_depth.setdefault(len(place), []).append(place)
    where = draw(st.sampled_from(by_depth[draw(st.sampled_from(sorted(by_depth)))]))
    changed = copy.deepcopy(document)
    holder = changed
    for key in where[:-1]:
        holder = holder[key]
    if draw(st.integers(0, 4)) == 0:
        del holder[where[-1]]
        return Change(where, None, True, changed)
    value = draw(
        st.one_of(st.sampled_from(ODD_VALUES), st.builds(_deep, st.sampled_from((3, 300))))
    )
    holder[where[-1]] = value
    return Change(where, value, False, changed)


def sign(document: dict[str, Any]) -> str:
    """The text of a document, signed by somebody who knows how to."""
    bare = {name: value for name, value in document.items() if name != "sha256"}
    return json.dumps({**bare, "sha256": sha256_text(canonical_json(bare))})


def with_duplicate_key(text: str, name: str) -> str:
    """The text of a JSON object whose key `name` stands there twice, first with another value."""
    return "{" + f"{json.dumps(name)}: 0, " + text.lstrip().removeprefix("{")


def picture(value: Any) -> Any:
    """A value in a form that compares by contents: arrays as lists, objects as their fields."""
    if isinstance(value, dict):
        return {str(name): picture(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [picture(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if hasattr(value, "tolist"):
        return picture(value.tolist())
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: picture(getattr(value, name)) for name in names}
    return value
