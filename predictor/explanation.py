"""What a predicted latency consists of, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autotinybert.errors import InputError
from autotinybert.text_table import text_table
from device_profiles.blocks import BLOCKS, Block, BlockTime
from device_profiles.measurements import SLICE_DEFAULTS, Slice
from device_profiles.profile import DeviceProfile
from predictor.lookup_table import LookupTable
from predictor.model import SlicePredictor
from supernet.architecture import Architecture

_HEADER = ("block", "times", "ms each", "ms in all", "share")


@dataclass(frozen=True)
class BlockShare:
    """What one kind of block takes.

    Attributes:
        block: which.
        count: how many there are.
        latency_ms: of all of them.
        share: of the model's latency, 0 to 1.
    """

    block: Block
    count: int
    latency_ms: float
    share: float


@dataclass(frozen=True)
class Explanation:
    """A predicted latency and its blocks.

    Attributes:
        slice: workload and target, the values of `SLICE_DEFAULTS`' columns.
        label: the same in words.
        model: the name of the model that predicted it.
        latency_ms: what it predicted.
        low_ms: 5 % of measurements lie below.
        high_ms: 5 % of measurements lie above.
        blocks: their latencies add up to `latency_ms`.
        is_measured: whether the blocks' shares come from measured blocks, or from a table that was
            fitted to whole models.
    """

    slice: Slice
    label: str
    model: str
    latency_ms: float
    low_ms: float
    high_ms: float
    blocks: tuple[BlockShare, ...]
    is_measured: bool

    @property
    def table(self) -> str:
        """`measured` or `fitted`."""
        return "measured" if self.is_measured else "fitted"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            **dict(zip(SLICE_DEFAULTS, self.slice, strict=True)),
            "model": self.model,
            "latency_ms": self.latency_ms,
            "latency_low_ms": self.low_ms,
            "latency_high_ms": self.high_ms,
            "table": self.table,
            "blocks": [
                {
                    "block": found.block,
                    "count": found.count,
                    "each_ms": found.latency_ms / found.count,
                    "latency_ms": found.latency_ms,
                    "share": found.share,
                }
                for found in self.blocks
            ],
        }


def explain(part: SlicePredictor, architecture: Architecture, statistic: str) -> Explanation:
    """The blocks of a predicted latency, by the lookup table's shares.

    Raises:
        InputError: if the architecture lies outside what was measured, or the statistic was not.
    """
    row = np.array([architecture.row], dtype=np.int64)
    try:
        found = part.predict(row, statistic)
    except InputError as error:
        raise InputError(f"{part.label}: {error}") from error
    table = part.models.get("lookup-table")
    if not isinstance(table, LookupTable):
        raise InputError("this predictor has no lookup table: fit it again with fit-predictor")
    shares = {block: float(latency_ms[0]) for block, latency_ms in table.shares(row).items()}
    total_ms = sum(shares.values())
    if not total_ms > 0:
        raise InputError(f"the lookup table has no latency for {architecture}: measure more")
    latency_ms = float(found.latency_ms[0])
    return Explanation(
        slice=part.slice,
        label=part.label,
        model=part.chosen,
        latency_ms=latency_ms,
        low_ms=float(found.low_ms[0]),
        high_ms=float(found.high_ms[0]),
        blocks=tuple(
            BlockShare(
                block,
                1 if block == "embedding" else architecture.num_layers,
                shares[block] / total_ms * latency_ms,
                shares[block] / total_ms,
            )
            for block in BLOCKS
        ),
        is_measured=table.is_measured,
    )


def explanation_text(architecture: Architecture, found: Explanation) -> str:
    """An explanation for a terminal."""
    source = (
        "shares by blocks that were measured alone"
        if found.is_measured
        else "shares by a table fitted to whole models: profile-device --blocks measures them"
    )
    rows: list[tuple[object, ...]] = [
        (
            share.block,
            share.count,
            f"{share.latency_ms / share.count:.4f}",
            f"{share.latency_ms:.4f}",
            f"{share.share:.1%}",
        )
        for share in found.blocks
    ]
    rows.append(("in all", "", "", f"{found.latency_ms:.4f}", "100.0%"))
    return "\n".join(
        [
            f"{architecture}, {found.label}: {found.latency_ms:.4g} ms by {found.model}, "
            f"{found.low_ms:.4g} to {found.high_ms:.4g}",
            text_table(_HEADER, rows),
            source,
        ]
    )


def blocks_by_slice(profiles: Sequence[DeviceProfile]) -> dict[Slice, list[BlockTime]]:
    """The measured blocks of each workload and target; the first profile that has them counts.

    A slice whose blocks mostly could not be measured has none.
    """
    found: dict[Slice, list[BlockTime]] = {}
    for profile in profiles:
        of_profile: dict[Slice, list[BlockTime]] = {}
        for time in profile.block_times or []:
            of_profile.setdefault(time.slice, []).append(time)
        for values, times in of_profile.items():
            if values not in found and LookupTable.has_enough(times):
                found[values] = times
    return found
