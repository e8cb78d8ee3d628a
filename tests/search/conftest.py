"""A bench for exported files, predictors of a fake device, and a tiny SuperPLM to search."""

from __future__ import annotations

import hashlib
import json
import os

# Before tokenizers is imported anywhere: no test warns that a process was forked.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import BertWordPieceTokenizer

from device_profiles.profile import LATENCIES_FILE
from device_profiles.protocol import Protocol
from device_profiles.target import Configuration
from predictor.cli import fit_predictor
from predictor.model import SlicePredictor
from predictor.store import load_predictor
from supernet.architecture import Architecture
from supernet.training_cli import train_supernet
from supernet.weights import weight_shapes


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model folder; what is in the file does not matter to a bench."""

    def make(
        name: str = "model",
        *,
        architecture: str = "4-312-1200-12-312",
        graph_variant: str = "plain",
        content: bytes | None = None,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        content = name.encode() if content is None else content
        (folder / "model.onnx").write_bytes(content)
        section = {
            "architecture": architecture,
            "graph_variant": graph_variant,
            "onnx_sha256": hashlib.sha256(content).hexdigest(),
            "format": 1,
            **changes,
        }
        config = {"model_type": "bert", "autotinybert": section}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.fixture
def make_bench(fake_device: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a device that takes the hash of a file, and is slowed as a test says.

    `slowdown(worker, configuration, is_file)` is a factor; `before(visits)` is called with the
    number of visits made so far, and may raise.
    """

    class Bench(fake_device):  # type: ignore[misc, valid-type]
        def __init__(
            self,
            *,
            seed: int = 7,
            noise: float = 0.01,
            slowdown: Callable[[int, Configuration, bool], float] = lambda *_: 1.0,
            before: Callable[[int], None] = lambda _: None,
        ) -> None:
            super().__init__(seed, noise)
            self.slowdown = slowdown
            self.before = before
            self.hashes: list[str | None] = []
            self.slept_s: list[float] = []

        def visit(
            self,
            configuration: Configuration,
            protocol: Protocol,
            *,
            model_sha256: str | None = None,
        ) -> Mapping[str, Any]:
            self.before(len(self.hashes))
            self.hashes.append(model_sha256)
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            is_file = model_sha256 is not None
            factor = self.slowdown(self.workers_opened, configuration, is_file)
            return {**result, "runs_ns": [int(ns * factor) for ns in result["runs_ns"]]}

        def sleep_s(self, seconds: float) -> None:
            self.slept_s.append(seconds)
            self.now_s += seconds

    return Bench


@pytest.fixture(scope="session")
def csv_predictor(
    tmp_path_factory: pytest.TempPathFactory, make_profile_in: Callable[..., Path]
) -> Path:
    """A predictor for shapes of the `kd` space, of which no machine is known."""
    folder = tmp_path_factory.mktemp("csv")
    measured = make_profile_in(folder) / LATENCIES_FILE
    fit_predictor(csv=measured, out=folder / "predictor")
    return folder / "predictor"


@pytest.fixture(scope="session")
def latency_predictor(csv_predictor: Path) -> SlicePredictor:
    """The same, for its only workload and target."""
    (part,) = load_predictor(csv_predictor).slices
    return part


# As small as a teacher is whose slices are in the `kd` space.
TEACHER = Architecture(3, 192, 320, 12, 192)
MAX_POSITIONS = 128
TRAINING_LENGTH = 16
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher with random weights as Hugging Face stores one, and a tokenizer of letters."""
    folder = tmp_path_factory.mktemp("teacher")
    tokens = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "tokenizer.json").write_text(BertWordPieceTokenizer(vocabulary).to_str())
    config = {
        "model_type": "bert",
        "num_hidden_layers": TEACHER.num_layers,
        "hidden_size": TEACHER.hidden_size,
        "intermediate_size": TEACHER.ffn_size,
        "num_attention_heads": TEACHER.num_heads,
        "vocab_size": len(tokens),
        "max_position_embeddings": MAX_POSITIONS,
    }
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    shapes = weight_shapes(TEACHER, vocab_size=len(tokens), max_positions=MAX_POSITIONS)
    weights = {
        name: rng.normal(float(name.endswith("LayerNorm.weight")), 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of 200 documents, enough for three splits."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    rng = np.random.default_rng(0)
    documents = (" ".join(rng.choice(list(LETTERS), 20)) for _ in range(200))
    path.write_text("\n\n".join(documents))
    return path


@pytest.fixture(scope="session")
def supernet_folder(
    tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path, text_file: Path
) -> Path:
    """A SuperPLM for the `kd` space, trained for two steps."""
    folder = tmp_path_factory.mktemp("trained")
    train_supernet(
        teacher=str(teacher_folder),
        out=folder / "supernet",
        corpus=str(text_file),
        steps=2,
        sequence_length=TRAINING_LENGTH,
        batch_size=4,
    )
    return folder / "supernet"
