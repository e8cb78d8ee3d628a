"""Figures as SVG text that takes its ink from the page, so that it reads on light and dark."""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autotinybert.files import sha256_text

# Drawn in this colour, which then becomes the page's own text colour.
INK = "#010203"
BLUE, ORANGE, RED = "#3b82c4", "#d9822b", "#c8453b"

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.family": "sans-serif",
    "font.size": 10,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "autotinybert",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def svg_element(figure: Figure, title: str) -> str:
    """A figure as an element of a page: ids of its own, the page's ink, a name for readers."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    prefix = f"f{sha256_text(svg)[:8]}-"  # several figures of one page must not share ids
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{prefix}", svg)
    svg = svg.replace(INK, "currentColor")
    head, _, body = svg.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)  # the page decides how wide it is
    return f'{head} role="img" aria-label="{title}">{body}'


def plain_log_ticks(axes: Axes, *, vertical: bool = False) -> None:
    """Numbers instead of powers of ten along a logarithmic axis."""
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_formatter(lambda value, _: f"{value:g}")
