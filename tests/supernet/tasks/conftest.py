"""A task that a tiny encoder learns in a second: is the word `play` in the text?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet.architecture import Architecture
from supernet.cost import TYPE_VOCAB_SIZE
from supernet.encoder import Encoder, save_encoder
from supernet.extraction import extract
from supernet.heads import Head
from supernet.model import SuperPLM, SuperPLMConfig

WORDS = ("the", "a", "of", "model", "list", "token", "word", "number", "one", "two")
ARCHITECTURE = Architecture(1, 16, 32, 2, 16)
MAX_POSITIONS = 24


def rows_with_the_rule(count: int, seed: int) -> list[tuple[str, bool]]:
    """Texts of 6 words, half of which hold `play`, and whether they do."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        words = list(rng.choice(WORDS, 6))
        if index % 2:
            words[rng.integers(6)] = "play"
        rows.append((" ".join(words), bool(index % 2)))
    return rows


@pytest.fixture
def write_rule(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of the task."""

    def write(
        name: str,
        count: int,
        *,
        seed: int = 0,
        header: str = "text,label",
        labels: Sequence[str] = ("work", "leisure"),
    ) -> Path:
        separator = "\t" if name.endswith(".tsv") else ","
        rows = (
            f"{text}{separator}{labels[says]}" for text, says in rows_with_the_rule(count, seed)
        )
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


@pytest.fixture
def tiny_encoder() -> Encoder:
    """A random encoder for the vocabulary of `bert_folder`."""
    config = SuperPLMConfig(
        largest=ARCHITECTURE, depth_rule="first", vocab_size=400, max_positions=MAX_POSITIONS
    )
    assert TYPE_VOCAB_SIZE == 2
    model = SuperPLM(config)
    model.initialise(torch.Generator().manual_seed(0), deviation=0.2)
    return extract(model, ARCHITECTURE)


@pytest.fixture
def make_model(make_bert_folder: Callable[..., Path], tiny_encoder: Encoder) -> Callable[..., Path]:
    """Makes the folder of an encoder with its tokenizer, as extract-model leaves it."""

    def make(name: str = "model", head: Head | None = None) -> Path:
        folder = make_bert_folder(name)
        encoder = Encoder(tiny_encoder.architecture, tiny_encoder.weights, head=head)
        history = [{"did": "extract-model"}]
        save_encoder(
            folder, encoder, extra={"history": history, "heads": {"sha256": "0"}, "license": "mit"}
        )
        return folder

    return make
