"""Chunks by any number of processes, interrupted or not: the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autotinybert.errors import InputError, WorkError
from supernet import corpus_parts
from supernet.corpus_chunks import Chunk
from supernet.corpus_parts import ChunkPacker, part_path, read_part, remove_parts, write_parts
from supernet.text_document import Document
from supernet.tokenizer import load_tokenizer
from supernet.tokenizer_roles import frame_of


@pytest.fixture
def packer(bert_folder: Path) -> ChunkPacker:
    tokenizer = load_tokenizer(bert_folder)
    frame = frame_of(tokenizer)
    assert frame is not None
    return ChunkPacker(
        tokenizer=tokenizer.to_str(),
        frame=frame,
        sequence_length=16,
        pairs=False,
        unknown_id=1,
        token_type="<u2",
    )


def some_chunks(count: int) -> list[Chunk]:
    return [
        tuple(
            Document(f"g{chunk}-{index}", (f"This is document {chunk} of {index}.",) * 3)
            for index in range(20)
        )
        for chunk in range(count)
    ]


def contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("part-*")
    }


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_any_number_of_processes_gives_the_same_parts(tmp_path: Path, packer: ChunkPacker) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    assert write_parts(some_chunks(7), packer, one) == 7
    assert write_parts(some_chunks(7), packer, two, workers=2) == 7
    assert len(contents(one)) == 7
    assert contents(one) == contents(two)


def test_an_interrupted_run_goes_on_after_the_last_finished_chunk(
    tmp_path: Path, packer: ChunkPacker
) -> None:
    whole, broken = make(tmp_path / "whole"), make(tmp_path / "broken")
    write_parts(some_chunks(5), packer, whole)

    def interrupted() -> Iterator[Chunk]:
        yield from some_chunks(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parts(interrupted(), packer, broken)
    before = {path: path.stat().st_mtime_ns for path in broken.iterdir()}
    assert len(before) == 3
    write_parts(some_chunks(5), packer, broken)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert contents(broken) == contents(whole)


def test_a_part_of_another_text_or_another_length_is_made_again(
    tmp_path: Path, packer: ChunkPacker
) -> None:
    folder, other = make(tmp_path / "one"), make(tmp_path / "other")
    write_parts(some_chunks(2), packer, folder)
    changed = [some_chunks(3)[2], some_chunks(2)[1]]
    write_parts(changed, packer, folder)
    write_parts(changed, packer, other)
    assert contents(folder) == contents(other)
    part_path(folder, 0).write_bytes(b"torn")
    write_parts(changed, packer, folder)
    assert contents(folder) == contents(other)
    longer = replace(packer, sequence_length=32)
    write_parts(changed, longer, folder)
    assert not set(contents(folder).items()) & set(contents(other).items())


def test_a_part_counts_what_is_in_it(tmp_path: Path, packer: ChunkPacker) -> None:
    write_parts(some_chunks(1), packer, tmp_path)
    parts = read_part(part_path(tmp_path, 0))
    assert sum(part.documents for part in parts.values()) == 20
    assert sum(part.groups for part in parts.values()) == 20
    for part in parts.values():
        assert int(part.lengths.sum()) == len(part.tokens)
        assert part.segment_starts.tolist() == part.lengths.tolist()
    remove_parts(tmp_path)
    assert not list(tmp_path.glob("part-*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_source_ends_the_run(
    tmp_path: Path, packer: ChunkPacker, workers: int
) -> None:
    def bad() -> Iterator[Chunk]:
        yield from some_chunks(1)
        raise InputError("no text")

    with pytest.raises(InputError, match="no text"):
        write_parts(bad(), packer, tmp_path, workers=workers)


def test_a_process_that_dies_is_an_error_that_says_what_to_do(
    tmp_path: Path, packer: ChunkPacker
) -> None:
    dying = replace(packer, tokenizer="no tokenizer")
    with pytest.raises(WorkError, match="fewer --workers"):
        write_parts(some_chunks(2), dying, tmp_path, workers=2)
    assert corpus_parts._writers == []
