"""A table of block latencies: attention by hidden and QKV size, FFN by hidden and FFN size.

A model's latency is the sum of its blocks: embeddings + layers x (attention + FFN). Between the
table's sizes a block is interpolated linearly along both axes. The entries come from whole-model
timings, by least squares on relative errors: entries are not negative, and change evenly from one
size to the next as far as the timings allow.

What attention and FFN share for every hidden size, whole-model timings cannot tell apart; the sum
is what they determine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.values import items, number
from device_profiles.measurements import HIGHEST_LATENCY_MS
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]
FloatMatrix = npt.NDArray[np.float64]

# How strongly entries are kept even, against timings that have errors of about 1 %.
_EVENNESS = 0.3


def _entries(value: object) -> FloatVector:
    """A list of numbers, or of lists of as many numbers each.

    Raises:
        ValueError: if it is anything else.
    """
    rows = items(value, lambda row: items(row, number) if isinstance(row, list) else number(row))
    found: FloatVector = np.array(rows, dtype=np.float64)
    if not ((found >= 0) & (found <= HIGHEST_LATENCY_MS)).all():
        raise ValueError("an entry is no latency or size")
    return found


@dataclass(frozen=True)
class LookupTable:
    """Block latencies in milliseconds.

    Attributes:
        hidden_sizes: `[D]`, ascending.
        qkv_sizes: `[Q]`, ascending.
        ffn_sizes: `[F]`, ascending.
        embedding_ms: `[D]`, everything outside the layers.
        attention_ms: `[D, Q]`, one layer's attention with its projections, residual and norm.
        ffn_ms: `[D, F]`, one layer's feed-forward network with its residual and norm.
        head_ms: what each attention head adds to a layer.
    """

    hidden_sizes: FloatVector
    qkv_sizes: FloatVector
    ffn_sizes: FloatVector
    embedding_ms: FloatVector
    attention_ms: FloatMatrix
    ffn_ms: FloatMatrix
    head_ms: float

    @classmethod
    def fit(cls, architectures: IntMatrix, latency_ms: FloatVector) -> Self:
        """Fits the entries to whole-model timings.

        Args:
            architectures: int64 `[N, 5]`.
            latency_ms: `[N]`, positive.
        """
        # Solving needs scipy; a device or a search that only predicts does without it.
        from scipy.optimize import nnls

        knots = 3 if len(latency_ms) < 40 else 4
        axes = [_knots(architectures[:, column], knots) for column in (1, 4, 2)]
        design = _design(architectures, *axes)
        # Entries are fitted in units of a typical block, so that one evenness serves all devices.
        typical_ms = float(np.median(latency_ms / architectures[:, 0]))
        relative = design * typical_ms / latency_ms[:, None]
        evenness = _EVENNESS * np.sqrt(len(latency_ms)) * _second_differences(*map(len, axes))
        entries, _ = nnls(
            np.vstack([relative, evenness]),
            np.concatenate([np.ones(len(latency_ms)), np.zeros(len(evenness))]),
        )
        hidden, qkv, ffn = axes
        return cls._from_entries(hidden, qkv, ffn, entries * typical_ms)

    @classmethod
    def _from_entries(
        cls, hidden: FloatVector, qkv: FloatVector, ffn: FloatVector, entries: FloatVector
    ) -> Self:
        d, q, f = len(hidden), len(qkv), len(ffn)
        embedding, attention, feed_forward, head = np.split(
            entries, np.cumsum([d, d * q, d * f]).tolist()
        )
        return cls(
            hidden,
            qkv,
            ffn,
            embedding,
            attention.reshape(d, q),
            feed_forward.reshape(d, f),
            float(head[0]),
        )

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """Latencies in milliseconds, `[N]`, of architectures int64 `[N, 5]`."""
        entries = np.concatenate(
            [
                self.embedding_ms,
                self.attention_ms.ravel(),
                self.ffn_ms.ravel(),
                [self.head_ms],
            ]
        )
        design = _design(architectures, self.hidden_sizes, self.qkv_sizes, self.ffn_sizes)
        latency_ms: FloatVector = design @ entries
        return latency_ms

    def blocks(self) -> Iterator[tuple[str, int, int | None, float]]:
        """Every entry: block, hidden size, QKV or FFN size, milliseconds."""
        for hidden_size, value in zip(self.hidden_sizes, self.embedding_ms, strict=True):
            yield "embedding", int(hidden_size), None, float(value)
        for name, sizes, table in (
            ("attention", self.qkv_sizes, self.attention_ms),
            ("ffn", self.ffn_sizes, self.ffn_ms),
        ):
            for (row, hidden_size), (column, size) in itertools.product(
                enumerate(self.hidden_sizes), enumerate(sizes)
            ):
                yield name, int(hidden_size), int(size), float(table[row, column])

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a table back.

        Raises:
            InputError: if it is not one.
        """
        try:
            vectors = {
                name: _entries(value[name])
                for name in cls.__dataclass_fields__
                if name != "head_ms"
            }
            table = cls(**vectors, head_ms=number(value["head_ms"], lowest=0))
            d, q, f = (len(vectors[n]) for n in ("hidden_sizes", "qkv_sizes", "ffn_sizes"))
            fits = (
                table.embedding_ms.shape == (d,)
                and table.attention_ms.shape == (d, q)
                and table.ffn_ms.shape == (d, f)
                and min(d, q, f) >= 1
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"no lookup table: {error}") from error
        if not fits:
            raise InputError("no lookup table: its sizes and entries do not match")
        return table


def _knots(sizes: npt.NDArray[np.int64], count: int) -> FloatVector:
    """The sizes of a table's axis: evenly spaced over what was measured."""
    knots = np.unique(np.linspace(sizes.min(), sizes.max(), count).round())
    return knots.astype(np.float64)


def _hats(sizes: npt.NDArray[np.int64], knots: FloatVector) -> FloatMatrix:
    """Weights of linear interpolation, `[N, K]`; beyond the ends, the nearest end counts."""
    return np.stack([np.interp(sizes, knots, unit) for unit in np.eye(len(knots))], axis=1)


def _design(
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


def _second_differences(d: int, q: int, f: int) -> FloatMatrix:
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
