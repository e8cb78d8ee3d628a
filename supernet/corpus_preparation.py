"""Text to a token corpus: reads a source, tokenises, packs and splits it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autotinybert.errors import InputError
from autotinybert.files import sha256_file
from supernet.corpus import SPLITS, TokenCorpus, TokenSplit, save_corpus
from supernet.corpus_text import PYTHON_DOCS, CorpusText, read_corpus_text
from supernet.packing import MIN_TOKENS, pack, split_of
from supernet.tokenizer import load_tokenizer, special_ids, tokenizer_path, vocabulary_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The positions that a BERT has.
MAX_SEQUENCE_LENGTH = 512


def prepare_corpus(
    source: str,
    tokenizer_folder: Path,
    folder: Path,
    *,
    sequence_length: int,
    max_characters: int | None = None,
) -> TokenCorpus:
    """Makes a corpus and writes it into a folder that is already there.

    Args:
        source: `python-docs`, or the path of a text file.
        tokenizer_folder: a Hugging Face BERT folder.
        folder: where the corpus goes.
        sequence_length: the most tokens of a sequence.
        max_characters: see `read_corpus_text`.

    Raises:
        InputError: if the source, the tokenizer or a number is wrong, or there is too little text.
    """
    corpus = make_corpus(
        source,
        tokenizer_folder,
        sequence_length=sequence_length,
        max_characters=max_characters,
    )
    save_corpus(folder, corpus)
    return corpus


def make_corpus(
    source: str,
    tokenizer_folder: Path,
    *,
    sequence_length: int,
    max_characters: int | None = None,
) -> TokenCorpus:
    """Reads, tokenises, packs and splits a source; see `prepare_corpus`."""
    check_sequence_length(sequence_length)
    tokenizer = load_tokenizer(tokenizer_folder)
    path = tokenizer_path(tokenizer_folder)
    text = read_corpus_text(source, max_characters=max_characters)
    return tokenize(
        text,
        tokenizer,
        sequence_length=sequence_length,
        tokenizer_facts={"tokenizer_file": path.name, "tokenizer_sha256": sha256_file(path)},
    )


# Of a text that a tokenizer fits, hardly a token in a hundred is unknown.
_MOST_UNKNOWN = 0.3


def check_sequence_length(sequence_length: int) -> None:
    """Refuses a sequence length that no sequence of a BERT can have.

    Raises:
        InputError: if it is outside `MIN_TOKENS` to `MAX_SEQUENCE_LENGTH`.
    """
    if not MIN_TOKENS <= sequence_length <= MAX_SEQUENCE_LENGTH:
        raise InputError(
            f"sequence length {sequence_length} must be from {MIN_TOKENS} to {MAX_SEQUENCE_LENGTH}"
        )


def tokenize(
    text: CorpusText,
    tokenizer: Tokenizer,
    *,
    sequence_length: int,
    tokenizer_facts: Mapping[str, str],
) -> TokenCorpus:
    """The sequences of a text in their splits; see `prepare_corpus`.

    Raises:
        InputError: if a split would be empty.
    """
    ids = special_ids(tokenizer)
    packed: dict[str, list[list[int]]] = {name: [] for name in SPLITS}
    for group, sequence in pack(
        text.documents,
        tokenizer,
        sequence_length=sequence_length,
        cls_id=ids["cls"],
        sep_id=ids["sep"],
    ):
        packed[split_of(group)].append(sequence)
    documents = Counter(split_of(document.group) for document in text.documents)
    groups = Counter(split_of(group) for group in {document.group for document in text.documents})
    _check_enough(text, {name: len(sequences) for name, sequences in packed.items()})
    splits = {
        name: _padded(sequences, sequence_length, pad_id=ids["pad"])
        for name, sequences in packed.items()
    }
    _check_known(splits["train"], ids["unk"])
    facts = {
        "source": text.source,
        "complete": text.complete,
        "files": text.files,
        "files_skipped": text.files_skipped,
        "characters": text.characters,
        "repeated_sentences": text.repeated_sentences,
        "special_ids": ids,
        **tokenizer_facts,
        "splits": {
            name: {
                "documents": documents[name],
                "groups": groups[name],
                "sequences": len(split),
                "tokens": split.tokens,
            }
            for name, split in splits.items()
        },
    }
    return TokenCorpus(sequence_length, vocabulary_size(tokenizer), splits, facts)


def _check_known(split: TokenSplit, unknown_id: int) -> None:
    """Refuses text that the tokenizer mostly does not know: there is nothing to learn from it."""
    share = float((split.input_ids == unknown_id).sum()) / split.tokens
    if share > _MOST_UNKNOWN:
        raise InputError(
            f"{share:.0%} of the tokens are unknown to the tokenizer: it is damaged, or made for "
            "another language than that of the text"
        )


def _check_enough(text: CorpusText, sequences: Mapping[str, int]) -> None:
    empty = [name for name, count in sequences.items() if not count]
    if empty:
        groups = len({document.group for document in text.documents})
        kind = "modules" if text.source == PYTHON_DOCS else "documents"
        remedy = "" if text.source == PYTHON_DOCS else ", with an empty line between them"
        raise InputError(
            f"corpus {text.source} is too small to be split: its {groups} {kind} "
            f"({text.characters} characters) leave none for {' and '.join(empty)}, where each gets "
            f"1 in 20; give at least 100 {kind} of {MIN_TOKENS} tokens or more{remedy}"
        )


def _padded(sequences: Sequence[Sequence[int]], sequence_length: int, *, pad_id: int) -> TokenSplit:
    lengths = np.fromiter(map(len, sequences), dtype=np.int32, count=len(sequences))
    input_ids = np.full((len(sequences), sequence_length), pad_id, dtype=np.int32)
    for row, ids in zip(input_ids, sequences, strict=True):
        row[: len(ids)] = ids
    return TokenSplit(input_ids, lengths)
