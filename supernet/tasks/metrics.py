"""The official metrics of the tasks, in percent, and how sure a score is.

| task | metrics |
|---|---|
| CoLA | Matthews' correlation |
| SST-2, MNLI, QNLI, RTE, WNLI | accuracy |
| MRPC, QQP | accuracy, F1 of the second label (a paraphrase) |
| STS-B | Pearson's and Spearman's correlation |
| csv | accuracy, F1 averaged over the labels; of a regression as STS-B |

Where a constant answer leaves a correlation undefined, it is 0; so is an F1 without a true or
predicted example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.heads import HeadKind
from supernet.tasks.examples import CSV_TASK, task_name
from supernet.tasks.glue import GLUE_TASKS
from supernet.tasks.labels import LabelNames

# Numbers of labels as integers, values of a regression as floats.
Answers = npt.NDArray[np.integer[Any]] | npt.NDArray[np.floating[Any]]
Metric = Callable[[Answers, Answers], float]

_WITH_F1 = ("mrpc", "qqp")


@dataclass(frozen=True)
class Interval:
    """A score, or a difference of two, and where it would lie with other examples.

    Attributes:
        value: in percent.
        low: the lower bound.
        high: the upper bound.
    """

    value: float
    low: float
    high: float


def answers(kind: HeadKind, logits: npt.NDArray[np.floating[Any]]) -> Answers:
    """The answers `[N]` that a head's outputs `[N, n]` mean: numbers of labels, or values."""
    if kind == "regression":
        return logits[:, 0].astype(np.float64)
    numbers: npt.NDArray[np.int64] = logits.argmax(1)
    return numbers


def accuracy(gold: Answers, predicted: Answers) -> float:
    """The share of right answers."""
    return float((gold == predicted).mean())


def f1(gold: Answers, predicted: Answers, positive: int = 1) -> float:
    """The harmonic mean of precision and recall of one label; 0 where both are undefined."""
    hits = int(((gold == positive) & (predicted == positive)).sum())
    named = int((gold == positive).sum() + (predicted == positive).sum())
    return 2 * hits / named if named else 0.0


def macro_f1(gold: Answers, predicted: Answers) -> float:
    """The mean F1 of all labels that are true or predicted somewhere."""
    labels = np.union1d(gold, predicted).tolist()
    return float(np.mean([f1(gold, predicted, label) for label in labels]))


def matthews(gold: Answers, predicted: Answers) -> float:
    """Matthews' correlation, for any number of labels (Gorodkin, 2004); 0 for constant answers."""
    labels, numbers = np.unique(np.concatenate([gold, predicted]), return_inverse=True)
    confusion = np.zeros((len(labels), len(labels)))
    np.add.at(confusion, (numbers[: len(gold)], numbers[len(gold) :]), 1)
    true, said, count = confusion.sum(1), confusion.sum(0), len(gold)
    covariance = confusion.trace() * count - true @ said
    variance = (count**2 - true @ true) * (count**2 - said @ said)
    return float(covariance / np.sqrt(variance)) if variance > 0 else 0.0


def pearson(gold: Answers, predicted: Answers) -> float:
    """Pearson's correlation; 0 for constant answers."""
    first, second = gold.astype(np.float64), predicted.astype(np.float64)
    # Of equal values, the mean may differ from them in the last bit.
    if (first == first[0]).all() or (second == second[0]).all():
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.clip(first @ second / scale, -1.0, 1.0)) if scale else 0.0


def spearman(gold: Answers, predicted: Answers) -> float:
    """Spearman's correlation, equal values with their mean rank; 0 for constant answers."""
    return pearson(_ranks(gold), _ranks(predicted))


def scores(
    task: str, gold: Answers, predicted: Answers, *, labels: Sequence[str] | None = None
) -> dict[str, float]:
    """All official metrics of a task by name, in percent.

    Args:
        task: one of `TASKS`.
        gold: `[N]`, what is true; of `csv`, integers are labels, floats a regression's values.
        predicted: `[N]`, what was answered.
        labels: names of the labels by number, where they are not in GLUE's order.
    """
    return {
        name: 100 * metric(gold, predicted) for name, metric in _metrics(task, gold, labels).items()
    }


