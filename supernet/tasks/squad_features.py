"""Questions on contexts as tokens: windows of a context, each with the question before it.

A context that does not fit is cut into windows that overlap, as in BERT's `run_squad.py` (Devlin et
al., 2019). A token of several windows counts in the one in which it has most context on its poorer
side.

Shape letters: S tokens of a feature, C tokens of its window of the context.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from supernet.packing import plain_tokenizer
from supernet.tasks.squad import Question
from supernet.tokenizer_roles import Frame, frame_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Where "no answer" points to: the first token of every sequence.
CLS_PLACE = 0

# What the length of a window is worth beside the context in it, in `run_squad.py`.
_LENGTH_WORTH = 0.01


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """How questions become features.

    Attributes:
        sequence_length: the most tokens of a feature, the special ones among them.
        doc_stride: tokens from the beginning of a window to that of the next.
        max_query_length: the most tokens of a question; the rest is cut off.

    Raises:
        InputError: if a value is below 1.
    """

    sequence_length: int = 384
    doc_stride: int = 128
    max_query_length: int = 64

    def __post_init__(self) -> None:
        for name in ("sequence_length", "doc_stride", "max_query_length"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name.replace('_', ' ')} must be at least 1, not {getattr(self, name)}"
                )


@dataclass(frozen=True, eq=False)
class SpanFeature:
    """A question and a window of its context.

    Attributes:
        question: its index among the questions.
        input_ids: int32 `[S]`.
        second_segment: where token type 1 begins; S if all are 0.
        context_place: where the window begins.
        offsets: int32 `[C, 2]`, the characters of the context that each token stands for.
        is_max_context: bool `[C]`, whether no other window gives a token more context.
        start: the place of the answer's first token; `CLS_PLACE` if it is not whole in here.
        end: the place of its last.
    """

    question: int
    input_ids: npt.NDArray[np.int32]
    second_segment: int
    context_place: int
    offsets: npt.NDArray[np.int32]
    is_max_context: npt.NDArray[np.bool_]
    start: int = CLS_PLACE
    end: int = CLS_PLACE


@dataclass(frozen=True)
class Window:
    """A stretch of a context's tokens.

    Attributes:
        start: its first token.
        length: how many.
    """

    start: int
    length: int


def windows_of(tokens: int, room: int, stride: int) -> list[Window]:
    """The windows of a context; the last one ends with it, and none leaves a gap.

    Args:
        tokens: of the context.
        room: the most of a window.
        stride: from the beginning of one to that of the next.
    """
    found = [Window(0, min(tokens, room))]
    while found[-1].start + found[-1].length < tokens:
        start = found[-1].start + min(room, stride)
        found.append(Window(start, min(tokens - start, room)))
    return found


def max_context(windows: Sequence[Window], tokens: int) -> npt.NDArray[np.int64]:
    """The index of the window in which each token has most context, the first of equals."""
    worth = np.full((len(windows), tokens), -np.inf)
    for index, window in enumerate(windows):
        left = np.arange(window.length)
        poorer = np.minimum(left, window.length - 1 - left)
        inside = slice(window.start, window.start + window.length)
        worth[index, inside] = poorer + _LENGTH_WORTH * window.length
    return np.asarray(worth.argmax(0))


def training_features(
    questions: Sequence[Question], tokenizer: Tokenizer, settings: FeatureSettings
) -> tuple[list[SpanFeature], int]:
    """The features of questions, with the place of the first answer of each.

    A question is left out whose first answer is not in its context.

    Returns:
        The features, and how many questions were left out.

    Raises:
        InputError: if the settings leave no room for a context, or no question is left.
    """
    spans = [
        question.locate(question.answers[0]) if question.answers else None for question in questions
    ]
    kept = [
        index
        for index, (question, span) in enumerate(zip(questions, spans, strict=True))
        if span is not None or not question.answers
    ]
    if not kept:
        raise InputError(
            "no question has its answer in its context: check answer_start, which counts characters"
        )
    return _features(questions, kept, tokenizer, settings, spans.__getitem__), (
        len(questions) - len(kept)
    )


def asked_features(
    questions: Sequence[Question], tokenizer: Tokenizer, settings: FeatureSettings
) -> list[SpanFeature]:
    """The features of questions that are to be answered.

    Raises:
        InputError: if the settings leave no room for a context.
    """
    return _features(questions, range(len(questions)), tokenizer, settings, lambda _: None)


def _features(
    questions: Sequence[Question],
    indices: Sequence[int],
    tokenizer: Tokenizer,
    settings: FeatureSettings,
    span_of: Callable[[int], tuple[int, int] | None],
) -> list[SpanFeature]:
    # What a context spells out is text, even the name of a special token.
    plain, frame = plain_tokenizer(tokenizer), frame_of(tokenizer)
    if frame is None:
        raise InputError("the tokenizer puts nothing around two texts: give one of BERT's kind")
    if settings.sequence_length - settings.max_query_length - frame.pair < 1:
        raise InputError(
            f"a sequence length of {settings.sequence_length} leaves no room for a context beside "
            f"{settings.max_query_length} tokens of a question: lower the max query length"
        )
    found: list[SpanFeature] = []
    context, tokens = "", _Tokens([], np.zeros((0, 2), dtype=np.int32))
    for index in indices:
        question = questions[index]
        if question.context != context:  # the questions on one stand together
            context, tokens = question.context, _tokens(plain, question.context)
        query = plain.encode(question.text, add_special_tokens=False).ids
        query = query[: settings.max_query_length]
        found.extend(_windows(index, query, tokens, frame, settings, span_of(index)))
    return found


@dataclass(frozen=True)
class _Tokens:
    """A context's tokens: ids, and the characters of each `[N, 2]`."""

    ids: list[int]
    offsets: npt.NDArray[np.int32]


