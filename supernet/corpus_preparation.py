"""Text to a token corpus: reads a source, tokenises, packs and splits it.

Text goes through in chunks, and the tokens of each are kept in a file of their own until all are
there: memory holds a few chunks, a shard of each split, and eight bytes a sentence.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotinybert.errors import InputError
from autotinybert.files import sha256_file
from supernet.corpus import SPLITS, TokenCorpus, load_corpus, write_document
from supernet.corpus_chunks import chunks
from supernet.corpus_parts import (
    ChunkPacker,
    part_path,
    read_part,
    remove_parts,
    write_parts,
)
from supernet.corpus_shards import ShardRecord, ShardWriter, token_dtype
from supernet.corpus_text import PYTHON_DOCS, read_documents
from supernet.packing import MIN_TOKENS
from supernet.text_document import Tally
from supernet.text_files import DocumentText
from supernet.text_python import DEFAULT_PYTHON_DOCS_CHARACTERS
from supernet.tokenizer import load_tokenizer, special_ids, tokenizer_path, vocabulary_size
from supernet.tokenizer_roles import frame_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The positions that a BERT has.
MAX_SEQUENCE_LENGTH = 512

# Of a text that a tokenizer fits, hardly a token in a hundred is unknown.
_MOST_UNKNOWN = 0.3

_COUNTS = ("documents", "groups", "sequences", "tokens", "unknown")


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """What is made of a text.

    Attributes:
        sequence_length: the most tokens of a sequence.
        max_characters: where to stop, at the end of a module or document; by default
            `DEFAULT_PYTHON_DOCS_CHARACTERS` for `python-docs` and nowhere for files.
        pairs: whether sequences hold two texts.
        keep_repeats: whether sentences that were seen before stay.
        how: how documents that come as one string are read.

    Raises:
        InputError: if the length is none that a BERT can have.
    """

    sequence_length: int
    max_characters: int | None = None
    pairs: bool = False
    keep_repeats: bool = False
    how: DocumentText = field(default_factory=DocumentText)

    def __post_init__(self) -> None:
        check_sequence_length(self.sequence_length)


def check_sequence_length(sequence_length: int) -> None:
    """Refuses a sequence length that no sequence of a BERT can have.

    Raises:
        InputError: if it is outside `MIN_TOKENS` to `MAX_SEQUENCE_LENGTH`.
    """
    if not MIN_TOKENS <= sequence_length <= MAX_SEQUENCE_LENGTH:
        raise InputError(
            f"sequence length {sequence_length} must be from {MIN_TOKENS} to {MAX_SEQUENCE_LENGTH}"
        )


def make_corpus(
    source: str,
    tokenizer_folder: Path,
    *,
    sequence_length: int,
    max_characters: int | None = None,
) -> TokenCorpus:
    """Makes a corpus that is in no folder; see `write_corpus`."""
    options = CorpusOptions(sequence_length=sequence_length, max_characters=max_characters)
    # What is mapped stays when its file is removed.
    with tempfile.TemporaryDirectory() as folder:
        return write_corpus(source, tokenizer_folder, Path(folder), options)


def prepare_corpus(
    source: str,
    tokenizer_folder: Path,
    folder: Path,
    *,
    sequence_length: int,
    max_characters: int | None = None,
) -> TokenCorpus:
    """Makes a corpus with the usual options in a folder; see `write_corpus`."""
    options = CorpusOptions(sequence_length=sequence_length, max_characters=max_characters)
    return write_corpus(source, tokenizer_folder, folder, options)


def write_corpus(
    source: str,
    tokenizer_folder: Path,
    folder: Path,
    options: CorpusOptions,
    *,
    workers: int = 1,
) -> TokenCorpus:
    """Makes a corpus and writes it into a folder that is already there.

    Interrupted, it goes on after the last finished chunk when it is called again: the folder
    then holds the chunks' parts.

    Args:
        source: `python-docs`, or the path of a file or folder; see `corpus_text`.
        tokenizer_folder: the folder of a Hugging Face encoder.
        folder: where the corpus goes.
        options: what is made of it.
        workers: processes that tokenise; the corpus is the same for any number.

    Raises:
        InputError: if the source, the tokenizer or a number is wrong, or there is too little text.
        WorkError: if a process was killed.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    path = tokenizer_path(tokenizer_folder)
    ids = special_ids(tokenizer)
    max_characters = options.max_characters
    if max_characters is None and source == PYTHON_DOCS:
        max_characters = DEFAULT_PYTHON_DOCS_CHARACTERS
    tally = Tally()
    count = write_parts(
        chunks(
            read_documents(source, options.how, tally),
            tally,
            max_characters=max_characters,
            keep_repeats=options.keep_repeats,
        ),
        _packer(tokenizer, options),
        folder,
        workers=workers,
    )
    vocab_size = vocabulary_size(tokenizer)
    shards, counts = _join_parts(folder, count, vocab_size=vocab_size, pairs=options.pairs)
    _check_enough(source, tally, counts)
    _check_known(counts["train"])
    facts = {
        "source": source,
        "complete": tally.complete,
        "files": tally.files,
        "files_skipped": tally.files_skipped,
        "characters": tally.characters,
        "repeated_sentences": tally.repeated_sentences,
        "pairs": options.pairs,
        "special_ids": ids,
        "tokenizer_file": path.name,
        "tokenizer_sha256": sha256_file(path),
        "splits": {
            name: {key: found[key] for key in _COUNTS if key != "unknown"}
            for name, found in counts.items()
        },
    }
    write_document(
        folder,
        shards,
        sequence_length=options.sequence_length,
        vocab_size=vocab_size,
        facts=facts,
    )
    remove_parts(folder)
    return load_corpus(folder)


