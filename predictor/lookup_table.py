"""A table of block latencies: attention by hidden and QKV size, FFN by hidden and FFN size.

A model's latency is the sum of its blocks: embeddings + layers x (attention + FFN). Between the
table's sizes a block is interpolated linearly along both axes.

Where blocks were measured, these are the entries, times one factor for each kind of block that
whole-model timings give: alone, a block finds its weights in another cache than inside a model.

Elsewhere the entries themselves come from whole-model timings, by least squares on relative errors:
entries are not negative, and change evenly from one size to the next as far as the timings allow.
What attention and FFN share for every hidden size, whole-model timings cannot tell apart; the sum
is what they determine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from autotinybert.values import items, number
from device_profiles.blocks import BLOCKS, Block, BlockTime
from device_profiles.measurements import HIGHEST_LATENCY_MS
from predictor.robust import believed
from predictor.table_entries import (
    design_of_entries,
    grid_of_blocks,
    head_slope_ms,
    second_differences,
    spread_knots,
)
from supernet.architecture import IntMatrix

FloatVector = npt.NDArray[np.float64]
FloatMatrix = npt.NDArray[np.float64]

# How strongly entries are kept even, against timings that have errors of about 1 %.
_EVENNESS = 0.3

# How strongly factors are kept at 1, against the mean square of relative errors: enough to decide
# between kinds of block that grow alike in all rows.
_RELUCTANCE = 1e-4

# A table with more holes than this says too little.
_MOST_HOLES = 0.5

_VECTORS = ("hidden_sizes", "qkv_sizes", "ffn_sizes", "embedding_ms", "attention_ms", "ffn_ms")


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
        calibration: of a measured table `[3]`: what the entries of embeddings, attention (heads
            included) and FFN are multiplied by inside a model. None of a fitted one.
    """

    hidden_sizes: FloatVector
    qkv_sizes: FloatVector
    ffn_sizes: FloatVector
    embedding_ms: FloatVector
    attention_ms: FloatMatrix
    ffn_ms: FloatMatrix
    head_ms: float
    calibration: tuple[float, float, float] | None = None

    @property
    def is_measured(self) -> bool:
        """Whether the entries are measured blocks."""
        return self.calibration is not None

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
        axes = [spread_knots(architectures[:, column], knots) for column in (1, 4, 2)]
        design = design_of_entries(architectures, *axes)
        # Entries are fitted in units of a typical block, so that one evenness serves all devices.
        typical_ms = float(np.median(latency_ms / architectures[:, 0]))
        relative = design * typical_ms / latency_ms[:, None]
        evenness = _EVENNESS * np.sqrt(len(latency_ms)) * second_differences(*map(len, axes))
        entries, _ = nnls(
            np.vstack([relative, evenness]),
            np.concatenate([np.ones(len(latency_ms)), np.zeros(len(evenness))]),
        )
        hidden, qkv, ffn = axes
        return cls._from_entries(hidden, qkv, ffn, entries * typical_ms)

    @staticmethod
    def has_enough(blocks: Sequence[BlockTime]) -> bool:
        """Whether more than half of each kind of block could be measured."""
        return all(
            len(known) > _MOST_HOLES * sum(block.block == kind for block in blocks)
            for kind, known in _known_of_kind(blocks).items()
        )

    @classmethod
    def measured(cls, blocks: Sequence[BlockTime]) -> Self:
        """The table of measured blocks as they are.

        Args:
            blocks: of one workload and target.

        Raises:
            InputError: if more than half of a kind could not be measured.
        """
        if not cls.has_enough(blocks):
            raise InputError(
                "most blocks of a kind have no latency: measure again with profile-device --blocks"
            )
        of_kind = _known_of_kind(blocks)
        hidden = np.unique([block.hidden_size for block in blocks]).astype(np.float64)
        head_ms = head_slope_ms(of_kind["attention"])
        qkv, attention = grid_of_blocks(of_kind["attention"], hidden, head_ms)
        ffn, feed_forward = grid_of_blocks(of_kind["ffn"], hidden, 0.0)
        embedding = grid_of_blocks(of_kind["embedding"], hidden, 0.0)[1][:, 0]
        return cls(hidden, qkv, ffn, embedding, attention, feed_forward, head_ms, (1.0, 1.0, 1.0))

    @classmethod
    def from_blocks(
        cls, blocks: Sequence[BlockTime], architectures: IntMatrix, latency_ms: FloatVector
    ) -> Self:
        """The table of measured blocks, with factors fitted to whole-model timings.

        `measured(blocks)` is the same table without the factors.

        Args:
            blocks: of one workload and target.
            architectures: int64 `[N, 5]`.
            latency_ms: `[N]`, positive.

        Raises:
            InputError: if more than half of a kind of block could not be measured.
        """
        return cls.measured(blocks).calibrated(architectures, latency_ms)

    def calibrated(self, architectures: IntMatrix, latency_ms: FloatVector) -> Self:
        """The table with factors that make it agree with whole-model timings.

        Args:
            architectures: int64 `[N, 5]`.
            latency_ms: `[N]`, positive.
        """
        raw = replace(self, calibration=(1.0, 1.0, 1.0)).shares(architectures)
        relative = np.stack([raw[kind] for kind in BLOCKS], axis=1) / latency_ms[:, None]
        kept = believed(lambda weights: 1 - relative @ _factors(relative, weights), len(relative))
        first, second, third = _factors(relative, kept.astype(np.float64)).tolist()
        return replace(self, calibration=(first, second, third))

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
        shares = self.shares(architectures)
        latency_ms: FloatVector = shares["embedding"] + shares["attention"] + shares["ffn"]
        return latency_ms

    def shares(self, architectures: IntMatrix) -> dict[Block, FloatVector]:
        """What the embeddings, all attention and all FFN take of `predict`, milliseconds `[N]`.

        Element by element, so that a prediction is the same bit for bit whatever is predicted
        with it; a matrix product is not.

        Args:
            architectures: int64 `[N, 5]`.
        """
        layers, hidden, ffn, heads, qkv = np.ascontiguousarray(architectures.T, dtype=np.float64)
        of_embedding, of_attention, of_ffn = self._factors
        at_hidden = _place(hidden, self.hidden_sizes)
        attention = _bilinear(self.attention_ms, at_hidden, _place(qkv, self.qkv_sizes))
        feed_forward = _bilinear(self.ffn_ms, at_hidden, _place(ffn, self.ffn_sizes))
        return {
            "embedding": np.interp(hidden, self.hidden_sizes, self.embedding_ms) * of_embedding,
            "attention": layers * (attention + heads * self.head_ms) * of_attention,
            "ffn": layers * feed_forward * of_ffn,
        }

    @property
    def _factors(self) -> tuple[float, float, float]:
        return (1.0, 1.0, 1.0) if self.calibration is None else self.calibration

    def blocks(self) -> Iterator[tuple[str, int | None, int | None, float]]:
        """Every entry: block, hidden size, QKV or FFN size, milliseconds inside a model.

        What a head adds, whatever the sizes, comes last, if heads matter.
        """
        of_embedding, of_attention, of_ffn = self._factors
        for hidden_size, value in zip(self.hidden_sizes, self.embedding_ms, strict=True):
            yield "embedding", int(hidden_size), None, float(value) * of_embedding
        for name, sizes, table in (
            ("attention", self.qkv_sizes, self.attention_ms * of_attention),
            ("ffn", self.ffn_sizes, self.ffn_ms * of_ffn),
        ):
            for (row, hidden_size), (column, size) in itertools.product(
                enumerate(self.hidden_sizes), enumerate(sizes)
            ):
                yield name, int(hidden_size), int(size), float(table[row, column])
        if self.head_ms:
            yield "head", None, None, self.head_ms * of_attention

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        calibration = {} if self.calibration is None else {"calibration": list(self.calibration)}
        return {
            **{name: getattr(self, name).tolist() for name in _VECTORS},
            "head_ms": self.head_ms,
            **calibration,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a table back.

        Raises:
            InputError: if it is not one.
        """
        try:
            vectors = {name: _entries(value[name]) for name in _VECTORS}
            calibration = None
            if "calibration" in value:
                first, second, third = items(value["calibration"], _factor)
                calibration = (first, second, third)
            head_ms = number(value["head_ms"], lowest=0)
            table = cls(**vectors, head_ms=head_ms, calibration=calibration)
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


def _known_of_kind(blocks: Sequence[BlockTime]) -> dict[Block, list[BlockTime]]:
    """The blocks of each kind that have a latency."""
    return {
        kind: [block for block in blocks if block.block == kind and block.latency_ms is not None]
        for kind in BLOCKS
    }


def _factor(value: object) -> float:
    factor = number(value, lowest=0)
    if factor > HIGHEST_LATENCY_MS:
        raise ValueError(f"{factor:g} is no factor")
    return factor


def _factors(relative: FloatMatrix, weights: FloatVector) -> FloatVector:
    """Factors `[3]`, none negative and near 1 in doubt, that make rows of `relative @ f` one."""
    # Solving needs scipy; a device or a search that only predicts does without it.
    from scipy.optimize import nnls

    roots = np.sqrt(weights)
    pull = np.sqrt(_RELUCTANCE * weights.sum())
    solution: FloatVector = nnls(
        np.vstack([relative * roots[:, None], pull * np.eye(len(BLOCKS))]),
        np.concatenate([roots, np.full(len(BLOCKS), pull)]),
    )[0]
    return solution


# Indices of the knots below and above each size, and how far it is from one to the other.
_Place = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatVector]


def _place(sizes: FloatVector, knots: FloatVector) -> _Place:
    """Where sizes `[N]` lie among knots; beyond the ends, at the nearest end."""
    last = len(knots) - 1
    below = np.clip(np.searchsorted(knots, sizes, side="right") - 1, 0, max(last - 1, 0))
    above = np.minimum(below + 1, last)
    step = np.maximum(knots[above] - knots[below], 1.0)  # sizes are integers
    return below, above, np.clip((sizes - knots[below]) / step, 0.0, 1.0)


def _bilinear(table: FloatMatrix, row: _Place, column: _Place) -> FloatVector:
    """A table's value at each place, `[N]`."""
    (top, bottom, down), (left, right, across) = row, column
    upper = table[top, left] * (1 - across) + table[top, right] * across
    lower = table[bottom, left] * (1 - across) + table[bottom, right] * across
    found: FloatVector = upper * (1 - down) + lower * down
    return found
