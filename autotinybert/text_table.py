"""Tables for a terminal or a log: plain text, aligned, no control codes."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH = 100


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> str:
    """A table as text: the first column to the left, the others, numbers mostly, to the right."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, highlight=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
