from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.candidates import Try, next_candidate, slack_lost
from search.evaluation import Evaluation
from search.result import Candidate
from supernet.architecture import Architecture
from supernet.score import HeldOutScore


def candidate(loss: float, latency_ms: float) -> Candidate:
    shape = Architecture(1, 128, 256, 12, 180)
    evaluation = Evaluation(shape, HeldOutScore({"hidden": loss}), 0.1)
    return Candidate(evaluation, latency_ms, latency_ms * 1.05)


def failed(latency_ms: float, **verification: Any) -> Try:
    budget = {"min_speedup": verification.pop("min_speedup", None)}
    return Try(candidate(0.5, latency_ms), "slice", {"budget": budget, **verification}, Path())


def test_the_best_is_tried_first_and_what_one_lacked_the_next_must_have() -> None:
    best, middle, fast = candidate(0.1, 9.8), candidate(0.2, 9.5), candidate(0.3, 9.0)
    assert next_candidate([best, middle, fast], 1.0, 10.0) is best
    assert next_candidate([middle, fast], 1.06, 10.0) is fast
    assert next_candidate([middle, fast], 1.05, 10.0) is middle
    assert next_candidate([middle, fast], 2.0, 10.0) is fast, "the one with the most room"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (failed(9.5, upper_ms=10.5), 10.5 / 9.5),
        (failed(9.5, upper_ms=9.0), 1.0),
        (failed(9.5, upper_ms=None), 1.0),
        (failed(9.5, min_speedup=3.0, speedup_lower=2.85, upper_ms=1.0), 3 / 2.85 * 10 / 9.5),
        (failed(9.5, min_speedup=3.0, speedup_lower=None, upper_ms=1.0), 1.0),
    ],
)
def test_what_was_lost_is_the_room_predicted_over_the_room_measured(
    found: Try, expected: float
) -> None:
    assert slack_lost(found, 10.0) == pytest.approx(expected)
