from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer, Tokenizer

from autotinybert.errors import InputError
from supernet.tasks.squad import Answer, Question
from supernet.tasks.squad_features import (
    FeatureSettings,
    Window,
    asked_features,
    max_context,
    training_features,
    windows_of,
)
from supernet.tokenizer import load_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)
WORDS = ["who", "is", "t0", "t1", "t2", "t3", "t4", "t5", "##x"]
WHO, IS, T0 = 5, 6, 7
T = [T0 + number for number in range(6)]

# Two tokens of a question and three special ones leave four for the context.
SMALL = FeatureSettings(sequence_length=9, doc_stride=2, max_query_length=2)
CONTEXT = "T0 t1,t2  t3 t4 t5"


@pytest.fixture
def tokenizer(make_bert_folder: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(make_bert_folder(tokens=[*SPECIAL, *WORDS, ","]))


def test_windows_overlap_and_the_last_one_ends_with_the_context() -> None:
    assert windows_of(6, 4, 2) == [Window(0, 4), Window(2, 4)]
    assert windows_of(4, 4, 2) == [Window(0, 4)]
    assert windows_of(5, 4, 2) == [Window(0, 4), Window(2, 3)]
    assert windows_of(7, 3, 9) == [Window(0, 3), Window(3, 3), Window(6, 1)]  # without a gap
    assert windows_of(0, 4, 2) == [Window(0, 0)]


def test_a_token_counts_where_its_poorer_side_has_most_context() -> None:
    # The example of run_squad.py: the man went to the | store and bought a gallon | of milk
    windows = windows_of(12, 5, 3)
    assert [window.start for window in windows] == [0, 3, 6, 9]
    # "bought", the token 7, ends the second window and has one token before it in the third.
    assert max_context(windows, 12).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]


def test_of_windows_with_equal_context_the_longer_counts_and_then_the_first() -> None:
    assert max_context([Window(0, 3), Window(2, 2)], 4).tolist() == [0, 0, 0, 1]
    assert max_context([Window(0, 3), Window(2, 3)], 5).tolist() == [0, 0, 0, 1, 1]
    assert max_context([Window(0, 2), Window(1, 3)], 4).tolist() == [0, 1, 1, 1]


def test_an_answer_in_the_second_window_worked_by_hand(tokenizer: Tokenizer) -> None:
    context = "T0 t1 t2  t3 t4 t5"
    question = Question("q", "Who is t0?", context, (Answer("t4 t5", 13),))
    (first, second), left_out = training_features([question], tokenizer, SMALL)
    assert left_out == 0
    assert first.input_ids.tolist() == [CLS, WHO, IS, SEP, *T[:4], SEP]
    assert second.input_ids.tolist() == [CLS, WHO, IS, SEP, *T[2:], SEP]
    assert (first.start, first.end) == (0, 0)  # not whole in there
    assert (second.start, second.end) == (6, 7)
    assert first.context_place == second.context_place == first.second_segment == 4
    assert first.is_max_context.tolist() == [True, True, True, False]
    assert second.is_max_context.tolist() == [False, True, True, True]
    assert second.offsets.tolist() == [[6, 8], [10, 12], [13, 15], [16, 18]]


def test_an_answer_that_a_window_holds_in_part_is_none_in_it(tokenizer: Tokenizer) -> None:
    question = Question("q", "who is", "t0 t1 t2 t3 t4 t5", (Answer("t1 t2", 3),))
    (first, second), _ = training_features([question], tokenizer, SMALL)
    assert (first.start, first.end) == (5, 6)
    assert (second.start, second.end) == (0, 0)


@pytest.mark.parametrize(
    ("text", "start_char", "places"),
    [
        ("t1x", 3, (5, 6)),  # all pieces of a word
        ("1x t2", 4, (5, 7)),  # a word that is marked in part counts whole
        ("t", 3, (5, 5)),
        ("t0", 0, (4, 4)),
    ],
)
def test_characters_of_an_answer_become_the_tokens_that_share_them(
    tokenizer: Tokenizer, text: str, start_char: int, places: tuple[int, int]
) -> None:
    question = Question("q", "who is", "t0 t1x t2", (Answer(text, start_char),))
    (feature,), _ = training_features([question], tokenizer, SMALL)
    assert (feature.start, feature.end) == places


def test_a_question_is_truncated_and_one_without_an_answer_points_to_cls(
    tokenizer: Tokenizer,
) -> None:
    question = Question("q", "is who t5 t5 t5", "t0", ())
    (feature,), _ = training_features([question], tokenizer, SMALL)
    assert feature.input_ids.tolist() == [CLS, IS, WHO, SEP, T0, SEP]
    assert (feature.start, feature.end) == (0, 0)


def test_special_tokens_that_a_context_spells_out_are_text(tokenizer: Tokenizer) -> None:
    (feature,) = asked_features([Question("q", "who", "[SEP]", ())], tokenizer, SMALL)
    assert feature.input_ids.tolist() == [CLS, WHO, SEP, UNK, UNK, UNK, SEP]


def test_questions_whose_answer_is_not_in_the_context_are_counted_and_left_out(
    tokenizer: Tokenizer,
) -> None:
    lost = Question("a", "who", "t0 t1", (Answer("t5", 0),))
    found = Question("b", "who", "t0 t1", (Answer("t1", 3),))
    features, left_out = training_features([lost, found], tokenizer, SMALL)
    assert [feature.question for feature in features] == [1]
    assert left_out == 1
    assert [f.question for f in asked_features([lost, found], tokenizer, SMALL)] == [0, 1]
    with pytest.raises(InputError, match="no question has its answer in its context"):
        training_features([lost], tokenizer, SMALL)


def test_settings_that_leave_no_room_for_a_context_are_refused(tokenizer: Tokenizer) -> None:
    settings = FeatureSettings(sequence_length=9, max_query_length=6)
    with pytest.raises(InputError, match="of 9 leaves no room for a context beside 6 tokens"):
        asked_features([Question("q", "who", "t0", ())], tokenizer, settings)
    with pytest.raises(InputError, match="doc stride must be at least 1, not 0"):
        FeatureSettings(doc_stride=0)


def test_the_frame_is_that_of_the_tokenizer(tmp_path: Path) -> None:
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        ["who is here"] * 3,
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )
    trained.save_model(str(tmp_path))
    tokenizer = load_tokenizer(tmp_path)
    question = Question("q", "who", "is here", (Answer("here", 3),))
    (feature,), _ = training_features([question], tokenizer, FeatureSettings())
    names = [tokenizer.id_to_token(index) for index in feature.input_ids.tolist()]
    assert (names[0], names[feature.context_place - 2 : feature.context_place]) == (
        "<s>",
        ["</s>", "</s>"],
    )
    assert names[-1] == "</s>"
    assert feature.second_segment == len(names)  # there is one segment only
    assert feature.end == len(names) - 2
