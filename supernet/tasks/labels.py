"""Names of labels: a file's matched to those of a model, which may have them in another order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from autotinybert.errors import InputError

# What Hugging Face calls labels that were given no name.
_NUMBERED = re.compile(r"label_(\d+)")


def distinct_labels(values: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels of a file in order: by number where all are integers, else by name."""
    found = set(values)
    if all(re.fullmatch(r"[+-]?\d+", value) for value in found):
        return tuple(sorted(found, key=lambda value: (int(value), value)))
    return tuple(sorted(found))


class LabelNames:
    """The labels of a model, found by name, or by number.

    Args:
        names: in the order of its outputs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._exact = {name: index for index, name in enumerate(self.names)}
        self._same = {_plain(name): index for index, name in enumerate(self.names)}
        if len(self._same) != len(self._exact):  # names that differ in nothing but their case
            self._same = {}

    @property
    def are_numbers_alone(self) -> bool:
        """Whether the names say no more than the order does: `LABEL_0`, `0`."""
        return all(_number_in(name) == index for index, name in enumerate(self.names))

    def index(self, label: str, *, numbered: bool = True) -> int | None:
        """The output that a label stands for; None if it is none of them.

        Args:
            label: a name, in any case; or `LABEL_i`, or the number of an output.
            numbered: whether a number that is no name is the number of an output.
        """
        if label in self._exact:
            return self._exact[label]
        if _plain(label) in self._same:
            return self._same[_plain(label)]
        number = _number_in(label) if numbered else None
        return number if number is not None and number < len(self.names) else None

    def index_at(self, label: str, where: str) -> int:
        """The same for a label at a place in a file.

        Raises:
            InputError: if it is none of them, naming the place and what is known.
        """
        found = self.index(label)
        if found is None:
            known = ", ".join(self.names[:20]) + (", ..." if len(self.names) > 20 else "")
            raise InputError(f"{where} has the label {label!r}: use one of {known}")
        return found

    def order_of(self, others: Sequence[str], what: str) -> tuple[int, ...]:
        """The output for each of a task's labels.

        Args:
            others: the task's, in its own order.
            what: the task, for messages.

        Raises:
            InputError: if they are not the same labels.
        """
        if len(others) == len(self.names) and self.are_numbers_alone:
            return tuple(range(len(others)))
        found = [self.index(name, numbered=False) for name in others]
        if len(others) != len(self.names) or None in found or len(set(found)) != len(found):
            raise InputError(
                f"a model with the labels {', '.join(self.names)} does not answer {what}, whose "
                f"labels are {', '.join(others)}: rename its labels"
            )
        return tuple(index for index in found if index is not None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def _number_in(name: str) -> int | None:
    plain = _plain(name)
    numbered = _NUMBERED.fullmatch(plain)
    digits = numbered.group(1) if numbered else plain
    return int(digits) if re.fullmatch(r"[0-9]{1,9}", digits) else None
