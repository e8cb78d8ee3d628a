from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from autotinybert.errors import InputError
from supernet.tasks.span_decoding import (
    DecodingSettings,
    FloatArray,
    SquadAnswers,
    decode_spans,
    write_answers,
)
from supernet.tasks.squad import Question
from supernet.tasks.squad_features import SpanFeature

#          0123456789012345
CONTEXT = "Ann met Bob here"
OFFSETS = [(0, 3), (4, 7), (8, 11), (12, 16)]
ANN, MET, BOB, HERE = range(3, 7)  # behind [CLS] who [SEP]; [SEP] is 7
QUESTION = Question("q", "who", CONTEXT, ())


def feature(
    first: int = 0, last: int = 4, best: Sequence[bool] | None = None, question: int = 0
) -> SpanFeature:
    """[CLS] who [SEP], a window of the context and [SEP]."""
    offsets = np.array(OFFSETS[first:last], dtype=np.int32).reshape(-1, 2)
    return SpanFeature(
        question=question,
        input_ids=np.zeros(4 + len(offsets), dtype=np.int32),
        second_segment=3,
        context_place=3,
        offsets=offsets,
        is_max_context=np.array([True] * len(offsets) if best is None else best, dtype=np.bool_),
    )


def logits(starts: Mapping[int, float], ends: Mapping[int, float], length: int = 8) -> FloatArray:
    """Zeros but for these places."""
    found = np.zeros((length, 2), dtype=np.float32)
    for column, values in enumerate((starts, ends)):
        for place, value in values.items():
            found[place, column] = value
    return found


def decoded(
    parts: Sequence[tuple[SpanFeature, FloatArray]],
    *,
    may_lack_answers: bool = False,
    n_best_size: int = 20,
    max_answer_length: int = 30,
    null_threshold: float = 0.0,
) -> SquadAnswers:
    settings = DecodingSettings(
        n_best_size=n_best_size,
        max_answer_length=max_answer_length,
        null_threshold=null_threshold,
    )
    features, values = zip(*parts, strict=True)
    return decode_spans([QUESTION], features, values, settings, may_lack_answers=may_lack_answers)


def test_an_answer_is_the_text_of_the_context_between_its_tokens() -> None:
    found = decoded([(feature(), logits({ANN: 5}, {BOB: 4}))])
    assert found.predictions == {"q": "Ann met Bob"}
    best = found.n_best["q"][0]
    assert (best.text, best.start_logit, best.end_logit) == ("Ann met Bob", 5, 4)
    assert found.null_odds is None


def test_spans_in_the_question_or_special_tokens_are_no_answers() -> None:
    # [CLS], the question and both [SEP] score far more than the context.
    outside = dict.fromkeys((0, 1, 2, 7), 50.0)
    found = decoded([(feature(), logits({**outside, BOB: 1}, {**outside, BOB: 1}))])
    assert found.predictions == {"q": "Bob"}
    assert max(candidate.start_logit for candidate in found.n_best["q"]) == 1


def test_an_end_before_its_start_is_no_answer() -> None:
    found = decoded([(feature(), logits({HERE: 9}, {ANN: 9, HERE: 1}))])
    assert found.predictions == {"q": "here"}
    assert all(candidate.text in CONTEXT for candidate in found.n_best["q"])
    assert len(found.n_best["q"]) == 10  # 4 + 3 + 2 + 1


def test_a_span_that_is_too_long_is_no_answer() -> None:
    values = logits({ANN: 9}, {HERE: 9, BOB: 2})
    assert decoded([(feature(), values)], max_answer_length=4).predictions == {"q": CONTEXT}
    found = decoded([(feature(), values)], max_answer_length=3)
    assert found.predictions == {"q": "Ann met Bob"}
    one = decoded([(feature(), values)], max_answer_length=1)
    assert {candidate.text for candidate in one.n_best["q"]} == {"Ann", "met", "Bob", "here"}


def test_a_span_counts_in_the_window_where_its_start_has_most_context() -> None:
    first = feature(0, 3, best=[True, True, False])
    second = feature(1, 4, best=[False, True, True])
    found = decoded(
        [(first, logits({BOB: 9}, {}, 7)), (second, logits({4: 1}, {4: 2}, 7))],
    )
    best = found.n_best["q"][0]
    assert (best.text, best.start_logit, best.end_logit) == ("Bob", 1, 2)


