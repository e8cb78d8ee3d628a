"""`read_examples`, on users' own files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from autotinybert.errors import InputError
from supernet.tasks.examples import Example, read_examples, task_name


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "csv.gz", "jsonl.gz"])
def test_every_form_of_file_gives_the_same_examples(tmp_path: Path, form: str) -> None:
    rows = [("good", "yes", "pos"), ("bad", "no", "neg")]
    separator = "\t" if form.startswith("tsv") else ","
    content = "\n".join(separator.join(row) for row in [("text", "text_pair", "label"), *rows])
    if form.startswith("jsonl"):
        keys = ("text", "text_pair", "label")
        content = "\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in rows)
    packed = gzip.compress(content.encode()) if form.endswith(".gz") else content
    data = read_examples("csv", written(tmp_path, f"data.{form}", packed))
    assert (data.task, data.kind, data.labels) == ("csv", "classification", ("neg", "pos"))
    assert data.examples == (Example("0", "good", "yes", 1), Example("1", "bad", "no", 0))
    assert data.is_labelled


@pytest.mark.parametrize(
    ("header", "row", "pair"),
    [
        ("text,label", "a,x", None),
        ("sentence,label", "a,x", None),
        ("sentence1,sentence2,label", "a,b,x", "b"),
        ("text_a,text_b,label", "a,b,x", "b"),
        ("label,text_pair,text,more", "x,b,a,?", "b"),
        ("\ufeffid,text,label", "7,a,x", None),
    ],
)
def test_columns_are_found_by_their_names(
    tmp_path: Path, header: str, row: str, pair: str | None
) -> None:
    path = written(tmp_path, "data.csv", f"{header}\n{row}\n")
    (example,) = read_examples("csv", path, labels=("w", "x")).examples
    assert example == Example("7" if "id" in header else "0", "a", pair, 1)


def test_quotes_hold_commas_and_lines_in_csv_and_are_characters_in_tsv(tmp_path: Path) -> None:
    comma = written(tmp_path, "a.csv", 'text,label\r\n"He said ""no"",\nthen",x\r\n\r\nb,y\r\n')
    assert [e.text for e in read_examples("csv", comma).examples] == ['He said "no",\nthen', "b"]
    tab = written(tmp_path, "a.tsv", "text\tlabel\n\"open\tx\n\nit's\ty\n")
    assert [e.text for e in read_examples("csv", tab).examples] == ['"open', "it's"]


@pytest.mark.parametrize("label", ["POSITIVE", "Positive", "positive", "1", "LABEL_1", "label-1"])
def test_labels_are_matched_to_a_models_by_name_in_any_case_or_by_number(
    tmp_path: Path, label: str
) -> None:
    path = written(tmp_path, "data.csv", f"text,label\na,{label}\n")
    data = read_examples("csv", path, labels=("negative", "positive"))
    assert data.labels == ("negative", "positive")
    assert data.examples[0].label == 1


def test_a_number_that_is_a_name_is_that_name(tmp_path: Path) -> None:
    path = written(tmp_path, "data.csv", "text,label\na,1\nb,10\nc,2\n")
    data = read_examples("csv", path)
    assert data.labels == ("1", "2", "10")
    assert [example.label for example in data.examples] == [0, 2, 1]


def test_names_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    path = written(tmp_path, "data.csv", "text,label\na,US\nb,us\n")
    assert [e.label for e in read_examples("csv", path, labels=("us", "US")).examples] == [1, 0]


def test_one_name_or_the_flag_makes_a_regression(tmp_path: Path) -> None:
    path = written(tmp_path, "data.jsonl", '{"text": "a", "label": 2}\n{"text": "b", "label": 1.5}')
    for data in (
        read_examples("csv", path, labels=("LABEL_0",)),
        read_examples("csv", path, regression=True),
    ):
        assert data.kind == "regression"
        assert [example.label for example in data.examples] == [2.0, 1.5]


@pytest.mark.parametrize("content", ["text\na\nb\n", "text,label\na,\nb,\n"])
def test_examples_without_labels_are_read(tmp_path: Path, content: str) -> None:
    data = read_examples("csv", written(tmp_path, "data.csv", content), labels=("x", "y"))
    assert [example.label for example in data.examples] == [None, None]
    assert not data.is_labelled


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "text,label\n", "holds no examples"),
        ("a.csv", "words,label\na,x\n", "'words', 'label', none of which is a text"),
        ("a.csv", "text,text,label\na,b,x\n", "more than one column 'text'"),
        ("a.csv", "text,label\na,x\n\nb\n", "line 4 has 1 fields, the header 2"),
        ("a.csv", "text,label\na,x,y\n", "line 2 has 3 fields"),
        ("a.csv", 'text,label\n"a,x\n', "line 2 is not valid CSV"),
        ("a.csv", "text,label\na,x\nb,z\n", "line 3 has the label 'z': use one of x, y"),
        ("a.csv", "text,label\na,x\nb,2\n", "line 3 has the label '2'"),
        ("a.csv", "text,label\na,x\nb,\n", "line 3 has no label, other lines have"),
        ("a.csv", b"text,label\na,x\nb\xff,x\n", "line 3 is not UTF-8"),
        ("a.csv", "text,label\na\0,x\n", "line 2 holds a zero byte"),
        ("a.tsv", "text\tlabel\na x\n", "line 2 has 1 fields"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "la', "line 2 is not valid JSON"),
        ("a.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("a.jsonl", '{"text": 3, "label": "x"}\n', "line 1 has no text under 'text'"),
        ("a.jsonl", '{"text": "\\ud800", "label": "x"}\n', "half a character"),
        ("a.jsonl", '{"text": "a", "label": ["x"]}\n', "neither a name nor a number"),
        ("a.csv.gz", b"text,label", "torn or no gzip"),
        ("a.txt", "text", "is no .csv, .tsv, .jsonl file"),
    ],
)
def test_a_malformed_file_is_one_line_that_names_the_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(InputError) as error:
        read_examples("csv", path, labels=("x", "y"))
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["", "high", "nan", "inf"])
def test_a_score_that_is_no_number_is_named(tmp_path: Path, value: str) -> None:
    path = written(tmp_path, "a.csv", f"text,label\na,1\nb,{value}\n")
    with pytest.raises(InputError, match="line 3 has"):
        read_examples("csv", path, regression=True)


def test_a_missing_file_and_an_unknown_task_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*absent.csv"):
        read_examples("csv", tmp_path / "absent.csv")
    with pytest.raises(InputError, match="no task 'imdb': use cola, sst2"):
        read_examples("imdb", tmp_path / "absent.csv")


@pytest.mark.parametrize("value", ["sst2", "sst-2", "SST-2", "SST2"])
def test_tasks_are_named_in_any_case_with_or_without_dashes(value: str) -> None:
    assert task_name(value) == "sst2"
