"""Where the entries of a lookup table come from: measured blocks, or timings of whole models."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from device_profiles.blocks import BlockTime
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]
FloatMatrix = npt.NDArray[np.float64]


def head_slope_ms(attention: Sequence[BlockTime]) -> float:
    """What a head adds to an attention of the same sizes, where several numbers were measured."""
    of_sizes: dict[tuple[int, int | None], list[tuple[int, float]]] = {}
    for block in attention:
        assert block.num_heads is not None
        assert block.latency_ms is not None
        known = of_sizes.setdefault((block.hidden_size, block.size), [])
        known.append((block.num_heads, block.latency_ms))
    heads = [np.array(known) - np.mean(known, axis=0) for known in of_sizes.values()]
    apart = np.concatenate(heads)
    spread = float((apart[:, 0] ** 2).sum())
    if not spread:
        return 0.0
    slope = float((apart[:, 0] * apart[:, 1]).sum()) / spread
    most = min(latency / count for known in of_sizes.values() for count, latency in known)
    return min(max(slope, 0.0), most)


def grid_of_blocks(
    blocks: Sequence[BlockTime], hidden: FloatVector, head_ms: float
) -> tuple[FloatVector, FloatMatrix]:
    """The sizes of one kind of block `[K]`, and its entries less their heads `[D, K]`.

    A hole is filled from its neighbours along the size, a hidden size without any from its own.
    """
    sizes = np.unique([block.size or 0 for block in blocks]).astype(np.float64)
    sums, counts = np.zeros((2, len(hidden), len(sizes)))
    for block in blocks:
        assert block.latency_ms is not None
        place = np.searchsorted(hidden, block.hidden_size), np.searchsorted(sizes, block.size or 0)
        sums[place] += max(block.latency_ms - head_ms * (block.num_heads or 0), 0.0)
        counts[place] += 1
    for row in np.flatnonzero(counts.any(axis=1)).tolist():
        known = counts[row] > 0
        sums[row, known] /= counts[row, known]
        sums[row] = np.interp(sizes, sizes[known], sums[row, known])
    known = counts.any(axis=1)
    entries = np.stack([np.interp(hidden, hidden[known], column[known]) for column in sums.T], 1)
    return sizes, entries


def spread_knots(sizes: npt.NDArray[np.int64], count: int) -> FloatVector:
    """The sizes of a table's axis: evenly spaced over what was measured."""
    knots = np.unique(np.linspace(sizes.min(), sizes.max(), count).round())
    return knots.astype(np.float64)


def _hats(sizes: npt.NDArray[np.int64], knots: FloatVector) -> FloatMatrix:
    """Weights of linear interpolation, `[N, K]`; beyond the ends, the nearest end counts."""
    return np.stack([np.interp(sizes, knots, unit) for unit in np.eye(len(knots))], axis=1)


def design_of_entries(
    architectures: IntMatrix, hidden: FloatVector, qkv: FloatVector, ffn: FloatVector
) -> FloatMatrix:
    """How much of each entry is in each architecture, `[N, D + D Q + D F + 1]`."""
    layers = architectures[:, 0].astype(np.float64)
    at_hidden, at_qkv, at_ffn = (
        _hats(architectures[:, column], knots)
        for column, knots in ((1, hidden), (4, qkv), (2, ffn))
    )
    count = len(layers)
    attention = (at_hidden[:, :, None] * at_qkv[:, None, :]).reshape(count, -1)
    feed_forward = (at_hidden[:, :, None] * at_ffn[:, None, :]).reshape(count, -1)
    heads = (layers * architectures[:, 3])[:, None]
    return np.hstack(
        [at_hidden, layers[:, None] * attention, layers[:, None] * feed_forward, heads]
    )


def second_differences(d: int, q: int, f: int) -> FloatMatrix:
    """One row for each three neighbouring entries of the table, along either axis."""
    offsets = (0, d, d + d * q)
    width = d + d * q + d * f + 1
    rows: list[FloatVector] = []

    def add(first: int, step: int) -> None:
        row = np.zeros(width)
        row[[first, first + step, first + 2 * step]] = 1, -2, 1
        rows.append(row)

    for i in range(d - 2):
        add(offsets[0] + i, 1)
    for offset, columns in ((offsets[1], q), (offsets[2], f)):
        for i, j in itertools.product(range(d), range(columns)):
            if j + 2 < columns:
                add(offset + i * columns + j, 1)
            if i + 2 < d:
                add(offset + i * columns + j, columns)
    return np.array(rows).reshape(len(rows), width)
