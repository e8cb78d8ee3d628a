"""The options of `profile-device` that say which texts its workloads stand for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from autotinybert.errors import InputError
from device_profiles.lengths import LENGTH_STEP, LengthHistogram
from profiler.length_file import Tokenize, count_lengths
from supernet.cost import MAX_POSITIONS

DEFAULT_NUM_LENGTHS = 4
MAX_NUM_LENGTHS = MAX_POSITIONS // LENGTH_STEP


def lengths_of(
    path: Path | None,
    *,
    tokenizer: Path | None,
    num_lengths: int | None,
    sequence_length: list[int] | None,
) -> LengthHistogram | None:
    """The histogram that `--lengths-from` asks for.

    Args:
        path: of lengths, or of texts.
        tokenizer: makes tokens of the texts.
        num_lengths: most sequence lengths to measure.
        sequence_length: those given by hand; they exclude the others.

    Returns:
        The histogram, or None if no file was named.

    Raises:
        InputError: if the options do not go together, or a file is not right.
    """
    if path is None:
        for option, value in (("--tokenizer", tokenizer), ("--num-lengths", num_lengths)):
            if value is not None:
                raise InputError(f"{option} goes with --lengths-from FILE")
        return None
    if sequence_length:
        raise InputError("--lengths-from chooses the lengths: leave out --sequence-length")
    tokenize = None if tokenizer is None else _tokenize_with(tokenizer)
    counts, cut = count_lengths(path, tokenize)
    return LengthHistogram.of_texts(counts, cut=cut, num_lengths=num_lengths or DEFAULT_NUM_LENGTHS)


def _tokenize_with(path: Path) -> Tokenize:
    if importlib.util.find_spec("tokenizers") is None:
        raise InputError(
            "--tokenizer needs the package tokenizers: install autotinybert[train], or give "
            "--lengths-from a file of lengths"
        )
    from supernet.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(path)

    def tokenize(texts: list[str]) -> list[int]:
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]

    return tokenize
