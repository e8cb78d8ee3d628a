"""How fast a corpus is prepared, and in how much memory.

    python -m benchmarks.corpus_speed [--teacher minilm-l6] [--megabytes 30] [--workers 1]

Claims: at least 1 MB of text a second of processor time, that of all processes together; the peak
memory does not grow with the text, but for eight bytes a sentence. The text is generated: words of
the tokenizer's own vocabulary, as often as their rank says, in sentences of 5 to 30 words.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from supernet.corpus_preparation import CorpusOptions, write_corpus
from supernet.tokenizer import load_tokenizer

_SENTENCES_PER_DOCUMENT = 20


def write_text(path: Path, tokenizer_folder: Path, megabytes: float) -> None:
    """Writes a text of at least so many megabytes, the same for the same arguments."""
    rng = np.random.default_rng(0)
    vocabulary = load_tokenizer(tokenizer_folder).get_vocab()
    words = [word for word in sorted(vocabulary, key=vocabulary.__getitem__) if word.isalpha()]
    # Some words are no token, so that pieces of words occur, too.
    words += [first + second for first, second in zip(words[500::7], words[900::11], strict=False)]
    shares = 1 / np.arange(10, len(words) + 10)
    shares /= shares.sum()
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < megabytes * 1e6:
            lengths = rng.integers(5, 31, _SENTENCES_PER_DOCUMENT)
            chosen = iter(rng.choice(len(words), int(lengths.sum()), p=shares).tolist())
            lines = [" ".join(words[next(chosen)] for _ in range(n)) for n in lengths.tolist()]
            written += file.write(".\n".join(lines).capitalize() + ".\n\n")


def measure(source: Path, tokenizer_folder: Path, workers: int) -> None:
    """Prepares a corpus and prints how long it took; in a process of its own, for its peak."""
    with tempfile.TemporaryDirectory() as folder:
        started_s = time.monotonic()
        corpus = write_corpus(
            str(source),
            tokenizer_folder,
            Path(folder),
            CorpusOptions(sequence_length=128),
            workers=workers,
        )
        wall_s = time.monotonic() - started_s
    usage = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(found.ru_utime + found.ru_stime for found in usage)
    megabytes = source.stat().st_size / 1e6
    tokens = sum(split.tokens for split in corpus.splits.values())
    print(
        f"{megabytes:6.1f} MB, {tokens:,} tokens, {workers} workers: {wall_s:.1f} s, "
        f"{megabytes / cpu_s:.2f} MB a second of processor time, peak "
        f"{usage[0].ru_maxrss / 1024:.0f} MiB, of its largest child "
        f"{usage[1].ru_maxrss / 1024:.0f} MiB",
        flush=True,
    )


def main() -> None:
    """Measures a text and one of half its size."""
    # It loads torch, which the measured processes do without.
    from supernet.demo_teacher import DEMO_TEACHER, teacher_folder

    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher", default=DEMO_TEACHER)
    parser.add_argument("--megabytes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    folder = teacher_folder(arguments.teacher)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "text.txt"
        for megabytes in (arguments.megabytes / 2, arguments.megabytes):
            write_text(source, folder, megabytes)
            process = context.Process(target=measure, args=(source, folder, arguments.workers))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
