"""Writes the topics of `benchmarks.topics` as a user's files: `train.csv` and `dev.csv`.

    python -m benchmarks.topic_files OUT

Columns `text`, the first 40 words of a docstring, and `label`, the name of its package. Dev texts
are of modules that the corpus holds out.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from benchmarks.topics import topic_texts

_WORDS = 40


def main() -> None:
    """Writes both files."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    names, texts = topic_texts(per_topic=600)
    for file_name, held in (("train.csv", False), ("dev.csv", True)):
        rows = [
            (" ".join(text.split()[:_WORDS]), names[number])
            for text, number, is_held in texts
            if is_held == held
        ]
        with (out / file_name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows(rows)
        print(f"{out / file_name}: {len(rows)} texts of {len(names)} packages")


if __name__ == "__main__":
    main()
