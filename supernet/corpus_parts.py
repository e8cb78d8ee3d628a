"""Chunks of text to parts of a corpus: a file a chunk, so that finished work is found again.

A part says which text it was made of, by a hash. So a run that was interrupted reads its source
again, but tokenises only what was not finished, and ends with the same bytes as an unbroken one,
by any number of processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autotinybert.errors import WorkError
from autotinybert.files import whole_binary_file
from supernet.corpus import SPLITS
from supernet.corpus_chunks import Chunk
from supernet.corpus_split import FlatTokens, TokenIds
from supernet.packing import PackedSequence, pack, plain_tokenizer, split_of
from supernet.tokenizer_roles import Frame

_PREFIX = "part-"

# Chunks handed out and not finished, for each process: the next is there when one is done.
_AHEAD = 2

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SplitPart:
    """What a chunk gave one split.

    Attributes:
        tokens: of its sequences, one after another.
        lengths: `[N]`, int32.
        segment_starts: likewise.
        documents: in the split.
        groups: of them.
        unknown: tokens that the tokenizer does not know.
    """

    tokens: FlatTokens
    lengths: TokenIds
    segment_starts: TokenIds
    documents: int
    groups: int
    unknown: int


@dataclass(frozen=True, kw_only=True)
class ChunkPacker:
    """Tokenises and packs a chunk; it can be sent to another process.

    Attributes:
        tokenizer: as `Tokenizer.to_str` gives it.
        frame: its special tokens around texts.
        sequence_length: the most tokens of a sequence.
        pairs: see `pack`.
        unknown_id: of unknown tokens; None where there are none.
        token_type: what tokens are stored as.
    """

    tokenizer: str
    frame: Frame
    sequence_length: int
    pairs: bool
    unknown_id: int | None
    token_type: str

    @cached_property
    def _identity(self) -> bytes:
        return hashlib.sha256(repr(self).encode()).digest()

    def digest(self, chunk: Chunk) -> bytes:
        """A hash of all that decides a chunk's part."""
        digest = hashlib.sha256(self._identity)
        for document in chunk:
            text = "\n".join((document.group, *document.sentences, ""))
            digest.update(text.encode(errors="replace") + b"\n")
        return digest.digest()

    def open(self) -> Callable[[Chunk, Path], None]:
        """Reads the tokenizer, and returns what writes a chunk's part."""
        from tokenizers import Tokenizer

        plain = plain_tokenizer(Tokenizer.from_str(self.tokenizer))

        def write(chunk: Chunk, path: Path) -> None:
            packed: dict[str, list[PackedSequence]] = {name: [] for name in SPLITS}
            for sequence in pack(
                chunk,
                plain,
                self.frame,
                sequence_length=self.sequence_length,
                pairs=self.pairs,
            ):
                packed[split_of(sequence.group)].append(sequence)
            parts = {name: self._part(name, chunk, found) for name, found in packed.items()}
            with whole_binary_file(path) as file:
                file.write(_to_bytes(parts, self.digest(chunk)))

        return write

    def _part(self, split: str, chunk: Chunk, sequences: list[PackedSequence]) -> SplitPart:
        groups = [document.group for document in chunk if split_of(document.group) == split]
        flat = [token for sequence in sequences for token in sequence.ids]
        tokens = np.array(flat, dtype=self.token_type)
        return SplitPart(
            tokens=tokens,
            lengths=np.array([len(sequence.ids) for sequence in sequences], dtype=np.int32),
            segment_starts=np.array([s.segment_start for s in sequences], dtype=np.int32),
            documents=len(groups),
            groups=len(set(groups)),
            unknown=0 if self.unknown_id is None else int((tokens == self.unknown_id).sum()),
        )


def write_parts(
    chunks: Iterable[Chunk], packer: ChunkPacker, folder: Path, *, workers: int = 1
) -> int:
    """Writes the part of every chunk, unless it is there.

    Args:
        chunks: in order; no more than a few of them are in memory.
        packer: what makes the parts.
        folder: where they go, and where those of a run that was interrupted are.
        workers: processes; with one, it is this one.

    Returns:
        How many parts there are.

    Raises:
        InputError: if the source of the chunks has an error, or the folder cannot be written.
        WorkError: if a process was killed.
    """
    count = 0
    with _submitter(packer, workers) as submit:
        for index, chunk in enumerate(chunks):
            count += 1
            path = part_path(folder, index)
            if _digest_in(path) != packer.digest(chunk):
                submit(chunk, path)
    return count


@contextlib.contextmanager
def _submitter(packer: ChunkPacker, workers: int) -> Iterator[Callable[[Chunk, Path], None]]:
    """What has a chunk's part written, here or in one of several processes."""
    if workers == 1:
        yield packer.open()
        return
    context = multiprocessing.get_context("spawn")  # threads and forks do not mix
    waiting: deque[Future[None]] = deque()
    pool = ProcessPoolExecutor(workers, context, initializer=_open, initargs=(packer,))

    def submit(chunk: Chunk, path: Path) -> None:
        if len(waiting) >= workers * _AHEAD:
            waiting.popleft().result()
        waiting.append(pool.submit(_write, chunk, path))

    try:
        yield submit
        while waiting:
            waiting.popleft().result()
    except BrokenProcessPool as error:
        raise WorkError(
            "a process that tokenises was killed, perhaps for want of memory: give the same "
            "command again with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


# In a worker: what its one packer writes parts with.
_writers: list[Callable[[Chunk, Path], None]] = []


def _open(packer: ChunkPacker) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process for every core
    _writers[:] = [packer.open()]


def _write(chunk: Chunk, path: Path) -> None:
    _writers[0](chunk, path)


def part_path(folder: Path, index: int) -> Path:
    """The file of a chunk's part."""
    return folder / f"{_PREFIX}{index:07}.safetensors"


def remove_parts(folder: Path) -> None:
    """Removes all parts from a folder."""
    for path in folder.glob(f"{_PREFIX}*.safetensors"):
        path.unlink()


def read_part(path: Path) -> dict[str, SplitPart]:
    """Reads a part by split.

    Raises:
        OSError: if it is not there.
    """
    from safetensors.numpy import load

    tensors = load(path.read_bytes())
    return {
        name: SplitPart(
            tensors[f"{name}.tokens"],
            tensors[f"{name}.lengths"],
            tensors[f"{name}.segment_starts"],
            *(int(value) for value in tensors[f"{name}.counts"]),
        )
        for name in SPLITS
    }


def _to_bytes(parts: dict[str, SplitPart], digest: bytes) -> bytes:
    from safetensors.numpy import save

    tensors: dict[str, Array] = {"chunk": np.frombuffer(digest, dtype=np.uint8)}
    for name, part in parts.items():
        tensors[f"{name}.tokens"] = part.tokens
        tensors[f"{name}.lengths"] = part.lengths
        tensors[f"{name}.segment_starts"] = part.segment_starts
        tensors[f"{name}.counts"] = np.array([part.documents, part.groups, part.unknown], np.int64)
    return save(tensors)


def _digest_in(path: Path) -> bytes | None:
    """The hash of the chunk that a part was made of; None if it is not there or not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return bytes(file.get_tensor("chunk").tobytes())
    except (OSError, SafetensorError):
        return None
