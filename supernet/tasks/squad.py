"""Reads SQuAD 1.1 and 2.0 from their official JSON files.

Sources: Rajpurkar et al., 2016 (1.1) and 2018 (2.0). A file is `version` and `data`, a list of
articles; an article has `paragraphs`; a paragraph has a `context` and `qas`; one of these has an
`id`, a `question`, `answers` (`text`, `answer_start` in characters of the context) and, in 2.0,
`is_impossible`. `plausible_answers`, titles and unknown keys are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from autotinybert.errors import InputError
from autotinybert.values import integer, items, mapping, optional, parse_json, text

T = TypeVar("T")

# Published answers are off by a character here and there.
_SLACK_CHARS = 2


@dataclass(frozen=True)
class Answer:
    """An answer that a person marked.

    Attributes:
        text: as it stands in the context.
        start_char: where it begins there.
    """

    text: str
    start_char: int


@dataclass(frozen=True)
class Question:
    """A question on a context.

    Attributes:
        id: its name in every file of predictions.
        text: the question.
        context: what it is answered from.
        answers: of all who were asked; none where the context does not answer it.
    """

    id: str
    text: str
    context: str
    answers: tuple[Answer, ...]

    def locate(self, answer: Answer) -> tuple[int, int] | None:
        """Where an answer begins and ends in the context, in characters; None if it is not there.

        One that is not exactly where the file says is looked for up to two characters away.
        """
        for slack in sorted(range(-_SLACK_CHARS, _SLACK_CHARS + 1), key=abs):
            start = answer.start_char + slack
            if start >= 0 and answer.text and self.context.startswith(answer.text, start):
                return start, start + len(answer.text)
        return None


@dataclass(frozen=True)
class SquadData:
    """What a file holds.

    Attributes:
        version: as the file names it, such as `1.1` or `v2.0`; empty if it does not.
        questions: in the order of the file.
        may_lack_answers: whether a question may have no answer: it is of 2.0, or one has none.
    """

    version: str
    questions: tuple[Question, ...]
    may_lack_answers: bool


@dataclass(frozen=True)
class _Place:
    """A value of a file, and where it stands in it."""

    value: object
    where: str

    def __getitem__(self, key: str) -> _Place:
        """The value of an object's key; None where there is no such key."""
        where = f"{self.where}.{key}" if self.where else key
        return _Place(self.read(mapping).get(key), where)

    def each(self) -> Iterator[_Place]:
        """The items of a list."""
        for index, value in enumerate(self.read(lambda value: items(value, lambda item: item))):
            yield _Place(value, f"{self.where}[{index}]")

    def read(self, of: Callable[[object], T]) -> T:
        """The value as `of` reads it.

        Raises:
            ValueError: if it is anything else, saying where.
        """
        try:
            return of(self.value)
        except ValueError as error:
            raise self.refusal(str(error)) from error

    def refusal(self, why: str) -> ValueError:
        """An error that says where."""
        return ValueError(f"{self.where or 'the whole'}: {why}")


def read_squad(path: Path) -> SquadData:
    """Reads an official file of SQuAD 1.1 or 2.0.

    Raises:
        InputError: if it cannot be read or is malformed, saying where.
    """
    try:
        root = _Place(parse_json(path.read_bytes()), "")
        version = root["version"].read(lambda value: optional(value, text)) or ""
        questions = tuple(_questions(root))
        _check_ids(questions)
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; name a JSON file of SQuAD"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no file of SQuAD ({error}): give an official one, such as train-v1.1.json"
        ) from error
    may_lack = version.removeprefix("v").startswith("2") or not all(q.answers for q in questions)
    return SquadData(version, questions, may_lack)


def _questions(root: _Place) -> Iterator[Question]:
    for article in root["data"].each():
        for paragraph in article["paragraphs"].each():
            context = paragraph["context"].read(text)
            if not context.strip():
                raise paragraph["context"].refusal("it is empty")
            for place in paragraph["qas"].each():
                yield _question(place, context)


def _question(place: _Place, context: str) -> Question:
    answers = tuple(_answer(found, context) for found in place["answers"].each())
    is_impossible = place["is_impossible"].read(_optional_truth)
    if is_impossible and answers:
        raise place.refusal("it is marked is_impossible and has answers")
    if not (is_impossible or answers):
        raise place.refusal("it has no answers and is not marked is_impossible")
    return Question(place["id"].read(text), place["question"].read(text), context, answers)


def _answer(place: _Place, context: str) -> Answer:
    start = place["answer_start"]
    return Answer(
        place["text"].read(text),
        start.read(lambda value: integer(value, highest=len(context))),
    )


def _optional_truth(value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value is True


def _check_ids(questions: tuple[Question, ...]) -> None:
    if not questions:
        raise ValueError("it has no questions")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise ValueError(f"the question id {question.id!r} stands there twice")
        seen.add(question.id)
