"""Moves from architectures to others: pure functions of a space and a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from supernet.architecture import Architecture, IntMatrix
from supernet.space import Space

# How far a mutation goes along an axis, in steps: mostly one, rarely many.
_STEP_SHARE = 0.5
_MOST_STEPS = 8

_AXES = ("num_layers", "hidden_size", "ffn_size", "num_heads", "qkv_size")

# The columns of a space's widths: what a step along each goes along, and what it keeps. Each step
# so goes one way in the order (hidden size, heads, QKV size), and a walk of such steps has an end.
_WIDTH_AXES = {"hidden_size": (0, [1]), "num_heads": (1, [0]), "qkv_size": (2, [0, 1])}


def move(space: Space, architecture: Architecture, axis: str, steps: int) -> Architecture:
    """The architecture some steps along one axis; it stops at the end of the axis.

    A step along the hidden size keeps the heads, unless no hidden size that way goes with them; a
    step along the heads keeps the hidden size; a step along the QKV size keeps both. Where the
    space ties the QKV size to one of them, it follows.

    Args:
        space: holds the architecture.
        architecture: where the move begins.
        axis: a field of an architecture.
        steps: up, or down if negative.
    """
    layers, hidden_size, ffn_size, heads, qkv_size = architecture.row
    if axis == "num_layers":
        layers = _along(space.num_layers, layers, steps)
    elif axis == "ffn_size":
        ffn_size = _along(space.ffn_sizes, ffn_size, steps)
    else:
        width = np.array([hidden_size, heads, qkv_size])
        hidden_size, heads, qkv_size = _move_width(space.widths, width, axis, steps).tolist()
    return Architecture(layers, hidden_size, ffn_size, heads, qkv_size)


def _along(values: Sequence[int], value: int, steps: int) -> int:
    place = values.index(value) + steps
    return values[min(max(place, 0), len(values) - 1)]


def _move_width(widths: IntMatrix, width: IntMatrix, axis: str, steps: int) -> IntMatrix:
    """The width `[3]` some steps along one axis of a table of widths `[N, 3]`."""
    column, kept = _WIDTH_AXES[axis]
    ahead = (widths[:, column] - width[column]) * np.sign(steps) > 0
    allowed = ahead & (widths[:, kept] == width[kept]).all(axis=1)
    if axis == "hidden_size" and not allowed.any():
        allowed = ahead
    if not allowed.any():
        return width
    candidates = widths[allowed]
    values = np.unique(candidates[:, column])[:: np.sign(steps)]
    candidates = candidates[candidates[:, column] == values[min(abs(steps), len(values)) - 1]]
    # As near as the space allows in the other two, relative to their size.
    distance = np.abs(np.log(candidates / width)).sum(axis=1)
    nearest: IntMatrix = candidates[int(distance.argmin())]
    return nearest


def mutate(space: Space, parent: Architecture, rng: np.random.Generator) -> Architecture:
    """Moves along one to three axes, by a few steps each, up or down."""
    child = parent
    axes = _free_axes(space)
    for axis in rng.permutation(axes)[: rng.integers(1, min(3, len(axes)), endpoint=True)]:
        steps = min(int(rng.geometric(_STEP_SHARE)), _MOST_STEPS)
        child = move(space, child, str(axis), steps if rng.random() < 0.5 else -steps)
    return child


def cross(
    space: Space, first: Architecture, second: Architecture, rng: np.random.Generator
) -> Architecture:
    """Layers, FFN size and widths, each from one of two parents.

    Hidden size, heads and QKV size come from the same one: a space may tie them together.
    """
    del space  # any such mixture is in it: a space is a product of the three
    depth, ffn, width = (first if rng.random() < 0.5 else second for _ in range(3))
    return Architecture(
        depth.num_layers, width.hidden_size, ffn.ffn_size, width.num_heads, width.qkv_size
    )


def fit_to_budget(
    space: Space,
    architecture: Architecture,
    feasible: Callable[[Architecture], bool],
    rng: np.random.Generator,
) -> Architecture | None:
    """The architecture moved to the edge of the budget along random axes.

    One that is over it shrinks until it is within; one that is within grows until no step along
    any axis fits. More width or depth rarely hurts, so the best shapes lie near the edge.

    Returns:
        The architecture, or None if shrinking ends before it is feasible.
    """
    axes = _free_axes(space)
    while not feasible(architecture):
        smaller = [move(space, architecture, axis, -1) for axis in axes]
        smaller = [moved for moved in smaller if moved != architecture]
        if not smaller:
            return None
        architecture = smaller[int(rng.integers(len(smaller)))]
    untried = list(axes)
    while untried:
        axis = untried.pop(int(rng.integers(len(untried))))
        larger = move(space, architecture, axis, 1)
        if larger != architecture and feasible(larger):
            architecture, untried = larger, list(axes)
    return architecture


def _free_axes(space: Space) -> list[str]:
    """The axes along which a space has more than one value and that may be moved by themselves."""
    several = [
        len(space.num_layers) > 1,
        len(np.unique(space.widths[:, 0])) > 1,
        len(space.ffn_sizes) > 1,
        len(np.unique(space.widths[:, 1])) > 1,
        len(np.unique(space.widths[:, 2])) > 1 and space.qkv_rule == "free",
    ]
    found = [axis for axis, more in zip(_AXES, several, strict=True) if more]
    return found or ["num_layers"]
