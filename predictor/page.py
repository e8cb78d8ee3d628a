"""The frame of a self-contained HTML page: one file, no request leaves it, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# Longer cells are sentences, and may wrap.
_LONGEST_NUMBER = 30

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d8dde4;
  --ground: #ffffff; --raised: #f5f7fa; --accent: #2b6cb0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #a0aab8; --line: #38414e;
  --ground: #14181e; --raised: #1d232c; --accent: #7ab3ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem 4rem; background: var(--ground);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { margin: .5rem 0; } .soft { color: var(--soft); }
figure { margin: 1rem 0; overflow-x: auto; } figure svg { width: 100%; min-width: 34rem;
  height: auto; display: block; } figcaption { color: var(--soft); font-size: .9rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr));
  gap: .75rem; margin: 1.25rem 0; }
.tile { background: var(--raised); border-radius: .5rem; padding: .75rem 1rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.prose { text-align: left; white-space: normal; min-width: 16rem; }
table.facts td { text-align: left; white-space: normal; }
table.facts td:first-child { color: var(--soft); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
pre { background: var(--raised); padding: .75rem 1rem; border-radius: .5rem; overflow-x: auto; }
@media print { body { max-width: none; } figure svg { min-width: 0; } }
"""


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """A whole page from its sections, which are HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # No icon to ask a server for.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(subtitle)}</p>\n'
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """A headed section of parts that are HTML already."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def figure(svg: str, caption: str) -> str:
    """A figure with its caption."""
    return f"<figure>\n{svg}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def tiles(facts: Sequence[tuple[str, str]]) -> str:
    """Numbers at a glance: value and what it is."""
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in facts
    )
    return f'<div class="tiles">{cells}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of plain texts and numbers."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "\n".join(
        "<tr>" + "".join(f"{_opened(cell)}{_cell(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def facts(rows: Sequence[tuple[str, object]]) -> str:
    """Names and values, one a line."""
    body = "\n".join(f"<tr><td>{escape(n)}</td><td>{_cell(v)}</td></tr>" for n, v in rows)
    return f'<div class="wide"><table class="facts">\n{body}\n</table></div>'


def commands(lines: Sequence[str]) -> str:
    """Commands to type."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _opened(value: object) -> str:
    return '<td class="prose">' if len(str(value)) > _LONGEST_NUMBER else "<td>"


def _cell(value: object) -> str:
    return "" if value is None else escape(str(value))
