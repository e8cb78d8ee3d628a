"""`Architecture`: the five numbers that make a BERT-like encoder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError

# Also the columns of every file and of every integer matrix of architectures.
ARCHITECTURE_FIELDS = ("num_layers", "hidden_size", "ffn_size", "num_heads", "qkv_size")

# Far above any BERT; what a device agrees to build is bounded by its weights as well.
UPPER_BOUNDS = {
    "num_layers": 96,
    "hidden_size": 8192,
    "ffn_size": 32768,
    "num_heads": 128,
    "qkv_size": 8192,
}

IntMatrix = npt.NDArray[np.int64]

_ID = re.compile(r"(\d{1,5})-(\d{1,5})-(\d{1,5})-(\d{1,5})-(\d{1,5})", re.ASCII)


@dataclasses.dataclass(frozen=True, order=True)
class Architecture:
    """A BERT-like encoder's shape, one choice shared by all its layers (AutoTinyBERT, 3.1).

    Attributes:
        num_layers: transformer layers.
        hidden_size: width of the residual stream and of the embeddings.
        ffn_size: inner width of each feed-forward network.
        num_heads: attention heads.
        qkv_size: width of queries, of keys and of values, all heads together.

    Raises:
        InputError: if a number is no integer from 1 to its `UPPER_BOUNDS`, or the heads do not
            divide the QKV size.
    """

    num_layers: int
    hidden_size: int
    ffn_size: int
    num_heads: int
    qkv_size: int

    def __post_init__(self) -> None:
        for name in ARCHITECTURE_FIELDS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{name} must be an integer, not {value!r}")
            if not 1 <= value <= UPPER_BOUNDS[name]:
                raise InputError(f"{name} must be from 1 to {UPPER_BOUNDS[name]}, not {value}")
        if self.qkv_size % self.num_heads:
            raise InputError(
                f"qkv_size {self.qkv_size} is not divisible by num_heads {self.num_heads} "
                f"in {self}: each head takes an equal share"
            )

    def __str__(self) -> str:
        return "-".join(str(value) for value in self.row)

    @property
    def row(self) -> tuple[int, int, int, int, int]:
        """The five numbers in the order of `ARCHITECTURE_FIELDS`."""
        return (
            self.num_layers,
            self.hidden_size,
            self.ffn_size,
            self.num_heads,
            self.qkv_size,
        )

    @property
    def head_size(self) -> int:
        """Dimensions of one head."""
        return self.qkv_size // self.num_heads

    def holds(self, other: Architecture) -> bool:
        """Whether a SuperPLM of this shape holds another as a slice.

        A slice takes the first layers, channels and heads, and the first dimensions of each head.
        """
        return (
            other.num_layers <= self.num_layers
            and other.hidden_size <= self.hidden_size
            and other.ffn_size <= self.ffn_size
            and other.num_heads <= self.num_heads
            and other.head_size <= self.head_size
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the id back: `5-564-1024-12-528`.

        Raises:
            InputError: if `text` is not five numbers joined by hyphens, or no architecture.
        """
        match = _ID.fullmatch(text.strip())
        if match is None:
            raise InputError(
                f"{text!r} is no architecture: write layers-hidden-ffn-heads-qkv, "
                "for example 5-564-1024-12-528"
            )
        return cls(*(int(number) for number in match.groups()))


def to_matrix(architectures: Sequence[Architecture]) -> IntMatrix:
    """Architectures as an int64 matrix `[N, 5]`, columns as in `ARCHITECTURE_FIELDS`."""
    rows = [architecture.row for architecture in architectures]
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(ARCHITECTURE_FIELDS))


def from_matrix(matrix: IntMatrix) -> list[Architecture]:
    """The architectures that the rows of a `[N, 5]` matrix stand for."""
    return [Architecture(*row) for row in matrix.tolist()]