def primary(task: str, *, regression: bool = False) -> str:
    """The name of the one number that models are compared by: GLUE's, a mean where it takes one.

    Args:
        task: one of `TASKS`.
        regression: of `csv`, whether it is one.
    """
    return " and ".join(_primary_names(task_name(task), regression=regression))


def primary_score(
    task: str, gold: Answers, predicted: Answers, *, labels: Sequence[str] | None = None
) -> float:
    """That number, in percent; arguments as in `scores`."""
    metrics = _metrics(task, gold, labels)
    names = _primary_names(task_name(task), regression=gold.dtype.kind == "f")
    return 100 * float(np.mean([metrics[name](gold, predicted) for name in names]))


def bootstrap_interval(
    task: str,
    gold: Answers,
    predicted: Answers,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
    labels: Sequence[str] | None = None,
) -> Interval:
    """The primary score and its bounds: percentiles over examples drawn again (Efron, 1979).

    Args:
        task: one of `TASKS`.
        gold: `[N]`, what is true.
        predicted: `[N]`, what was answered.
        rng: draws the examples.
        resamples: how often.
        confidence: the share of the draws between the bounds.
        labels: as in `scores`.
    """
    return _bootstrap(
        lambda drawn: primary_score(task, gold[drawn], predicted[drawn], labels=labels),
        len(gold),
        rng,
        resamples,
        confidence,
    )


def bootstrap_difference(
    task: str,
    gold: Answers,
    first: Answers,
    second: Answers,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
    labels: Sequence[str] | None = None,
) -> Interval:
    """How much higher the first model's primary score is than the second's, on the same examples.

    Both answer the examples of a draw, so that what is hard for both does not blur the difference.

    Args:
        task: one of `TASKS`.
        gold: `[N]`, what is true.
        first: `[N]`, the first model's answers.
        second: `[N]`, the second's.
        rng: draws the examples.
        resamples: how often.
        confidence: the share of the draws between the bounds.
        labels: as in `scores`.
    """

    def difference(drawn: npt.NDArray[np.int64]) -> float:
        true = gold[drawn]
        return primary_score(task, true, first[drawn], labels=labels) - primary_score(
            task, true, second[drawn], labels=labels
        )

    return _bootstrap(difference, len(gold), rng, resamples, confidence)


def _bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float],
    count: int,
    rng: np.random.Generator,
    resamples: int,
    confidence: float,
) -> Interval:
    values = [statistic(rng.integers(0, count, count)) for _ in range(resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    return Interval(statistic(np.arange(count)), low, high)


def _metrics(task: str, gold: Answers, labels: Sequence[str] | None) -> Mapping[str, Metric]:
    name = task_name(task)
    if name == "stsb" or (name == CSV_TASK and gold.dtype.kind == "f"):
        return {"pearson": pearson, "spearman": spearman}
    if name == "cola":
        return {"matthews": matthews}
    if name == CSV_TASK:
        return {"accuracy": accuracy, "macro_f1": macro_f1}
    if name in _WITH_F1:
        glue = GLUE_TASKS[name]
        order = LabelNames(labels or glue.labels).order_of(glue.labels, glue.name)
        return {"accuracy": accuracy, "f1": lambda true, said: f1(true, said, order[1])}
    return {"accuracy": accuracy}


def _primary_names(name: str, *, regression: bool) -> tuple[str, ...]:
    if name == "stsb" or (name == CSV_TASK and regression):
        return ("pearson", "spearman")
    if name == "cola":
        return ("matthews",)
    return ("accuracy", "f1") if name in _WITH_F1 else ("accuracy",)


def _ranks(values: Answers) -> npt.NDArray[np.float64]:
    """Ranks from 1; equal values have the mean of theirs."""
    _, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = (last - (counts - 1) / 2)[numbers]
    return ranks
