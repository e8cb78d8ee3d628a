"""The forms in which one encoder can be written down: graph variants, precisions and parts."""

from __future__ import annotations

from typing import Literal, get_args

from autotinybert.errors import InputError

GraphVariant = Literal["plain", "folded", "attention"]
GRAPH_VARIANTS: tuple[GraphVariant, ...] = get_args(GraphVariant)

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# The whole encoder, its embeddings alone, or those and one kind of sub-layer L times over.
Part = Literal["encoder", "embeddings", "attention", "ffn"]
PARTS: tuple[Part, ...] = get_args(Part)

SubLayer = Literal["attention", "ffn"]

# What each layer of a part consists of.
SUB_LAYERS: dict[Part, tuple[SubLayer, ...]] = {
    "encoder": ("attention", "ffn"),
    "embeddings": (),
    "attention": ("attention",),
    "ffn": ("ffn",),
}


def check_form(variant: str, precision: str) -> None:
    """Checks that a graph can be written in this variant and precision.

    Raises:
        InputError: if one is unknown, or they do not go together.
    """
    if variant not in GRAPH_VARIANTS:
        raise InputError(f"no graph variant {variant!r}: use {', '.join(GRAPH_VARIANTS)}")
    if precision not in PRECISIONS:
        raise InputError(f"no precision {precision!r}: use {', '.join(PRECISIONS)}")
    if not can_write(variant, precision):
        raise InputError(
            "no int8 graph of the variant attention: ONNX Runtime's operator takes float weights; "
            "use plain or folded"
        )


def check_part(part: str) -> None:
    """Checks that an encoder has such a part.

    Raises:
        InputError: if it has none.
    """
    if part not in PARTS:
        raise InputError(f"no part {part!r} of an encoder: use {', '.join(PARTS)}")


def can_write(variant: str, precision: str) -> bool:
    """Whether a graph can be written in this variant and precision."""
    # `com.microsoft.Attention` takes float weights.
    return not (variant == "attention" and precision == "int8")
