"""From the logits of starts and ends to answers, and the files that the official scripts read.

As BERT's `run_squad.py` (Devlin et al., 2019), but every span that is allowed is considered, not
those of the best starts and ends alone. Of spans that score the same, the one in the earlier
window comes first, then the one that begins earlier, then the shorter one.

Shape letters: S tokens of a feature, C tokens of its window of the context, A tokens of the
longest answer allowed.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.files import whole_file
from supernet.tasks.squad import Question
from supernet.tasks.squad_features import CLS_PLACE, SpanFeature

PREDICTIONS_FILE = "predictions.json"
N_BEST_FILE = "nbest_predictions.json"
NULL_ODDS_FILE = "null_odds.json"
SQUAD_FILES = (PREDICTIONS_FILE, N_BEST_FILE, NULL_ODDS_FILE)

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """How answers are chosen.

    Attributes:
        n_best_size: answers of a question that are kept.
        max_answer_length: the most tokens of an answer.
        null_threshold: the answer is "none" where its score is higher than the best answer's by
            more than this.

    Raises:
        InputError: if a value makes no sense.
    """

    n_best_size: int = 20
    max_answer_length: int = 30
    null_threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_best_size", "max_answer_length"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name.replace('_', ' ')} must be at least 1, not {getattr(self, name)}"
                )
        if not math.isfinite(self.null_threshold):
            raise InputError(f"null threshold must be a number, not {self.null_threshold}")


@dataclass(frozen=True)
class Candidate:
    """An answer to a question, as a file lists it.

    Attributes:
        text: as it stands in the context; empty for "none".
        probability: among those listed.
        start_logit: of its first token.
        end_logit: of its last.
    """

    text: str
    probability: float
    start_logit: float
    end_logit: float


@dataclass(frozen=True)
class SquadAnswers:
    """Answers by question id, in the order of the questions.

    Attributes:
        predictions: the answer given; empty for "none".
        n_best: the best candidates of each, the best first.
        null_odds: the score of "none" less the best answer's; None where all have answers.
        answered: the best answer that is not "none"; empty where a context has no words.
    """

    predictions: dict[str, str]
    n_best: dict[str, list[Candidate]]
    null_odds: dict[str, float] | None
    answered: dict[str, str]


class _Span(NamedTuple):
    """A span of a context; in the order of these, the best first."""

    lost: float  # minus its score
    feature: int
    start: int
    end: int
    start_logit: float
    end_logit: float


class _Scored(NamedTuple):
    """An answer, or none, and its logits."""

    text: str
    start_logit: float
    end_logit: float

    @property
    def score(self) -> float:
        return self.start_logit + self.end_logit


def decode_spans(
    questions: Sequence[Question],
    features: Sequence[SpanFeature],
    logits: Sequence[FloatArray],
    settings: DecodingSettings,
    *,
    may_lack_answers: bool,
) -> SquadAnswers:
    """Answers questions.

    Args:
        questions: those that the features are of.
        features: of `asked_features`.
        logits: of starts and ends, `[S, 2]` for each feature.
        settings: how.
        may_lack_answers: whether "none" is an answer.
    """
    of_question: list[list[tuple[SpanFeature, FloatArray]]] = [[] for _ in questions]
    for feature, values in zip(features, logits, strict=True):
        of_question[feature.question].append((feature, values))
    found = SquadAnswers({}, {}, {} if may_lack_answers else None, {})
    for question, parts in zip(questions, of_question, strict=True):
        best = _n_best(question.context, parts, settings)
        answer = best[0] if best else _Scored("", 0.0, 0.0)
        found.answered[question.id] = found.predictions[question.id] = answer.text
        if found.null_odds is not None:
            none = _none(parts)
            odds = none.score - answer.score
            found.null_odds[question.id] = odds
            if odds > settings.null_threshold:
                found.predictions[question.id] = ""
            best = sorted([*best, none], key=lambda scored: -scored.score)
        found.n_best[question.id] = _candidates(best or [answer])
    return found


def write_answers(folder: Path, answers: SquadAnswers) -> None:
    """Writes the files that the official scripts read; that of null odds for 2.0 alone.

    Raises:
        InputError: if the folder cannot be written.
    """
    n_best = {
        name: [asdict(candidate) for candidate in found] for name, found in answers.n_best.items()
    }
    files: dict[str, object] = {PREDICTIONS_FILE: answers.predictions, N_BEST_FILE: n_best}
    if answers.null_odds is not None:
        files[NULL_ODDS_FILE] = answers.null_odds
    for name, value in files.items():
        with whole_file(folder / name) as file:
            json.dump(value, file, indent=4, allow_nan=False)
            file.write("\n")


def _n_best(
    context: str, parts: Sequence[tuple[SpanFeature, FloatArray]], settings: DecodingSettings
) -> list[_Scored]:
    """The best answers of a question, of every text the best span alone."""
    found: dict[str, _Scored] = {}
    orders = [
        _spans(number, feature, values, settings.max_answer_length)
        for number, (feature, values) in enumerate(parts)
    ]
    for span in heapq.merge(*orders):
        offsets = parts[span.feature][0].offsets
        # Byte-level tokens hold the space before them.
        text = context[offsets[span.start, 0] : offsets[span.end, 1]].strip()
        if text and text not in found:
            found[text] = _Scored(text, span.start_logit, span.end_logit)
            if len(found) == settings.n_best_size:
                break
    return list(found.values())


def _spans(
    number: int, feature: SpanFeature, logits: FloatArray, max_answer_length: int
) -> Iterator[_Span]:
    """The spans of a window that begin in their best context, the best first."""
    count = len(feature.offsets)
    inside = slice(feature.context_place, feature.context_place + count)
    starts, ends = logits[inside].astype(np.float64).T
    longest = min(max_answer_length, count)
    if not longest:
        return
    padded = np.concatenate([ends, np.full(longest - 1, -np.inf)])
    # [C, A]: of every start, the ends of answers of 1 to A tokens.
    scores = starts[:, None] + np.lib.stride_tricks.sliding_window_view(padded, longest)
    scores[~feature.is_max_context] = -np.inf
    flat = scores.ravel()
    for place in np.argsort(-flat, kind="stable").tolist():
        if flat[place] == -np.inf:
            return
        start, more = divmod(place, longest)
        end = start + more
        yield _Span(-float(flat[place]), number, start, end, float(starts[start]), float(ends[end]))


def _none(parts: Sequence[tuple[SpanFeature, FloatArray]]) -> _Scored:
    """What "none" scores: the lowest of all windows, since one that has an answer is enough."""
    found = [_Scored("", *map(float, values[CLS_PLACE])) for _, values in parts]
    return min(found, key=lambda scored: scored.score)


def _candidates(scored: Sequence[_Scored]) -> list[Candidate]:
    scores = np.array([found.score for found in scored])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    return [
        Candidate(found.text, float(share), found.start_logit, found.end_logit)
        for found, share in zip(scored, shares, strict=True)
    ]
