"""Moves from architectures to others: pure functions of a space and a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from supernet.architecture import Architecture
from supernet.space import Space

# How far a mutation goes along an axis, in steps: mostly one, rarely many.
_STEP_SHARE = 0.5
_MOST_STEPS = 8

_AXES = ("num_layers", "hidden_size", "ffn_size", "num_heads", "qkv_size")


def move(space: Space, architecture: Architecture, axis: str, steps: int) -> Architecture:
    """The architecture some steps along one axis; it stops at the end of the axis.

    Sizes that the space ties together move together: under `hidden`, QKV follows the hidden
    size; under `per-head`, it follows the heads.
    """
    layers, hidden_size, ffn_size, heads, qkv_size = architecture.row
    if axis == "num_layers":
        layers = _along(space.num_layers, layers, steps)
    elif axis == "ffn_size":
        ffn_size = _along(space.ffn_sizes, ffn_size, steps)
    else:
        column = {"hidden_size": 0, "num_heads": 1, "qkv_size": 2}[axis]
        widths = space.widths
        current = np.array([hidden_size, heads, qkv_size])
        value = _along(np.unique(widths[:, column]).tolist(), int(current[column]), steps)
        candidates = widths[widths[:, column] == value]
        # As near as the space allows in the other two, relative to their size.
        distance = np.abs(np.log(candidates / current)).sum(axis=1)
        hidden_size, heads, qkv_size = candidates[int(distance.argmin())].tolist()
    return Architecture(layers, hidden_size, ffn_size, heads, qkv_size)


def _along(values: Sequence[int], value: int, steps: int) -> int:
    place = int(np.searchsorted(values, value)) + steps
    return values[min(max(place, 0), len(values) - 1)]


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

    One that is over it shrinks until it is within; one that is within grows until nothing more
    fits. More width or depth rarely hurts, so the best shapes lie near the edge.

    Returns:
        The architecture, or None if shrinking ends before it is feasible.
    """
    axes = _free_axes(space)
    ends = sum(len(values) for values in (space.num_layers, space.ffn_sizes, space.widths))
    for _ in range(ends):  # each move takes a step along some axis, so there is an end
        if feasible(architecture):
            break
        smaller = [move(space, architecture, axis, -1) for axis in axes]
        smaller = [moved for moved in smaller if moved != architecture]
        if not smaller:
            return None
        architecture = smaller[int(rng.integers(len(smaller)))]
    else:
        return None
    growing = list(axes)
    while growing:
        axis = growing[int(rng.integers(len(growing)))]
        larger = move(space, architecture, axis, 1)
        if larger != architecture and feasible(larger):
            architecture = larger
        else:
            growing.remove(axis)
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