def _packer(tokenizer: Tokenizer, options: CorpusOptions) -> ChunkPacker:
    frame = frame_of(tokenizer)
    assert frame is not None, "every tokenizer that is loaded has one"
    return ChunkPacker(
        tokenizer=tokenizer.to_str(),
        frame=frame,
        sequence_length=options.sequence_length,
        pairs=options.pairs,
        unknown_id=special_ids(tokenizer).get("unk"),
        token_type=token_dtype(vocabulary_size(tokenizer)).str,
    )


def _join_parts(
    folder: Path, count: int, *, vocab_size: int, pairs: bool
) -> tuple[dict[str, list[ShardRecord]], dict[str, Counter[str]]]:
    """Writes shards of all parts, in order; returns them and what is in them, by split."""
    writers = {name: ShardWriter(folder, name, token_dtype(vocab_size)) for name in SPLITS}
    counts: dict[str, Counter[str]] = {name: Counter() for name in SPLITS}
    for index in range(count):
        for name, part in read_part(part_path(folder, index)).items():
            writers[name].add(part.tokens, part.lengths, part.segment_starts if pairs else None)
            counts[name].update(
                documents=part.documents,
                groups=part.groups,
                sequences=len(part.lengths),
                tokens=len(part.tokens),
                unknown=part.unknown,
            )
    for writer in writers.values():
        writer.flush()
    return {name: writer.records for name, writer in writers.items()}, counts


def _check_known(train: Mapping[str, int]) -> None:
    """Refuses text that the tokenizer mostly does not know: there is nothing to learn from it."""
    share = train["unknown"] / train["tokens"]
    if share > _MOST_UNKNOWN:
        raise InputError(
            f"{share:.0%} of the tokens are unknown to the tokenizer: it is damaged, or made for "
            "another language than that of the text"
        )


def _check_enough(source: str, tally: Tally, counts: Mapping[str, Mapping[str, Any]]) -> None:
    if not tally.characters:
        raise InputError(
            f"corpus {source} holds no sentence: give UTF-8 text, one sentence a line and an empty "
            "line between documents"
        )
    empty = [name for name, found in counts.items() if not found["sequences"]]
    if empty:
        groups = sum(found["groups"] for found in counts.values())
        kind = "modules" if source == PYTHON_DOCS else "documents"
        remedy = "" if source == PYTHON_DOCS else ", with an empty line between them"
        raise InputError(
            f"corpus {source} is too small to be split: its {groups} {kind} "
            f"({tally.characters} characters) leave none for {' and '.join(empty)}, where each "
            f"gets 1 in 20; give at least 100 {kind} of {MIN_TOKENS} tokens or more{remedy}"
        )
