from __future__ import annotations

from pathlib import Path

import pytest

from autotinybert.errors import InputError
from device_profiles.blocks import BlockTime, block_times_of, read_blocks, write_blocks
from device_profiles.measurements import SLICE_DEFAULTS, MeasuredRow
from device_profiles.target import Configuration
from device_profiles.verdicts import Verdict
from supernet.architecture import Architecture
from supernet.variants import Part

SLICE = tuple(SLICE_DEFAULTS.values())
TIMES = [
    BlockTime(SLICE, "embedding", 128, None, None, 0.25, "ok"),
    BlockTime(SLICE, "attention", 128, 96, 12, 0.5, "ok"),
    BlockTime(SLICE, "attention", 128, 96, 4, 0.5, "noisy"),
    BlockTime(SLICE, "ffn", 128, 512, None, None, "rejected"),
]


def row(
    part: Part, shape: Architecture, latency_ms: float | None, verdict: Verdict = "ok"
) -> MeasuredRow:
    return MeasuredRow(Configuration(shape, part=part), latency_ms, {}, 6, 30, verdict)


def test_a_block_is_its_share_of_what_a_part_takes_beyond_the_embeddings() -> None:
    rows = [
        row("embeddings", Architecture(1, 128, 1, 1, 1), 0.25),
        row("attention", Architecture(3, 128, 1, 12, 96), 1.75),
        row("attention", Architecture(3, 128, 1, 4, 96), 1.75, "noisy"),
        row("ffn", Architecture(3, 128, 512, 1, 1), None, "rejected"),
        row("encoder", Architecture(3, 128, 512, 12, 96), 9.0),
    ]
    assert block_times_of(rows) == TIMES


@pytest.mark.parametrize("below_ms", [None, 2.0])
def test_a_block_without_a_difference_is_rejected(below_ms: float | None) -> None:
    rows = [
        row(
            "embeddings",
            Architecture(1, 128, 1, 1, 1),
            below_ms,
            "rejected" if below_ms is None else "ok",
        ),
        row("ffn", Architecture(3, 128, 512, 1, 1), 1.9),
    ]
    found = block_times_of(rows)[1]
    assert (found.latency_ms, found.verdict) == (None, "rejected")


def test_a_block_is_as_doubtful_as_the_embeddings_below_it() -> None:
    rows = [
        row("embeddings", Architecture(1, 128, 1, 1, 1), 0.25, "noisy"),
        row("ffn", Architecture(3, 128, 512, 1, 1), 1.75),
    ]
    assert block_times_of(rows)[1].verdict == "noisy"


def test_blocks_read_back(tmp_path: Path) -> None:
    write_blocks(tmp_path / "blocks.csv", TIMES)
    assert read_blocks(tmp_path / "blocks.csv") == TIMES


@pytest.mark.parametrize(
    ("line", "changed", "message"),
    [
        (2, {"block": "pooler"}, "line 2: block is 'pooler', not one of embedding, attention"),
        (2, {"size": "7"}, "line 2: size is '7', but this block has none"),
        (2, {"verdict": "rejected"}, "line 2: a block has a latency unless it is rejected"),
        (3, {"size": ""}, "line 3: size is '', not an integer from 1"),
        (3, {"size": "95"}, "line 3: size 95 is not divisible by num_heads 12"),
        (3, {"latency_ms": "nan"}, "line 3: latency_ms is 'nan', which is not a finite"),
        (4, {"num_heads": "12"}, "line 4: this block stands there twice"),
        (5, {"num_heads": "12"}, "line 5: num_heads is '12', but this block has none"),
        (5, {"verdict": "ok"}, "line 5: a block has a latency unless it is rejected"),
        (5, {"hidden_size": "0"}, "line 5: hidden_size is 0"),
    ],
)
def test_what_is_no_block_is_refused_by_line(
    tmp_path: Path, line: int, changed: dict[str, str], message: str
) -> None:
    path = tmp_path / "blocks.csv"
    write_blocks(path, TIMES)
    lines = path.read_text().splitlines()
    names = lines[0].split(",")
    fields = dict(zip(names, lines[line - 1].split(","), strict=True))
    lines[line - 1] = ",".join({**fields, **changed}.values())
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=message):
        read_blocks(path)


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blocks.csv"
    path.write_text("block,hidden_size\nembedding,128\n")
    with pytest.raises(InputError, match="lacks the columns sequence_length"):
        read_blocks(path)
