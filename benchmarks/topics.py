"""A real task on the demo's text: which package does a docstring come from?

Names of packages are masked in the text. The answer is read off an encoder by a linear classifier
on its mean hidden state; the encoder itself is not trained for it, so the score tells what the
encoder's states hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from supernet.batch import Batch
from supernet.packing import split_of
from supernet.text_document import Tally
from supernet.text_python import python_documents, python_folders
from supernet.tokenizer import load_tokenizer

_TOPICS, _PER_TOPIC = 12, 160
_MIN_WORDS, _MAX_TOKENS = 12, 64

Encode = Callable[[Batch], torch.Tensor]


@dataclass(frozen=True)
class Topics:
    """Docstrings of the most common packages.

    Attributes:
        batches: texts.
        labels: the package of each text, by number.
        held_out: True for texts of modules that the corpus holds out.
        names: of the packages.
    """

    batches: tuple[Batch, ...]
    labels: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.bool_]
    names: tuple[str, ...]

    def accuracy(self, encode: Encode) -> float:
        """The share of held-out texts whose package a linear classifier tells.

        Args:
            encode: the last hidden state of a batch, `[B, S, d]`.
        """
        rows = []
        with torch.no_grad():
            for batch in self.batches:
                keep = batch.mask[..., None].float()
                rows.append((encode(batch) * keep).sum(1) / keep.sum(1))
        features = torch.cat(rows).numpy()
        scaler = StandardScaler().fit(features[~self.held_out])
        found = LogisticRegression(C=0.05, max_iter=2000).fit(
            scaler.transform(features[~self.held_out]), self.labels[~self.held_out]
        )
        scaled = scaler.transform(features[self.held_out])
        return float(found.score(scaled, self.labels[self.held_out]))


def topic_texts(*, per_topic: int) -> tuple[tuple[str, ...], list[tuple[str, int, bool]]]:
    """Docstrings of installed packages, with names of packages masked.

    Args:
        per_topic: most texts of a package to learn from, and a quarter of it held out.

    Returns:
        The names of the packages; and of each text, the number of its package and whether it is of
        a module that the corpus holds out.
    """
    texts: dict[str, list[tuple[str, bool]]] = {}
    for document in python_documents(python_folders(), Tally()):
        package = document.group.split(".")[0]
        text = " ".join(document.sentences)
        if len(text.split()) >= _MIN_WORDS:
            held_out = split_of(document.group) != "train"
            texts.setdefault(package, []).append((text, held_out))
    sizes = Counter({name: sum(held for _, held in found) for name, found in texts.items()})
    names = tuple(sorted(name for name, _ in sizes.most_common(_TOPICS)))
    masked = re.compile("|".join(rf"\b{re.escape(name)}\w*" for name in texts), re.IGNORECASE)
    chosen: list[tuple[str, int, bool]] = []
    for number, name in enumerate(names):
        for held in (False, True):
            of_split = [text for text, is_held in texts[name] if is_held == held]
            most = per_topic if not held else per_topic // 4
            chosen += [(masked.sub("[MASK]", text), number, held) for text in of_split[:most]]
    return names, chosen


def read_topics(tokenizer_folder: Path) -> Topics:
    """Texts and labels as tokens, the same number of each as far as there are."""
    names, chosen = topic_texts(per_topic=_PER_TOPIC)
    tokenizer = load_tokenizer(tokenizer_folder)
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding(length=_MAX_TOKENS)
    encoded = tokenizer.encode_batch([text for text, _, _ in chosen])
    ids = torch.tensor([found.ids for found in encoded])
    mask = torch.tensor([found.attention_mask for found in encoded])
    return Topics(
        tuple(
            Batch(ids[start : start + 64], mask[start : start + 64])
            for start in range(0, len(ids), 64)
        ),
        np.array([number for _, number, _ in chosen]),
        np.array([held for _, _, held in chosen]),
        names,
    )
