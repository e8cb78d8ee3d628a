"""The forms in which one encoder can be written down: graph variants and precisions."""

from __future__ import annotations

from typing import Literal, get_args

GraphVariant = Literal["plain", "attention"]
GRAPH_VARIANTS: tuple[GraphVariant, ...] = get_args(GraphVariant)

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
