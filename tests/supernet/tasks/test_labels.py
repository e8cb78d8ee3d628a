"""Names of labels."""

from __future__ import annotations

import pytest

from autotinybert.errors import InputError
from supernet.tasks.labels import LabelNames, distinct_labels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["10", "2", "-1"], ("-1", "2", "10")),
        (["10", "2", "x"], ("10", "2", "x")),
        ([], ()),
    ],
)
def test_distinct_labels_are_in_order_of_number_or_name(
    values: list[str], expected: tuple[str, ...]
) -> None:
    assert distinct_labels(values) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("not entailment", 0),
        ("Not-Entailment", 0),
        (" entailment ", 1),
        ("0", 0),
        ("LABEL_1", 1),
        ("label 1", 1),
        ("2", None),
        ("LABEL_2", None),
        ("-1", None),
        ("1.0", None),
        ("\u00b2", None),
        ("9" * 5000, None),
        ("", None),
    ],
)
def test_a_label_is_found_by_name_then_by_number(label: str, expected: int | None) -> None:
    assert LabelNames(("not_entailment", "entailment")).index(label) == expected


def test_names_that_are_numbers_win_over_places() -> None:
    names = LabelNames(("1", "0"))
    assert names.index("0") == 1
    assert not names.are_numbers_alone
    assert LabelNames(("LABEL_0", "1")).are_numbers_alone


def test_the_order_of_a_tasks_labels_is_by_name_or_as_given_where_there_are_none() -> None:
    task = ("negative", "positive")
    assert LabelNames(("POSITIVE", "NEGATIVE")).order_of(task, "SST-2") == (1, 0)
    assert LabelNames(("LABEL_0", "LABEL_1")).order_of(task, "SST-2") == (0, 1)
    for names in (("positive",), ("positive", "bad"), ("a", "b"), ("1", "2")):
        with pytest.raises(InputError, match="does not answer SST-2"):
            LabelNames(names).order_of(task, "SST-2")


def test_a_long_list_of_names_is_cut_in_a_message() -> None:
    names = LabelNames([f"name{index}" for index in range(500)])
    with pytest.raises(InputError, match=r"line 3 has the label 'x': use one of .*name19, \.\.\."):
        names.index_at("x", "data.csv, line 3")
