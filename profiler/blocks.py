"""What has to be measured for a table of blocks: parts of encoders over a grid of sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from device_profiles.target import Configuration, Target, Workload
from profiler.plan import Plan
from supernet.architecture import Architecture
from supernet.variants import Part

# Of each part: enough that the embeddings below them are a small share, few enough to be quick.
LAYERS = 3

# Sizes along an axis of the table.
_KNOTS = 5


def block_plan(
    sampled: Sequence[Architecture],
    whole: Sequence[Architecture],
    *,
    workloads: Sequence[Workload],
    targets: Sequence[Target],
    seed: int,
) -> Plan:
    """The blocks that a campaign's architectures are made of, for every workload and target.

    Args:
        sampled: the shapes that were sampled or named: how heads go with the QKV size.
        whole: every shape of the campaign, references too: the range.
        workloads: of the campaign.
        targets: of the campaign.
        seed: decides the order of the visits.
    """
    hidden_sizes = _spread([shape.hidden_size for shape in whole])
    ffn_sizes = _spread([shape.ffn_size for shape in whole])
    parts: list[tuple[Part, Architecture]] = [
        ("embeddings", Architecture(1, hidden_size, 1, 1, 1)) for hidden_size in hidden_sizes
    ]
    # What a part does not have is 1.
    parts += [
        ("attention", Architecture(LAYERS, hidden_size, 1, heads, qkv_size))
        for hidden_size, (heads, qkv_size) in itertools.product(
            hidden_sizes, _heads_and_sizes(sampled or whole, whole)
        )
    ]
    parts += [
        ("attention", Architecture(LAYERS, hidden_size, 1, heads, qkv_size))
        for hidden_size, (heads, qkv_size) in itertools.product(
            (hidden_sizes[0], hidden_sizes[-1]), _other_heads(sampled or whole, whole)
        )
    ]
    parts += [
        ("ffn", Architecture(LAYERS, hidden_size, ffn_size, 1, 1))
        for hidden_size, ffn_size in itertools.product(hidden_sizes, ffn_sizes)
    ]
    configurations = tuple(
        Configuration(architecture, workload, target, part)
        for (part, architecture), workload, target in itertools.product(
            dict.fromkeys(parts), dict.fromkeys(workloads), dict.fromkeys(targets)
        )
    )
    return Plan(configurations, len(configurations), 1, seed)


def _spread(sizes: Sequence[int], multiple: int | None = None) -> list[int]:
    """Evenly spaced sizes from the smallest to the largest, multiples of what all are."""
    step = math.gcd(*sizes) if multiple is None else multiple
    low, high = -(-min(sizes) // step), max(max(sizes) // step, -(-min(sizes) // step))
    return [int(step * value) for value in np.unique(np.linspace(low, high, _KNOTS).round())]


def _heads_and_sizes(
    sampled: Sequence[Architecture], whole: Sequence[Architecture]
) -> list[tuple[int, int]]:
    """Heads and QKV size of each attention to measure, one for each QKV size."""
    sizes = [shape.qkv_size for shape in whole]
    head_sizes = {shape.head_size for shape in sampled}
    if len({shape.num_heads for shape in sampled}) > 1 and len(head_sizes) == 1:
        (head_size,) = head_sizes
        return [(size // head_size, size) for size in _spread(sizes, head_size)]
    heads = _usual_heads(sampled)
    return [(heads, size) for size in _spread(sizes, heads)]


def _other_heads(
    sampled: Sequence[Architecture], whole: Sequence[Architecture]
) -> list[tuple[int, int]]:
    """The fewest and the most heads of each QKV size, where both vary on their own."""
    seen = {shape.num_heads for shape in sampled}
    if len(seen) == 1 or len({shape.head_size for shape in sampled}) == 1:
        return []
    found = []
    for usual, size in _heads_and_sizes(sampled, whole):
        dividing = [heads for heads in seen if size % heads == 0 and heads != usual]
        found += [(heads, size) for heads in set(_ends(dividing))]
    return sorted(found)


def _ends(values: Sequence[int]) -> list[int]:
    return [min(values), max(values)] if values else []


def _usual_heads(sampled: Sequence[Architecture]) -> int:
    """The middle number of heads."""
    heads = sorted(shape.num_heads for shape in sampled)
    return heads[len(heads) // 2]