def test_ties_go_to_the_earlier_window_then_the_earlier_start_then_the_shorter_span() -> None:
    zeros = [(feature(0, 2), logits({}, {}, 6)), (feature(2, 4), logits({}, {}, 6))]
    found = decoded(zeros)
    texts = [candidate.text for candidate in found.n_best["q"]]
    assert texts == ["Ann", "Ann met", "met", "Bob", "Bob here", "here"]
    few = decoded(zeros, n_best_size=2)
    assert [(c.text, c.probability) for c in few.n_best["q"]] == [("Ann", 0.5), ("Ann met", 0.5)]


def test_a_text_is_listed_once_with_its_best_span() -> None:
    parts = [(feature(0, 1), logits({3: 1}, {3: 1}, 5)), (feature(0, 1), logits({3: 2}, {}, 5))]
    (only,) = decoded(parts).n_best["q"]
    assert (only.text, only.start_logit, only.end_logit, only.probability) == ("Ann", 1, 1, 1)


def test_probabilities_are_a_softmax_over_those_listed() -> None:
    found = decoded([(feature(0, 2), logits({3: math.log(2)}, {4: math.log(3)}, 6))])
    shares = {candidate.text: candidate.probability for candidate in found.n_best["q"]}
    assert shares == pytest.approx({"Ann met": 6 / 11, "met": 3 / 11, "Ann": 2 / 11})


def test_none_is_the_answer_where_it_scores_more_than_the_threshold_above_the_best() -> None:
    values = logits({0: 3, BOB: 2}, {0: 2, BOB: 2})  # none 5, Bob 4
    parts = [(feature(), values)]
    found = decoded(parts, may_lack_answers=True)
    assert found.null_odds == {"q": 1}
    assert found.predictions == {"q": ""}
    assert found.answered == {"q": "Bob"}
    assert [candidate.text for candidate in found.n_best["q"][:2]] == ["", "Bob"]
    for threshold, answer in ((0.99, ""), (1.0, "Bob"), (-7.0, "")):
        found = decoded(parts, may_lack_answers=True, null_threshold=threshold)
        assert found.predictions == {"q": answer}


def test_none_scores_what_it_does_in_the_window_that_is_least_sure_of_it() -> None:
    sure = (feature(0, 2), logits({0: 9}, {0: 9}, 6))
    unsure = (feature(2, 4), logits({0: 1, 3: 3}, {0: 1, 3: 3}, 6))
    found = decoded([sure, unsure], may_lack_answers=True)
    assert found.null_odds == {"q": -4}
    assert found.predictions == {"q": "Bob"}


def test_a_window_without_tokens_gives_an_empty_answer() -> None:
    found = decoded([(feature(0, 0), logits({0: 2}, {}, 4))])
    assert found.predictions == {"q": ""}
    assert [candidate.text for candidate in found.n_best["q"]] == [""]
    found = decoded([(feature(0, 0), logits({0: 2}, {}, 4))], may_lack_answers=True)
    assert found.null_odds == {"q": 2}


def test_the_space_that_a_token_holds_is_no_part_of_the_answer() -> None:
    spaced = feature(1, 3)
    spaced.offsets[:, 0] -= 1
    assert decoded([(spaced, logits({3: 2}, {4: 2}, 6))]).predictions == {"q": "met Bob"}


def test_files_have_the_forms_of_the_official_scripts(tmp_path: Path) -> None:
    answers = decoded(
        [(feature(0, 1), logits({0: 1}, {}, 5))], may_lack_answers=True, null_threshold=5
    )
    write_answers(tmp_path, answers)
    assert json.loads((tmp_path / "predictions.json").read_text()) == {"q": "Ann"}
    assert json.loads((tmp_path / "null_odds.json").read_text()) == {"q": 1.0}
    (found,) = json.loads((tmp_path / "nbest_predictions.json").read_text()).values()
    assert [list(entry) for entry in found] == [
        ["text", "probability", "start_logit", "end_logit"]
    ] * 2
    assert found[0] == {
        "text": "",
        "probability": pytest.approx(math.e / (1 + math.e)),
        "start_logit": 1.0,
        "end_logit": 0.0,
    }


def test_null_odds_are_written_for_version_2_alone(tmp_path: Path) -> None:
    write_answers(tmp_path, decoded([(feature(), logits({}, {}))]))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "nbest_predictions.json",
        "predictions.json",
    ]


def test_settings_that_allow_no_answer_are_refused() -> None:
    with pytest.raises(InputError, match="n best size must be at least 1, not 0"):
        DecodingSettings(n_best_size=0)
    with pytest.raises(InputError, match="null threshold must be a number, not nan"):
        DecodingSettings(null_threshold=math.nan)
