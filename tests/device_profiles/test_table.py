from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotinybert.errors import InputError
from device_profiles.table import Table, read_table


def table_of(tmp_path: Path, text: str | bytes) -> Table:
    path = tmp_path / "file.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path)


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    table = table_of(tmp_path, "b, a ,name\n2,1,x\n4,3,y\n")
    assert table.integers({"a": 9, "b": 9}).tolist() == [[1, 2], [3, 4]]
    assert table.texts("name") == ["x", "y"]
    assert "a" in table
    assert "c" not in table
    assert len(table) == 2


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_line_endings_and_byte_order_marks_do_not_matter(
    tmp_path: Path, ending: str, start: str
) -> None:
    table = table_of(tmp_path, start + ending.join(["a,b", "1,2", "", "3,4", ""]))
    assert table.integers({"a": 9, "b": 9}).tolist() == [[1, 2], [3, 4]]
    assert table.lines == ["1,2", "3,4"]
    with pytest.raises(InputError, match="line 4: a is 3, which must be from 1 to 2"):
        table.integers({"a": 2})


def test_quoted_fields_may_hold_commas_and_line_breaks(tmp_path: Path) -> None:
    table = table_of(tmp_path, 'name,a\n"x, y",1\n"two\nlines",2\n\nz,"3"\n')
    assert table.texts("name") == ["x, y", "two\nlines", "z"]
    assert table.integers({"a": 9})[:, 0].tolist() == [1, 2, 3]
    assert list(table.line_numbers) == [2, 4, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "has a header but no rows"),
        ("a,a\n1,2\n", "has the column 'a' twice"),
        ("a,b\n1,2\n3\n", "line 3: 1 fields, but the header has 2"),
        ("a,b\n1,2,3\n", "line 2: 3 fields"),
        ('a,b\n"1,2\n', "not valid CSV"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not a UTF-8 text file"),
        (b"a,b\n1,\x002\n", "binary file"),
    ],
)
def test_what_is_no_table_is_refused_in_words(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        table_of(tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        read_table(tmp_path)


@pytest.mark.parametrize("field", ["x", "", "1.5", "5.0", "1e2", "1_0", "0x5", "nan", "9" * 40])
def test_a_field_that_is_no_integer_is_named_with_its_line(tmp_path: Path, field: str) -> None:
    table = table_of(tmp_path, f"a,b\n1,2\n{field},2\n")
    with pytest.raises(InputError, match=f"line 3: a is '{field[:40]}', which is not an integer"):
        table.integers({"a": 100})


@pytest.mark.parametrize("field", ["-3", "0", "101"])
def test_an_integer_out_of_bounds_is_named_with_its_line(tmp_path: Path, field: str) -> None:
    table = table_of(tmp_path, f"a\n1\n{field}\n")
    with pytest.raises(InputError, match=f"line 3: a is {field}, which must be from 1 to 100"):
        table.integers({"a": 100})


@pytest.mark.parametrize("field", ["-1.5", "0", "nan", "inf", "fast", "", "1,5", "1_0"])
def test_a_latency_that_is_none_is_named_with_its_line(tmp_path: Path, field: str) -> None:
    table = table_of(tmp_path, f'a,b\n1.5,1\n"{field}",1\n')
    with pytest.raises(InputError, match=f"line 3: a is '{field}', which is not a finite number"):
        table.positive_floats("a", highest=1e9)


@pytest.mark.parametrize("field", ["1e15", "5e-324", "1e300"])
def test_a_latency_that_makes_no_sense_is_named_with_its_line(tmp_path: Path, field: str) -> None:
    table = table_of(tmp_path, f"a\n1.5\n{field}\n")
    with pytest.raises(InputError, match=f"line 3: a is {field}, which makes no sense"):
        table.positive_floats("a", highest=1e9)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than 100000 characters"):
        table_of(tmp_path, f"a,b\n1,{'x' * 200_000}\n")


def test_a_file_separated_by_semicolons_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="separated by semicolons: save it with commas"):
        table_of(tmp_path, "a;b\n1;2\n")


def test_empty_fields_are_unknown_where_that_is_allowed(tmp_path: Path) -> None:
    values = table_of(tmp_path, "a,b\n1.5,1\n,1\n 2e3 ,1\n").positive_floats(
        "a", highest=1e9, allow_empty=True
    )
    np.testing.assert_array_equal(values, [1.5, np.nan, 2000])


def test_missing_columns_are_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks the columns c, d; it has a, b"):
        table_of(tmp_path, "a,b\n1,2\n").require(["a", "c", "d"])


def test_a_table_without_some_columns_keeps_the_others_as_text(tmp_path: Path) -> None:
    table = table_of(tmp_path, 'name,a,b\n"x, y",1,2\n')
    assert table.without(["c"]) is table
    left = table.without(["a"])
    assert (left.header_line, left.lines) == ("name,b", ['"x, y",2'])
    assert left.integers({"b": 9}).tolist() == [[2]]


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_bytes_give_anything_but_a_table_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        table = read_table(path)
        assert all(len(fields) == len(table.header) for fields in table.rows)
        table.integers(dict.fromkeys(table.header, 10))
