from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import InputError
from supernet.tasks.squad import Answer, Question, read_squad

CONTEXT = "The Eiffel Tower was built in 1889 by Gustave Eiffel."


def document() -> dict[str, Any]:
    """A file of SQuAD 2.0: one question with two answers, one without."""
    return {
        "version": "v2.0",
        "data": [
            {
                "title": "Eiffel_Tower",
                "paragraphs": [
                    {
                        "context": CONTEXT,
                        "qas": [
                            {
                                "id": "q1",
                                "question": "Who built it?",
                                "answers": [
                                    {"text": "Gustave Eiffel", "answer_start": 38},
                                    {"text": "Eiffel", "answer_start": 46},
                                ],
                                "is_impossible": False,
                            },
                            {
                                "id": "q2",
                                "question": "Who painted it?",
                                "answers": [],
                                "plausible_answers": [
                                    {"text": "Gustave Eiffel", "answer_start": 38}
                                ],
                                "is_impossible": True,
                            },
                        ],
                    }
                ],
            }
        ],
    }


def written(folder: Path, value: object) -> Path:
    path = folder / "dev.json"
    path.write_text(json.dumps(value))
    return path


def test_a_file_of_version_2_gives_questions_with_and_without_answers(tmp_path: Path) -> None:
    data = read_squad(written(tmp_path, document()))
    assert (data.version, data.may_lack_answers) == ("v2.0", True)
    assert data.questions == (
        Question(
            "q1", "Who built it?", CONTEXT, (Answer("Gustave Eiffel", 38), Answer("Eiffel", 46))
        ),
        Question("q2", "Who painted it?", CONTEXT, ()),
    )


def test_a_file_of_version_1_has_answers_to_all(tmp_path: Path) -> None:
    value = document()
    value["version"] = "1.1"
    (paragraph,) = value["data"][0]["paragraphs"]
    paragraph["qas"] = paragraph["qas"][:1]
    del paragraph["qas"][0]["is_impossible"]
    data = read_squad(written(tmp_path, value))
    assert (data.version, data.may_lack_answers, len(data.questions)) == ("1.1", False, 1)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer("Eiffel", 4), (4, 10)),  # of two, the one it stands at
        (Answer("Eiffel", 46), (46, 52)),
        (Answer("Eiffel", 47), (46, 52)),
        (Answer("Eiffel", 44), (46, 52)),
        (Answer("Eiffel", 43), None),
        (Answer("Tour", 4), None),
        (Answer("", 4), None),
    ],
)
def test_an_answer_is_found_where_the_file_says_or_two_characters_away(
    answer: Answer, found: tuple[int, int] | None
) -> None:
    assert Question("q", "?", CONTEXT, (answer,)).locate(answer) == found


def with_qa(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["data"][0]["paragraphs"][0]["qas"][1].update(changes)


def with_answer(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        value["data"][0]["paragraphs"][0]["qas"][0]["answers"][1].update(changes)

    return change


def with_paragraph(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["data"][0]["paragraphs"][0].update(changes)


QAS = r"data\[0\]\.paragraphs\[0\]\.qas"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda value: value.pop("data"), "data: None is no list"),
        (lambda value: value.update(version=2.0), "version: 2.0 is no text"),
        (lambda value: value.update(data=[]), "it has no questions"),
        (lambda value: value.update(data=["x"]), r"data\[0\]: 'x' is no object"),
        (lambda value: value["data"][0].pop("paragraphs"), r"data\[0\]\.paragraphs: None is no"),
        (with_paragraph(context=7), r"data\[0\]\.paragraphs\[0\]\.context: 7 is no text"),
        (with_paragraph(context=" "), r"data\[0\]\.paragraphs\[0\]\.context: it is empty"),
        (with_qa(id=None), rf"{QAS}\[1\]\.id: None is no text"),
        (with_qa(id="q1"), "the question id 'q1' stands there twice"),
        (with_qa(question=["?"]), rf"{QAS}\[1\]\.question: \['\?'\] is no text"),
        (with_qa(is_impossible="no"), rf"{QAS}\[1\]\.is_impossible: 'no' is neither true nor"),
        (with_qa(is_impossible=False), rf"{QAS}\[1\]: it has no answers and is not marked"),
        (
            with_qa(answers=[{"text": "in", "answer_start": 27}]),
            rf"{QAS}\[1\]: it is marked is_impossible and has answers",
        ),
        (with_answer(text=None), rf"{QAS}\[0\]\.answers\[1\]\.text: None is no text"),
        (with_answer(answer_start="46"), rf"{QAS}\[0\]\.answers\[1\]\.answer_start: '46' is no"),
        (with_answer(answer_start=54), rf"{QAS}\[0\]\.answers\[1\]\.answer_start: 54 is no integ"),
        (with_answer(answer_start=-1), rf"{QAS}\[0\]\.answers\[1\]\.answer_start: -1 is no integ"),
    ],
)
def test_a_malformed_file_is_one_line_that_says_where(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    value = document()
    change(value)
    path = written(tmp_path, value)
    with pytest.raises(InputError, match=told) as refused:
        read_squad(path)
    message = str(refused.value)
    assert message.startswith(f"{path} is no file of SQuAD (")
    assert message.endswith("give an official one, such as train-v1.1.json")
    assert "\n" not in message


@pytest.mark.parametrize(
    "content", [b"", b'{"version": "1.1", "data": [', b"[1]", b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.json is no file of SQuAD \("):
        read_squad(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*train\.json: No such file"):
        read_squad(tmp_path / "train.json")
