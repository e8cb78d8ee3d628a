from __future__ import annotations

from autotinybert.text_table import text_table


def test_a_table_is_plain_aligned_text() -> None:
    text = text_table(("name", "ms"), [("a", "1.00"), ("long name", None)])
    lines = text.splitlines()
    assert "\x1b" not in text
    assert [line.split() for line in lines if "1.00" in line] == [["a", "1.00"]]
    assert len({len(line) for line in lines if "ms" in line or "1.00" in line}) == 1