def _tokens(tokenizer: Tokenizer, context: str) -> _Tokens:
    encoded = tokenizer.encode(context, add_special_tokens=False)
    return _Tokens(encoded.ids, np.array(encoded.offsets, dtype=np.int32).reshape(-1, 2))


def _windows(
    index: int,
    query: list[int],
    tokens: _Tokens,
    frame: Frame,
    settings: FeatureSettings,
    span: tuple[int, int] | None,
) -> Iterator[SpanFeature]:
    """The features of one question."""
    head = [*frame.before, *query, *frame.between]
    room = settings.sequence_length - len(head) - len(frame.after_pair)
    windows = windows_of(len(tokens.ids), room, settings.doc_stride)
    best = max_context(windows, len(tokens.ids))
    answer = None if span is None else _tokens_of(span, tokens.offsets)
    for number, window in enumerate(windows):
        inside = slice(window.start, window.start + window.length)
        ids = np.array([*head, *tokens.ids[inside], *frame.after_pair], dtype=np.int32)
        segment = math.inf if frame.first_segment is None else frame.first_segment
        start, end = _places(answer, window, len(head))
        yield SpanFeature(
            question=index,
            input_ids=ids,
            second_segment=int(min(len(frame.before) + len(query) + segment, len(ids))),
            context_place=len(head),
            offsets=tokens.offsets[inside],
            is_max_context=best[inside] == number,
            start=start,
            end=end,
        )


def _tokens_of(span: tuple[int, int], offsets: npt.NDArray[np.int32]) -> tuple[int, int] | None:
    """The first and the last token that share a character with a span; None if none does."""
    inside = np.flatnonzero((offsets[:, 1] > span[0]) & (offsets[:, 0] < span[1]))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def _places(answer: tuple[int, int] | None, window: Window, context_place: int) -> tuple[int, int]:
    """Where the tokens of an answer stand in a feature."""
    if answer is None:
        return CLS_PLACE, CLS_PLACE
    first, last = answer
    if first < window.start or last >= window.start + window.length:
        return CLS_PLACE, CLS_PLACE
    shift = context_place - window.start
    return first + shift, last + shift
