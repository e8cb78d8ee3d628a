"""The official metrics of SQuAD: what `evaluate-v1.1.py` and `evaluate-v2.0.py` print.

Both compare answers after lower case, without punctuation and articles, and take the best over
all gold answers: `exact`, whether they are equal, and `f1`, over their words. They differ where
nothing is left of an answer (two such answers share no word in 1.1 and are equal in 2.0) and where
a prediction is missing (it counts as wrong in 1.1 and is left out in 2.0).

Scores are in percent.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from autotinybert.errors import InputError
from supernet.tasks.squad import Question

# The threshold of `evaluate-v2.0.py`, made for probabilities.
OFFICIAL_NULL_THRESHOLD = 1.0

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(answer: str) -> str:
    """An answer in lower case, without punctuation, articles and more than single spaces."""
    bare = answer.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_score(gold: str, predicted: str) -> float:
    """1 if two answers are equal after `normalize_answer`, else 0."""
    return float(normalize_answer(gold) == normalize_answer(predicted))


def f1_score(gold: str, predicted: str) -> float:
    """The F1 of the words of two answers, as in 2.0: 1 if no word is left of either."""
    gold_words, words = normalize_answer(gold).split(), normalize_answer(predicted).split()
    if not (gold_words and words):
        return float(gold_words == words)
    shared = sum((Counter(gold_words) & Counter(words)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(words), shared / len(gold_words)
    return (2 * precision * recall) / (precision + recall)


@dataclass(frozen=True)
class QuestionScores:
    """What each question scores, from 0 to 1, by its id.

    Attributes:
        exact: whether its prediction equals a gold answer.
        f1: the best F1 over its gold answers.
    """

    exact: Mapping[str, float]
    f1: Mapping[str, float]


def squad1_metrics(
    questions: Sequence[Question], predictions: Mapping[str, str]
) -> dict[str, float]:
    """`exact_match` and `f1`, as `evaluate-v1.1.py` computes them.

    Args:
        questions: those that are asked; a missing prediction is a wrong one.
        predictions: an answer by question id.
    """
    exact = f1 = 0.0
    for question in questions:
        if question.id in predictions:
            predicted = predictions[question.id]
            golds = [answer.text for answer in question.answers]
            exact += max((exact_score(gold, predicted) for gold in golds), default=0.0)
            if normalize_answer(predicted):
                f1 += max((f1_score(gold, predicted) for gold in golds), default=0.0)
    return {"exact_match": 100 * exact / len(questions), "f1": 100 * f1 / len(questions)}


def squad2_metrics(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float] | None = None,
    *,
    null_threshold: float = OFFICIAL_NULL_THRESHOLD,
) -> dict[str, float]:
    """What `evaluate-v2.0.py` prints, under its names.

    Args:
        questions: those that are asked; one without a prediction is left out.
        predictions: an answer by question id; empty for none.
        null_odds: how much more likely each question is thought to have no answer.
        null_threshold: a prediction whose odds are above it counts as empty.

    Returns:
        `exact`, `f1`, `total`; the same of questions with answers (`HasAns_`) and without
        (`NoAns_`), where there are any; and with `null_odds`, `best_exact`, `best_f1` and the
        thresholds that give them (`best_exact_thresh`, `best_f1_thresh`).

    Raises:
        InputError: if nothing is predicted, or the odds of a prediction are missing.
    """
    scores = score_questions(questions, predictions)
    if not scores.exact:
        raise InputError("no question has a prediction: give those of the same file of questions")
    if null_odds is not None:
        missing = [name for name in scores.exact if name not in null_odds]
        if missing:
            raise InputError(f"the null odds of question {missing[0]!r} are missing")
    without = {question.id for question in questions if not question.answers}
    empty = {
        name for name in scores.exact if null_odds is not None and null_odds[name] > null_threshold
    }
    final = QuestionScores(
        _emptied(scores.exact, empty, without), _emptied(scores.f1, empty, without)
    )
    with_answers = [question.id for question in questions if question.id not in without]
    found = _averages(final, scores.exact, "")
    for prefix, names in (("HasAns_", with_answers), ("NoAns_", without)):
        names = [name for name in names if name in scores.exact]
        if names:
            found |= _averages(final, names, prefix)
    if null_odds is not None:
        for name, raw in (("exact", scores.exact), ("f1", scores.f1)):
            best, threshold = best_threshold(raw, predictions, null_odds, without)
            found |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    return found


def score_questions(
    questions: Sequence[Question], predictions: Mapping[str, str]
) -> QuestionScores:
    """The scores of 2.0 of each question that has a prediction.

    Gold answers of which nothing is left after `normalize_answer` do not count; where there is no
    other, the gold answer is empty.
    """
    exact, f1 = {}, {}
    for question in questions:
        if question.id in predictions:
            texts = [answer.text for answer in question.answers]
            golds = [text for text in texts if normalize_answer(text)] or [""]
            predicted = predictions[question.id]
            exact[question.id] = max(exact_score(gold, predicted) for gold in golds)
            f1[question.id] = max(f1_score(gold, predicted) for gold in golds)
    return QuestionScores(exact, f1)


def best_threshold(
    scores: Mapping[str, float],
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float],
    without: Collection[str],
) -> tuple[float, float]:
    """The best mean score, in percent, that a threshold on the null odds gives, and the threshold.

    Questions are taken in the order of their odds, those with equal odds in the order of
    `null_odds`. Before the first, every prediction counts as empty, at threshold 0; each one then
    answered adds its score, or takes away that of an empty answer.

    Args:
        scores: of each question, from 0 to 1, as predicted.
        predictions: an answer by question id.
        null_odds: of each question.
        without: the ids of questions without an answer.
    """
    # As in evaluate-v2.0.py, which counts those without a prediction here too.
    score = best = float(len(without))
    threshold = 0.0
    for name in sorted(null_odds, key=lambda name: null_odds[name]):
        if name not in scores:
            continue
        if name not in without:
            score += scores[name]
        elif predictions[name]:
            score -= 1
        if score > best:
            best, threshold = score, null_odds[name]
    return 100 * best / len(scores), threshold


def _emptied(
    scores: Mapping[str, float], empty: Collection[str], without: Collection[str]
) -> dict[str, float]:
    """The scores where some predictions count as empty."""
    return {
        name: float(name in without) if name in empty else score for name, score in scores.items()
    }


def _averages(scores: QuestionScores, names: Collection[str], prefix: str) -> dict[str, float]:
    return {
        f"{prefix}exact": 100 * sum(scores.exact[name] for name in names) / len(names),
        f"{prefix}f1": 100 * sum(scores.f1[name] for name in names) / len(names),
        f"{prefix}total": len(names),
    }
