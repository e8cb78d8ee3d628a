"""Measured blocks of encoders: what the embeddings, an attention and an FFN sub-layer take.

A block's latency is a difference: that of a few of them on top of the embeddings, less that of the
embeddings alone, shared out evenly. `blocks.csv` holds one row for each block.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np

from autotinybert.files import whole_file
from device_profiles.measurements import (
    HIGHEST_LATENCY_MS,
    SLICE_DEFAULTS,
    MeasuredRow,
    Slice,
    slice_columns,
    slice_of,
)
from device_profiles.table import Table, read_table
from device_profiles.verdicts import Verdict
from supernet.architecture import UPPER_BOUNDS
from supernet.variants import Part

Block = Literal["embedding", "attention", "ffn"]
BLOCKS: tuple[Block, ...] = get_args(Block)

_BLOCK_OF_PART: dict[Part, Block] = {
    "embeddings": "embedding",
    "attention": "attention",
    "ffn": "ffn",
}

_Name = TypeVar("_Name", bound=str)

# What `blocks.csv` can tell from nothing.
_LEAST_MS = 1e-6

_COLUMNS = (
    *SLICE_DEFAULTS,
    "block",
    "hidden_size",
    "size",
    "num_heads",
    "latency_ms",
    "verdict",
)

# From the best to the worst; a difference is as good as the worse of the two.
_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class BlockTime:
    """What one block takes.

    Attributes:
        slice: workload and target, the values of `SLICE_DEFAULTS`' columns.
        block: which.
        hidden_size: of the encoder.
        size: QKV size of attention, FFN size of an FFN; None of the embeddings.
        num_heads: of attention; None of the others.
        latency_ms: of one block; None if rejected.
        verdict: the worse of the two rows that it is the difference of.
    """

    slice: Slice
    block: Block
    hidden_size: int
    size: int | None
    num_heads: int | None
    latency_ms: float | None
    verdict: Verdict

    @property
    def name(self) -> tuple[object, ...]:
        """Everything but what was measured."""
        return (self.slice, self.block, self.hidden_size, self.size, self.num_heads)


def block_times_of(rows: Sequence[MeasuredRow]) -> list[BlockTime]:
    """The blocks that the rows of a campaign of parts tell of, in their order."""
    embeddings = {
        (slice_of(row.configuration), row.configuration.architecture.hidden_size): row
        for row in rows
        if row.configuration.part == "embeddings"
    }
    return [
        _block_time(row, embeddings) for row in rows if row.configuration.part in _BLOCK_OF_PART
    ]


def _block_time(row: MeasuredRow, embeddings: Mapping[tuple[Slice, int], MeasuredRow]) -> BlockTime:
    shape, block = row.configuration.architecture, _BLOCK_OF_PART[row.configuration.part]
    values = slice_of(row.configuration)
    latency_ms, verdict = row.latency_ms, row.verdict
    if block != "embedding":
        below = embeddings.get((values, shape.hidden_size))
        if below is None or below.latency_ms is None or latency_ms is None:
            latency_ms = None
        else:
            latency_ms = (latency_ms - below.latency_ms) / shape.num_layers
            verdict = max(verdict, below.verdict, key=_VERDICTS.index)
    if latency_ms is None or latency_ms < _LEAST_MS:
        latency_ms, verdict = None, "rejected"
    sizes = {"embedding": None, "attention": shape.qkv_size, "ffn": shape.ffn_size}
    return BlockTime(
        values,
        block,
        shape.hidden_size,
        sizes[block],
        shape.num_heads if block == "attention" else None,
        latency_ms,
        verdict,
    )


def write_blocks(path: Path, blocks: Sequence[BlockTime]) -> None:
    """Writes `blocks.csv`: readable in a spreadsheet, and by `read_blocks`."""
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for found in blocks:
            latency = "" if found.latency_ms is None else f"{found.latency_ms:.6f}"
            writer.writerow(
                (
                    *found.slice,
                    found.block,
                    found.hidden_size,
                    "" if found.size is None else found.size,
                    "" if found.num_heads is None else found.num_heads,
                    latency,
                    found.verdict,
                )
            )


def read_blocks(path: Path) -> list[BlockTime]:
    """Reads measured blocks from a CSV file.

    Raises:
        InputError: if the file or a field is not right, or a block stands there twice; names the
            line.
    """
    table = read_table(path)
    table.require(_COLUMNS)
    slices, slice_of_row = slice_columns(table)
    hidden = table.integers({"hidden_size": UPPER_BOUNDS["hidden_size"]})[:, 0].tolist()
    latencies = table.positive_floats("latency_ms", highest=HIGHEST_LATENCY_MS, allow_empty=True)
    texts = {name: table.texts(name) for name in ("block", "size", "num_heads", "verdict")}
    found: dict[tuple[object, ...], BlockTime] = {}
    for row in range(len(table)):
        block = _choice(table, row, "block", texts["block"][row], BLOCKS)
        verdict = _choice(table, row, "verdict", texts["verdict"][row], _VERDICTS)
        latency_ms = None if np.isnan(latencies[row]) else float(latencies[row])
        if (latency_ms is None) != (verdict == "rejected"):
            raise table.error(row, "a block has a latency unless it is rejected")
        size_bound = UPPER_BOUNDS["ffn_size" if block == "ffn" else "qkv_size"]
        size = _size(
            table, row, "size", texts["size"][row], size_bound, needed=block != "embedding"
        )
        heads = _size(
            table,
            row,
            "num_heads",
            texts["num_heads"][row],
            UPPER_BOUNDS["num_heads"],
            needed=block == "attention",
        )
        if size is not None and heads is not None and size % heads:
            raise table.error(row, f"size {size} is not divisible by num_heads {heads}")
        values = slices[int(slice_of_row[row])]
        time = BlockTime(values, block, hidden[row], size, heads, latency_ms, verdict)
        if time.name in found:
            raise table.error(row, "this block stands there twice")
        found[time.name] = time
    return list(found.values())


def _choice(table: Table, row: int, column: str, text: str, known: Sequence[_Name]) -> _Name:
    for name in known:
        if text == name:
            return name
    raise table.error(row, f"{column} is {text[:40]!r}, not one of {', '.join(known)}")


def _size(
    table: Table, row: int, column: str, text: str, highest: int, *, needed: bool
) -> int | None:
    """An integer where the block has one; empty where it has none."""
    if not needed:
        if text:
            raise table.error(row, f"{column} is {text[:40]!r}, but this block has none")
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= highest):
        raise table.error(row, f"{column} is {text[:40]!r}, not an integer from 1 to {highest}")
    return int(text)
