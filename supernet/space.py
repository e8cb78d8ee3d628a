"""Search spaces of BERT shapes: the only place where a lattice is written.

A space is a product: layers x FFN sizes x widths, where a *width* is a triple (hidden size,
heads, QKV size) from an explicit table. The table makes one class serve every rule that ties QKV
to heads or to hidden size, and gives each architecture a rank from 0 to `size - 1`. So sampling is
uniform by construction, membership is a look-up, and enumeration is arithmetic on ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from supernet.architecture import UPPER_BOUNDS, Architecture, IntMatrix, from_matrix

QkvRule = Literal["free", "per-head", "hidden"]

# Roberts' generalised golden ratio for five dimensions: the root of x**6 = x + 1. Its powers give
# a low-discrepancy sequence (extremelearning.com.au, "The unreasonable effectiveness of
# quasirandom sequences").
_ROOT = 1.1347241384015194

# The table of widths is held in memory; the largest built-in space has 8,050.
_MOST_WIDTHS = 500_000


@dataclass(frozen=True)
class Space:
    """A finite set of architectures.

    Attributes:
        name: what `--space` calls it.
        num_layers: allowed depths.
        hidden_sizes: allowed hidden sizes.
        ffn_sizes: allowed FFN sizes.
        num_heads: allowed numbers of heads.
        qkv_rule: `free`: every allowed QKV size that the heads divide; `per-head`: heads times a
            fixed head size; `hidden`: the hidden size, where the heads divide it.
        qkv_sizes: the allowed QKV sizes under `free`; the head size alone under `per-head`.
        max_head_size: the most dimensions of a head; None is no limit.

    Raises:
        InputError: if an axis is empty or out of bounds, or no triple satisfies the rule.
    """

    name: str
    num_layers: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    ffn_sizes: tuple[int, ...]
    num_heads: tuple[int, ...]
    qkv_rule: QkvRule
    qkv_sizes: tuple[int, ...] = ()
    max_head_size: int | None = None
    widths: IntMatrix = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        axes = {
            "num_layers": self.num_layers,
            "hidden_size": self.hidden_sizes,
            "ffn_size": self.ffn_sizes,
            "num_heads": self.num_heads,
        }
        if self.qkv_rule != "hidden":
            axes["qkv_size"] = self.qkv_sizes
        for axis, values in axes.items():
            if not values:
                raise InputError(f"space {self.name}: {axis} has no value")
            if list(values) != sorted(set(values)):
                raise InputError(f"space {self.name}: {axis} must increase")
            if values[0] < 1 or values[-1] > UPPER_BOUNDS[axis]:
                raise InputError(
                    f"space {self.name}: {axis} must lie within 1..{UPPER_BOUNDS[axis]}"
                )
        triples = len(self.hidden_sizes) * len(self.num_heads) * max(len(self.qkv_sizes), 1)
        if triples > _MOST_WIDTHS:
            raise InputError(
                f"space {self.name}: hidden sizes x heads x QKV sizes make {triples} widths, at "
                f"most {_MOST_WIDTHS} are held: take larger steps"
            )
        if self.qkv_rule == "per-head":
            largest = self.num_heads[-1] * self.qkv_sizes[-1]
            if largest > UPPER_BOUNDS["qkv_size"]:
                raise InputError(
                    f"space {self.name}: {self.num_heads[-1]} heads of {self.qkv_sizes[-1]} make a "
                    f"qkv_size of {largest}, at most {UPPER_BOUNDS['qkv_size']} is allowed"
                )
        object.__setattr__(self, "widths", self._widths())
        if not len(self.widths):
            limit = (
                "" if self.max_head_size is None else f" into heads of {self.max_head_size} or less"
            )
            raise InputError(
                f"space {self.name}: no QKV size is divisible by a number of heads{limit}"
            )

    def _widths(self) -> IntMatrix:
        """All triples (hidden, heads, QKV), in lexicographic order."""
        triples: list[tuple[int, int, int]] = []
        largest = UPPER_BOUNDS["qkv_size"] if self.max_head_size is None else self.max_head_size
        for hidden_size in self.hidden_sizes:
            for heads in self.num_heads:
                if self.qkv_rule == "per-head":
                    candidates = tuple(heads * size for size in self.qkv_sizes)
                elif self.qkv_rule == "hidden":
                    candidates = (hidden_size,)
                else:
                    candidates = self.qkv_sizes
                triples += [
                    (hidden_size, heads, qkv)
                    for qkv in candidates
                    if qkv % heads == 0 and qkv // heads <= largest
                ]
        return np.array(triples, dtype=np.int64).reshape(len(triples), 3)

    @property
    def size(self) -> int:
        """How many architectures there are."""
        return len(self.num_layers) * len(self.ffn_sizes) * len(self.widths)

    @cached_property
    def _width_ranks(self) -> dict[tuple[int, int, int], int]:
        return {(h, n, q): rank for rank, (h, n, q) in enumerate(self.widths.tolist())}

    def __contains__(self, architecture: Architecture) -> bool:
        layers, hidden_size, ffn_size, heads, qkv_size = architecture.row
        return (
            layers in self.num_layers
            and ffn_size in self.ffn_sizes
            and (hidden_size, heads, qkv_size) in self._width_ranks
        )

    def rank(self, architecture: Architecture) -> int:
        """The position of an architecture in the enumeration.

        Raises:
            InputError: if it is not in the space.
        """
        if architecture not in self:
            raise InputError(f"{architecture} is not in space {self.name}")
        layers, hidden_size, ffn_size, heads, qkv_size = architecture.row
        rank = self.num_layers.index(layers) * len(self.widths)
        rank += self._width_ranks[hidden_size, heads, qkv_size]
        return rank * len(self.ffn_sizes) + self.ffn_sizes.index(ffn_size)

    def at(self, ranks: npt.NDArray[np.int64]) -> IntMatrix:
        """The architectures at `ranks` `[N]`, as an int64 matrix `[N, 5]`.

        Raises:
            IndexError: if a rank is outside 0 to `size - 1`.
        """
        if len(ranks) and (ranks.min() < 0 or ranks.max() >= self.size):
            raise IndexError(f"ranks of space {self.name} go from 0 to {self.size - 1}")
        rest, ffn = np.divmod(ranks, len(self.ffn_sizes))
        layer, width = np.divmod(rest, len(self.widths))
        widths = self.widths[width]
        columns = (
            np.array(self.num_layers)[layer],
            widths[:, 0],
            np.array(self.ffn_sizes)[ffn],
            widths[:, 1],
            widths[:, 2],
        )
        return np.stack(columns, axis=1).astype(np.int64, copy=False)

    def blocks(self, block_size: int = 1 << 20) -> Iterator[IntMatrix]:
        """All architectures in the order of their ranks, in matrices `[<= block_size, 5]`."""
        for start in range(0, self.size, block_size):
            yield self.at(np.arange(start, min(start + block_size, self.size), dtype=np.int64))

    def sample(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        """Draws `count` different architectures, uniformly.

        Raises:
            InputError: if the space holds fewer.
        """
        self._require(count)
        return from_matrix(self.at(rng.choice(self.size, size=count, replace=False)))

    def space_filling(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        """Draws `count` different architectures that cover every axis evenly.

        An additive recurrence (Roberts' R-sequence) with a random start; any prefix covers the
        space evenly as well, so a plan may be cut short.

        Raises:
            InputError: if the space holds fewer.
        """
        self._require(count)
        steps = _ROOT ** -np.arange(1.0, 6.0)
        start = rng.random(5)
        chosen: dict[tuple[int, ...], None] = {}
        # A small space can be filled up only by chance, so the sequence is given an end.
        for index in range(1, 20 * count + 1):
            row = self._quantile((start + index * steps) % 1.0)
            chosen.setdefault(row)
            if len(chosen) == count:
                return from_matrix(np.array(list(chosen), dtype=np.int64))
        rest = self.at(rng.permutation(np.arange(self.size)))
        chosen.update(dict.fromkeys(map(tuple, rest.tolist())))
        return from_matrix(np.array(list(chosen)[:count], dtype=np.int64))

    def _quantile(self, point: npt.NDArray[np.float64]) -> tuple[int, int, int, int, int]:
        """The architecture at a point of the unit cube, axis by axis."""

        def pick(values: npt.NDArray[np.int64], position: float) -> int:
            return int(values[int(position * len(values))])

        hidden_size = pick(np.array(self.hidden_sizes), point[1])
        at_hidden = self.widths[self.widths[:, 0] == hidden_size]
        if not len(at_hidden):  # under `hidden`, no number of heads may divide this size
            nearest = np.abs(self.widths[:, 0] - hidden_size).argmin()
            at_hidden = self.widths[self.widths[:, 0] == self.widths[nearest, 0]]
        heads = pick(np.unique(at_hidden[:, 1]), point[3])
        qkv = pick(at_hidden[at_hidden[:, 1] == heads, 2], point[4])
        return (
            pick(np.array(self.num_layers), point[0]),
            int(at_hidden[0, 0]),
            pick(np.array(self.ffn_sizes), point[2]),
            heads,
            qkv,
        )

    def _require(self, count: int) -> None:
        if count > self.size:
            raise InputError(
                f"space {self.name} holds {self.size} architectures: {count} cannot be drawn"
            )

    def corners(self) -> list[Architecture]:
        """The smallest and the largest architecture: between them lies every axis's range."""
        smallest = Architecture(self.num_layers[0], *self._corner_widths(0))
        largest = Architecture(self.num_layers[-1], *self._corner_widths(-1))
        return [smallest, largest] if smallest != largest else [smallest]

    def _corner_widths(self, end: Literal[0, -1]) -> tuple[int, int, int, int]:
        # Heads come last: among equal sizes the extreme number of heads.
        order = np.lexsort((self.widths[:, 1], self.widths[:, 2], self.widths[:, 0]))
        hidden_size, heads, qkv_size = self.widths[order[end]].tolist()
        return hidden_size, self.ffn_sizes[end], heads, qkv_size

    def clipped(self, largest: Architecture) -> Space:
        """The part of the space that a SuperPLM of shape `largest` holds as slices.

        A slice has at most the SuperPLM's layers, widths and heads, and each of its heads at most
        the dimensions of one of the SuperPLM's.

        Raises:
            InputError: if it holds none of them; says which axis is to blame.
        """
        bounds = {
            "num_layers": (self.num_layers, largest.num_layers),
            "hidden_size": (self.hidden_sizes, largest.hidden_size),
            "ffn_size": (self.ffn_sizes, largest.ffn_size),
            "num_heads": (self.num_heads, largest.num_heads),
        }
        if self.qkv_rule == "per-head":
            bounds["head size"] = (self.qkv_sizes, largest.head_size)
        elif self.qkv_rule == "free":
            bounds["qkv_size"] = (self.qkv_sizes, largest.qkv_size)
        for axis, (values, highest) in bounds.items():
            if values[0] > highest:
                raise InputError(
                    f"a SuperPLM of {largest} holds no shape of space {self.name}: {axis} begins "
                    f"at {values[0]} there, and the SuperPLM ends at {highest}"
                )

        def kept(values: tuple[int, ...], highest: int) -> tuple[int, ...]:
            return tuple(value for value in values if value <= highest)

        qkv_axis = "head size" if self.qkv_rule == "per-head" else "qkv_size"
        return Space(
            name=self.name,
            num_layers=kept(*bounds["num_layers"]),
            hidden_sizes=kept(*bounds["hidden_size"]),
            ffn_sizes=kept(*bounds["ffn_size"]),
            num_heads=kept(*bounds["num_heads"]),
            qkv_rule=self.qkv_rule,
            qkv_sizes=kept(*bounds[qkv_axis]) if qkv_axis in bounds else (),
            max_head_size=min(largest.head_size, self.max_head_size or largest.head_size),
        )

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """The architectures one step away along one axis, at most ten, in a fixed order.

        A step along hidden or QKV size keeps the heads, and the other size as near as the rule
        allows; a step along the heads keeps the hidden size.

        Raises:
            InputError: if the architecture is not in the space.
        """
        self.rank(architecture)  # refuses what is not in the space
        layers, hidden_size, ffn_size, heads, qkv_size = architecture.row
        found: dict[Architecture, None] = {}
        for depth in _adjacent(self.num_layers, layers):
            found[Architecture(depth, hidden_size, ffn_size, heads, qkv_size)] = None
        for ffn in _adjacent(self.ffn_sizes, ffn_size):
            found[Architecture(layers, hidden_size, ffn, heads, qkv_size)] = None
        hiddens, head_counts, qkvs = self.widths.T
        same_heads, same_hidden = head_counts == heads, hiddens == hidden_size
        moves = (
            (same_heads, hiddens, hidden_size, np.abs(qkvs - qkv_size)),
            (same_heads, qkvs, qkv_size, np.abs(hiddens - hidden_size)),
            (same_hidden, head_counts, heads, np.abs(qkvs - qkv_size)),
        )
        for keep, axis, value, detour in moves:
            for direction in (-1, 1):
                distance = (axis - value) * direction
                allowed = np.flatnonzero(keep & (distance > 0))
                if len(allowed):
                    best = np.lexsort((detour[allowed], distance[allowed]))[0]
                    new_hidden, new_heads, new_qkv = self.widths[allowed[best]].tolist()
                    found[Architecture(layers, new_hidden, ffn_size, new_heads, new_qkv)] = None
        return list(found)


def _adjacent(values: tuple[int, ...], value: int) -> tuple[int, ...]:
    index = values.index(value)
    return values[max(index - 1, 0) : index] + values[index + 1 : index + 2]


def axis_values(low: int, high: int, step: int) -> tuple[int, ...]:
    """The values of an axis from `low` to at most `high`."""
    return tuple(range(low, high + 1, step))


def kd_space(*, hidden_step: int = 4, ffn_step: int = 4) -> Space:
    """The space of the published distilled SuperPLM: 12 heads of 15 to 64 dimensions.

    The published searcher steps hidden sizes by 16 and FFN sizes by 32.
    """
    return Space(
        name="kd",
        num_layers=axis_values(1, 8, 1),
        hidden_sizes=axis_values(128, 768, hidden_step),
        ffn_sizes=axis_values(128, 3072, ffn_step),
        num_heads=(12,),
        qkv_rule="free",
        qkv_sizes=axis_values(180, 768, 12),
    )


def mlm_space(*, hidden_step: int = 4, ffn_step: int = 4) -> Space:
    """The space of the published masked-language-model SuperPLM: 1 to 12 heads of 64."""
    return Space(
        name="mlm",
        num_layers=axis_values(1, 8, 1),
        hidden_sizes=axis_values(128, 768, hidden_step),
        ffn_sizes=axis_values(128, 3072, ffn_step),
        num_heads=axis_values(1, 12, 1),
        qkv_rule="per-head",
        qkv_sizes=(64,),
    )


def hf_native_space(*, hidden_step: int = 4, ffn_step: int = 4) -> Space:
    """The shapes that a stock Hugging Face `BertModel` holds: QKV size equals hidden size."""
    return Space(
        name="hf-native",
        num_layers=axis_values(1, 8, 1),
        hidden_sizes=axis_values(128, 768, hidden_step),
        ffn_sizes=axis_values(128, 3072, ffn_step),
        num_heads=(1, 2, 3, 4, 6, 8, 12),
        qkv_rule="hidden",
    )


def fast_rule(architectures: IntMatrix) -> npt.NDArray[np.bool_]:
    """Which architectures `[N, 5]` the paper's fast mode considers, bool `[N]`.

    FFN from 1.6 to 1.9 times, QKV from 0.7 to 1 times the hidden size (AutoTinyBERT, section 3.4).
    """
    _, hidden_size, ffn_size, _, qkv_size = architectures.T
    # In integers: 1.6 d as a float may lie above the integer that it is.
    ffn = (16 * hidden_size <= 10 * ffn_size) & (10 * ffn_size <= 19 * hidden_size)
    qkv = (7 * hidden_size <= 10 * qkv_size) & (qkv_size <= hidden_size)
    return np.asarray(ffn & qkv, dtype=np.bool_)
