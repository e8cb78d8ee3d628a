"""Every expected score is worked out by hand from the rules of the official scripts."""

from __future__ import annotations

import pytest

from autotinybert.errors import InputError
from supernet.tasks.squad import Answer, Question
from supernet.tasks.squad_metrics import (
    best_threshold,
    exact_score,
    f1_score,
    normalize_answer,
    squad1_metrics,
    squad2_metrics,
)


def question(name: str, *golds: str) -> Question:
    return Question(name, "?", "a context", tuple(Answer(gold, 0) for gold in golds))


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The Eiffel  Tower.", "eiffel tower"),
        ("an apple, a day", "apple day"),
        ("U.S.A.", "usa"),
        ("mother-in-law", "motherinlaw"),
        ("theatre another", "theatre another"),
        ("\ta\n", ""),
        ("the the", ""),
        ("\u201cQuoted\u201d", "\u201cquoted\u201d"),  # only ASCII punctuation goes
        ("a.b", "ab"),  # punctuation goes before articles
    ],
)
def test_answers_are_compared_without_case_punctuation_articles_and_spaces(
    answer: str, normal: str
) -> None:
    assert normalize_answer(answer) == normal


@pytest.mark.parametrize(
    ("gold", "predicted", "exact", "f1"),
    [
        ("The Tower", "tower!", 1, 1),
        ("Gustave Eiffel", "Eiffel", 0, 2 / 3),  # P 1, R 1/2
        ("in 1889", "built in the year 1889", 0, 2 / 3),  # P 2/4, R 1
        ("new york new york", "new york", 0, 2 / 3),  # words count as often as they stand
        ("Paris", "London", 0, 0),
        ("", "", 1, 1),
        ("the", "a", 1, 1),
        ("", "Paris", 0, 0),
        ("Paris", "", 0, 0),
    ],
)
def test_exact_and_f1_of_one_pair(gold: str, predicted: str, exact: float, f1: float) -> None:
    assert exact_score(gold, predicted) == exact
    assert f1_score(gold, predicted) == pytest.approx(f1)


def test_version_1_takes_the_best_of_several_golds_and_counts_what_is_missing_as_wrong() -> None:
    questions = [
        question("a", "Gustave Eiffel", "Eiffel", "an engineer"),
        question("b", "in 1889", "1889 or so"),
        question("c", "Paris"),
        question("d", "the"),
    ]
    found = squad1_metrics(questions, {"a": "eiffel", "b": "the year 1889", "d": "a"})
    # b: "year 1889" shares one word: 2*1/(2+2) with the first, 2*1/(2+3) with the second.
    # d: nothing is left of either, which 1.1 calls equal but without a shared word.
    assert found["exact_match"] == pytest.approx(100 * (1 + 0 + 0 + 1) / 4)
    assert found["f1"] == pytest.approx(100 * (1 + 0.5 + 0 + 0) / 4)


QUESTIONS = [
    question("a", "Eiffel"),
    question("b", "in 1889"),
    question("c"),
    question("d"),
    question("e", "the"),  # nothing is left of its gold: an empty answer is right
]
PREDICTIONS = {"a": "Eiffel", "b": "1889", "c": "", "d": "Paris", "e": ""}


def test_version_2_splits_questions_with_and_without_answers() -> None:
    found = squad2_metrics(QUESTIONS, PREDICTIONS)
    assert found == pytest.approx(
        {
            "exact": 100 * 3 / 5,
            "f1": 100 * (1 + 2 / 3 + 1 + 0 + 1) / 5,
            "total": 5,
            "HasAns_exact": 100 * 2 / 3,
            "HasAns_f1": 100 * (1 + 2 / 3 + 1) / 3,
            "HasAns_total": 3,
            "NoAns_exact": 50,
            "NoAns_f1": 50,
            "NoAns_total": 2,
        }
    )


def test_version_2_leaves_out_questions_without_a_prediction() -> None:
    found = squad2_metrics(QUESTIONS, {"a": "Eiffel"})
    assert found["total"] == 1
    assert found["exact"] == 100
    assert "NoAns_total" not in found
    with pytest.raises(InputError, match="no question has a prediction"):
        squad2_metrics(QUESTIONS, {"z": "Eiffel"})


def test_predictions_whose_null_odds_are_above_the_threshold_count_as_empty() -> None:
    odds = {"a": -3.0, "b": 2.0, "c": 4.0, "d": 1.5, "e": 3.0}
    found = squad2_metrics(QUESTIONS, PREDICTIONS, odds)
    # Above 1: b and e, which have answers and lose, and d, which is right to be empty.
    assert found["f1"] == pytest.approx(100 * (1 + 0 + 1 + 1 + 0) / 5)
    found = squad2_metrics(QUESTIONS, PREDICTIONS, odds, null_threshold=2.0)
    assert found["f1"] == pytest.approx(100 * (1 + 2 / 3 + 1 + 0 + 0) / 5)


def test_best_thresholds_worked_by_hand() -> None:
    odds = {"a": -3.0, "b": 2.0, "c": 4.0, "d": 1.5}
    predictions = {name: PREDICTIONS[name] for name in odds}
    found = squad2_metrics(QUESTIONS[:4], predictions, odds)
    # All empty scores 2 (c, d). In the order of the odds: a +1 = 3, d -1 = 2, b adds 0 to the exact
    # score and 2/3 to F1, c is empty and adds nothing. So the best is 3 at -3.
    assert (found["best_exact"], found["best_exact_thresh"]) == (75, -3)
    assert (found["best_f1"], found["best_f1_thresh"]) == (75, -3)
    odds["d"] = 2.5  # behind b, so that F1 goes on to 3 2/3 before it falls
    found = squad2_metrics(QUESTIONS[:4], predictions, odds)
    assert (found["best_exact"], found["best_exact_thresh"]) == (75, -3)
    assert found["best_f1"] == pytest.approx(100 * (3 + 2 / 3) / 4)
    assert found["best_f1_thresh"] == 2


def test_where_no_answer_is_worth_giving_the_best_threshold_is_0() -> None:
    scores = {"a": 0.0, "c": 0.0}
    assert best_threshold(scores, {"a": "x", "c": "y"}, {"a": -1.0, "c": -2.0}, {"c"}) == (50, 0)


def test_null_odds_that_are_missing_are_refused() -> None:
    with pytest.raises(InputError, match="null odds of question 'b' are missing"):
        squad2_metrics(QUESTIONS, PREDICTIONS, {"a": 0.0})
