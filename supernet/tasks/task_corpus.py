"""A task's own texts as a corpus: what a classifier is distilled on.

- `train`: the texts of the training file
- `search`: every twentieth of them, held out, chosen by a hash
- `test`: the texts of the dev file

Each text, or pair of texts, is a sequence of its own. Labels are not part of a corpus: the
teacher's logits are what is learnt. A text that occurs twice is taken once, and one of the dev file
is not trained on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autotinybert.errors import InputError
from autotinybert.files import sha256_file
from supernet.corpus import TokenCorpus
from supernet.corpus_split import TokenSplit
from supernet.tasks.encoding import EncodedExamples, encode_examples, length_quantile
from supernet.tasks.examples import Example, TaskData
from supernet.tokenizer import load_tokenizer, special_ids, tokenizer_path, vocabulary_size

# Below, a share of a twentieth says too little: a fifth is held out then.
_FEWEST_HELD_OUT = 64
_HELD_OUT_SHARE, _LARGEST_SHARE = 0.05, 0.2

# A few long texts must not make every sequence of training and of the device long.
_TRAINING_SHARE, _USUAL_SHARE = 0.99, 0.95
_MULTIPLE = 8


@dataclasses.dataclass(frozen=True)
class TextLengths:
    """The tokens that a task's texts need, in multiples of eight.

    Attributes:
        training: what 99 % of them do not exceed.
        usual: what 95 % of them do not exceed: the length to measure a device with.
    """

    training: int
    usual: int


def text_lengths(data: TaskData, tokenizer_folder: Path, *, most: int) -> TextLengths:
    """The lengths of a file's texts.

    Args:
        data: the file.
        tokenizer_folder: a folder with the tokenizer.
        most: what the model reads at most.
    """
    tokenizer = load_tokenizer(tokenizer_folder)

    def rounded(share: float) -> int:
        found = length_quantile(tokenizer, data.examples, share)
        return min(-(-found // _MULTIPLE) * _MULTIPLE, most)

    return TextLengths(rounded(_TRAINING_SHARE), rounded(_USUAL_SHARE))


def task_corpus(
    train: TaskData, dev: TaskData, tokenizer_folder: Path, *, sequence_length: int, source: str
) -> TokenCorpus:
    """The corpus of a task.

    Args:
        train: texts to distil on.
        dev: texts to score on.
        tokenizer_folder: a folder with the tokenizer.
        sequence_length: the most tokens of a sequence; longer texts are cut.
        source: what it is called.

    Raises:
        InputError: if there are too few texts to train on and to hold out.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    path = tokenizer_path(tokenizer_folder)
    known = set(map(_key, dev.examples))
    texts = {key: found for found in train.examples if (key := _key(found)) not in known}
    chosen = {"test": list({_key(found): found for found in dev.examples}.values())}
    chosen["train"], chosen["search"] = _split(texts)
    if not chosen["search"]:
        raise InputError(
            f"{source} has {len(texts)} different texts to train on: give at least 10 that are not "
            "in the dev file"
        )
    encoded = {
        name: encode_examples(
            tokenizer,
            dataclasses.replace(train, examples=tuple(examples)),
            sequence_length=sequence_length,
        )
        for name, examples in chosen.items()
    }
    facts = {
        "source": source,
        "task": train.task,
        "complete": True,
        "files": 2,
        "files_skipped": 0,
        "characters": sum(_characters(found) for texts in chosen.values() for found in texts),
        "repeated_sentences": len(train.examples) - len(texts),
        "special_ids": special_ids(tokenizer),
        "tokenizer_file": path.name,
        "tokenizer_sha256": sha256_file(path),
        "splits": {
            name: {
                "documents": len(found),
                "groups": len(found),
                "sequences": len(found),
                "tokens": int(found.lengths.sum()),
            }
            for name, found in encoded.items()
        },
    }
    splits = {name: _as_split(encoded[name]) for name in ("train", "search", "test")}
    return TokenCorpus(sequence_length, vocabulary_size(tokenizer), splits, facts)


def _as_split(encoded: EncodedExamples) -> TokenSplit:
    starts = None
    if encoded.token_type_ids.any():
        first = np.argmax(encoded.token_type_ids > 0, axis=1).astype(np.int32)
        starts = np.where(encoded.token_type_ids.any(axis=1), first, encoded.lengths)
        starts = starts.astype(np.int32)
    return TokenSplit(encoded.input_ids, encoded.lengths, starts)


def _split(texts: dict[bytes, Example]) -> tuple[list[Example], list[Example]]:
    """What is trained on and what is held out; a text stays where it is when others are added."""
    share = _HELD_OUT_SHARE
    if share * len(texts) < _FEWEST_HELD_OUT:
        share = min(_FEWEST_HELD_OUT / max(len(texts), 1), _LARGEST_SHARE)
    train: list[Example] = []
    held_out: list[Example] = []
    for key, found in texts.items():
        position = int.from_bytes(key[:8], "big") / 2**64
        (held_out if position < share else train).append(found)
    return train, held_out


def _key(example: Example) -> bytes:
    text = example.text if example.pair is None else f"{example.text}\0{example.pair}"
    return hashlib.sha256(" ".join(text.split()).casefold().encode()).digest()


def _characters(example: Example) -> int:
    return len(example.text) + len(example.pair or "")


def describe(paths: Sequence[Path]) -> str:
    """What a corpus of some files is called: never a path of somebody's machine."""
    return " and ".join(path.name for path in paths)
