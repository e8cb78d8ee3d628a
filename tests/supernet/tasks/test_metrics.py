"""Metrics against scikit-learn and scipy, by hand, and where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from supernet.tasks.examples import TASKS
from supernet.tasks.metrics import (
    bootstrap_difference,
    bootstrap_interval,
    f1,
    macro_f1,
    matthews,
    pearson,
    primary,
    primary_score,
    scores,
    spearman,
)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels", [2, 3])
def test_classes_are_scored_as_scikit_learn_scores_them(seed: int, labels: int) -> None:
    rng = np.random.default_rng(seed)
    gold, predicted = rng.integers(0, labels, (2, 50))
    assert scores("sst2", gold, predicted)["accuracy"] == pytest.approx(
        100 * reference.accuracy_score(gold, predicted)
    )
    assert matthews(gold, predicted) == pytest.approx(reference.matthews_corrcoef(gold, predicted))
    assert macro_f1(gold, predicted) == pytest.approx(
        reference.f1_score(gold, predicted, average="macro")
    )
    if labels == 2:
        assert f1(gold, predicted) == pytest.approx(reference.f1_score(gold, predicted))


@pytest.mark.parametrize("seed", range(5))
def test_values_are_scored_as_scipy_scores_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 6, 40) / 2  # with ties
    predicted = gold + rng.normal(0, 1, 40).round(1)
    assert pearson(gold, predicted) == pytest.approx(stats.pearsonr(gold, predicted).statistic)
    assert spearman(gold, predicted) == pytest.approx(stats.spearmanr(gold, predicted).statistic)


def test_metrics_by_hand() -> None:
    gold, predicted = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    # Two hits, one miss, one false alarm; one right refusal.
    assert f1(gold, predicted) == pytest.approx(2 / 3)
    assert matthews(gold, predicted) == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))
    assert macro_f1(gold, predicted) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 9.0, 4.0])) == pytest.approx(0.5)


def test_constant_answers_have_a_score() -> None:
    gold, same = np.array([0, 1, 1]), np.array([0, 0, 0])
    assert matthews(gold, same) == 0.0
    assert matthews(same, same) == 0.0
    assert f1(gold, same) == 0.0
    assert f1(same, same) == 0.0
    assert macro_f1(same, same) == 1.0
    for correlation in (pearson, spearman):
        assert correlation(np.array([1.0, 2.0]), np.array([0.1, 0.1])) == 0.0
        assert correlation(np.array([0.1, 0.1, 0.1]), np.array([1.0, 2.0, 3.0])) == 0.0


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_primary_score_of_100_for_right_answers(task: str) -> None:
    gold = np.array([0.5, 1.0, 3.0]) if task == "stsb" else np.array([0, 1, 0, 1])
    assert primary_score(task, gold, gold) == pytest.approx(100)
    found = scores(task, gold, gold)
    assert list(found.values()) == pytest.approx([100] * len(found))
    assert set(primary(task).split(" and ")) <= set(found)


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("CoLA", {"matthews"}),
        ("MNLI", {"accuracy"}),
        ("MRPC", {"accuracy", "f1"}),
        ("QQP", {"accuracy", "f1"}),
        ("STS-B", {"pearson", "spearman"}),
        ("csv", {"accuracy", "macro_f1"}),
    ],
)
def test_tasks_have_their_official_metrics(task: str, names: set[str]) -> None:
    gold = np.array([0, 1, 1, 0])
    assert set(scores(task, gold, gold)) == names


def test_a_primary_score_is_the_mean_where_glue_takes_it() -> None:
    gold, predicted = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    assert primary("mrpc") == "accuracy and f1"
    assert primary_score("mrpc", gold, predicted) == pytest.approx(100 * (3 / 5 + 2 / 3) / 2)
    assert primary("csv") == "accuracy"
    assert primary("csv", regression=True) == primary("stsb") == "pearson and spearman"


def test_f1_is_of_a_paraphrase_in_whatever_order_a_model_has_the_labels() -> None:
    gold, predicted = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    turned = scores("qqp", 1 - gold, 1 - predicted, labels=("duplicate", "not_duplicate"))
    assert turned == scores("qqp", gold, predicted)


def test_csv_is_a_regression_where_its_labels_are_floats() -> None:
    values = np.array([1.0, 2.5, 3.0])
    assert scores("csv", values, values) == pytest.approx({"pearson": 100, "spearman": 100})


def test_an_interval_holds_the_score_and_narrows_with_more_examples() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (50, 2000):
        gold = rng.integers(0, 2, count)
        predicted = np.where(rng.random(count) < 0.8, gold, 1 - gold)
        found = bootstrap_interval("sst2", gold, predicted, rng=rng, resamples=300)
        assert found.low < found.value < found.high
        assert found.value == pytest.approx(100 * (gold == predicted).mean())
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 3
    # The normal approximation of a share: 2 * 1.96 * sqrt(0.8 * 0.2 / 2000).
    assert widths[1] == pytest.approx(3.5, rel=0.2)


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 400)
    first = np.where(rng.random(400) < 0.7, gold, 1 - gold)
    second = first.copy()
    second[:20] = 1 - gold[:20]  # worse on a few examples, equal on all others
    same = bootstrap_difference("sst2", gold, first, first, rng=rng, resamples=100)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    found = bootstrap_difference("sst2", gold, first, second, rng=rng, resamples=300)
    assert found.value == pytest.approx(100 * (first == gold)[:20].sum() / 400)
    assert 0 < found.low < found.value < found.high < 7


def test_the_same_generator_gives_the_same_interval() -> None:
    gold = np.random.default_rng(0).normal(size=(2, 30))
    found = [
        bootstrap_interval("stsb", gold[0], gold[1], rng=np.random.default_rng(1), resamples=50)
        for _ in range(2)
    ]
    assert found[0] == found[1]
