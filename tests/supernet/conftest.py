"""Small encoders and tokenizers in the exact files of Hugging Face, and what they must put out."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import string
import subprocess
import sys

# Before transformers or tokenizers are imported anywhere: no test talks to a hub, and none warns
# that a process was forked.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from torch.nn import functional

from autotinybert.command import run_command
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.cli import extract_model
from supernet.elastic import DepthRule
from supernet.encoder import Encoder
from supernet.heads import SPAN_LABELS, Head, HeadKind, head_shapes
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.onnx_graph import INPUT_NAMES
from supernet.training_cli import train_supernet
from supernet.weights import weight_shapes

Weights = dict[str, npt.NDArray[np.float32]]
Inputs = dict[str, npt.NDArray[np.int64]]

VOCAB_SIZE = 97
MAX_POSITIONS = 40


def _random_weights(architecture: Architecture, seed: int) -> Weights:
    """Weights large enough for attention to be far from uniform."""
    rng = np.random.default_rng(seed)
    shapes = weight_shapes(architecture, vocab_size=VOCAB_SIZE, max_positions=MAX_POSITIONS)
    weights = {
        name: rng.normal(0, 0.08, shape).astype(np.float32) for name, shape in shapes.items()
    }
    for name in weights:
        if name.endswith("LayerNorm.weight"):
            weights[name] += 1
    return weights


def _random_inputs(
    seed: int, *, batch_size: int = 3, sequence_length: int = 17
) -> dict[str, npt.NDArray[np.int64]]:
    """Three sequences: one full, one padded to a half, one of a single token."""
    rng = np.random.default_rng(seed)
    shape = (batch_size, sequence_length)
    lengths = np.array([sequence_length, sequence_length // 2, 1])[:batch_size]
    return {
        "input_ids": rng.integers(0, VOCAB_SIZE, shape),
        "attention_mask": (np.arange(sequence_length) < lengths[:, None]).astype(np.int64),
        "token_type_ids": rng.integers(0, 2, shape),
    }


def _torch_encoder(
    architecture: Architecture,
    weights: Mapping[str, npt.NDArray[np.float32]],
    inputs: Mapping[str, npt.NDArray[np.int64]],
    layer_norm_epsilon: float = 1e-12,
) -> npt.NDArray[np.float32]:
    """BERT's encoder, post-norm, erf GELU, in float64 so that the graph alone is in doubt."""
    w = {name: torch.from_numpy(value).double() for name, value in weights.items()}
    ids, mask, types = (torch.from_numpy(inputs[name]) for name in INPUT_NAMES)
    batch_size, length = ids.shape
    d, h, a = architecture.hidden_size, architecture.num_heads, architecture.head_size

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        return functional.layer_norm(x, (d,), weight, bias, layer_norm_epsilon)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.token_type_embeddings.weight"][types]
    x = norm(x + w["embeddings.position_embeddings.weight"][:length], "embeddings.LayerNorm")
    for index in range(architecture.num_layers):
        layer = f"encoder.layer.{index}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{part}")
            .reshape(batch_size, length, h, a)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(a)
        scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        context = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch_size, length, h * a)
        attended = linear(context, f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        inner = functional.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return np.asarray(x.float().numpy())


@pytest.fixture(scope="session")
def random_weights() -> Callable[..., Weights]:
    return _random_weights


@pytest.fixture(scope="session")
def random_inputs() -> Callable[..., Inputs]:
    return _random_inputs


@pytest.fixture(scope="session")
def torch_encoder() -> Callable[..., npt.NDArray[np.float32]]:
    return _torch_encoder


HEAD_LABELS: dict[HeadKind, tuple[str, ...]] = {
    "classification": ("no", "yes", "not said"),
    "regression": ("score",),
    "span": SPAN_LABELS,
}


def _random_head(kind: HeadKind, hidden_size: int, seed: int) -> Head:
    rng = np.random.default_rng((seed, hidden_size))
    labels = HEAD_LABELS[kind]
    shapes = head_shapes(kind, hidden_size, len(labels))
    weights = {
        name: rng.normal(0, 0.08, shape).astype(np.float32) for name, shape in shapes.items()
    }
    return Head(kind, labels, weights)


@pytest.fixture(scope="session")
def random_head() -> Callable[..., Head]:
    return _random_head


@pytest.fixture(scope="session")
def random_encoder() -> Callable[..., Encoder]:
    """Makes an encoder from an architecture or its id, with a head if a kind is named."""

    def make(
        architecture: Architecture | str,
        *,
        seed: int = 1,
        layer_norm_epsilon: float = 1e-12,
        head: HeadKind | None = None,
    ) -> Encoder:
        if isinstance(architecture, str):
            architecture = Architecture.parse(architecture)
        return Encoder(
            architecture,
            _random_weights(architecture, seed),
            layer_norm_epsilon,
            None if head is None else _random_head(head, architecture.hidden_size, seed),
        )

    return make


@pytest.fixture(scope="session")
def tokenizer_files() -> dict[str, bytes]:
    """A word-piece tokenizer of fewer tokens than the encoders have rows."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(97 + i) for i in range(26))]
    vocabulary = {word: index for index, word in enumerate(words)}
    return {
        "tokenizer.json": BertWordPieceTokenizer(vocabulary).to_str().encode(),
        "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer", "do_lower_case": true}',
        "vocab.txt": ("\n".join(words) + "\n").encode(),
    }


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., str]:
    """Runs Python so that nothing is fetched, and nothing is left outside `tmp_path`."""

    def run(*arguments: object, cwd: Path | None = None, silent: bool = False) -> str:
        caches = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd or tmp_path,
            env={**os.environ, **caches},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert not (silent and done.stderr), done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def pair_files() -> dict[str, bytes]:
    """A RoBERTa tokenizer: byte-level pairs, `<pad>` of id 1, and both of its forms."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    # `\u0120` is a space in the alphabet of bytes.
    tokens = [*special, "\u0120", *string.ascii_letters, *".,?!'-", "th", "the", "\u0120a", "an"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    lines = ["t h", "th e", "\u0120 a", "a n"]
    tokenizer = ByteLevelBPETokenizer(
        vocabulary,
        [(first, second) for first, second in (line.split(" ") for line in lines)],
    )
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    return {
        "tokenizer.json": tokenizer.to_str().encode(),
        "vocab.json": json.dumps(vocabulary).encode(),
        "merges.txt": ("\n".join(["#version: 0.2", *lines]) + "\n").encode(),
    }


LARGEST = Architecture(6, 24, 40, 4, 32)


@pytest.fixture
def make_superplm() -> Callable[..., SuperPLM]:
    """Makes a SuperPLM with random weights, far from their initial values."""

    def make(
        largest: Architecture = LARGEST, *, depth_rule: DepthRule = "evenly-spaced", seed: int = 0
    ) -> SuperPLM:
        config = SuperPLMConfig(
            largest=largest, depth_rule=depth_rule, vocab_size=100, max_positions=32
        )
        model = SuperPLM(config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.3, generator=generator)
        return model

    return make


@pytest.fixture
def batch() -> Batch:
    """Three sequences of up to 11 tokens; two of them are padded."""
    rng = np.random.default_rng(0)
    input_ids = torch.from_numpy(rng.integers(0, 100, (3, 11)))
    mask = torch.ones(3, 11, dtype=torch.long)
    mask[1, 7:] = 0
    mask[2, 3:] = 0
    return Batch(input_ids, mask)


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    *("the", "a", "of", "and", "is", "in", "to", "this", "that", "token", "model", "returns"),
    *("given", "value", "list", "word", "sentence", "one", "two", "number", "document", "The"),
    *("Model", "caf\u00e9", "cafe", "un", "##aff", "##able", "##ing", "##s", "##ed", "play"),
)
CHARACTERS = string.ascii_letters + string.digits + "\u00e9\u00fc\u4e2d\u6587"
VOCABULARY = [
    *SPECIAL,
    *WORDS,
    *string.punctuation,
    *CHARACTERS,
    *(f"##{character}" for character in CHARACTERS),
]


def tokenizer_document(vocabulary: list[str], **changes: Any) -> dict[str, Any]:
    """A `tokenizer.json` as a sentence encoder's folder has it: it truncates and pads."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    added = [
        {
            "id": ids[token],
            "special": True,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for token in SPECIAL
        if token in ids
    ]
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
        **changes,
    }


@pytest.fixture
def make_bert_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with the tokenizer files asked for."""

    def make(
        name: str = "bert",
        *,
        document: bool = True,
        vocabulary: bool = False,
        tokens: list[str] = VOCABULARY,
        config: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if document:
            (folder / "tokenizer.json").write_text(
                json.dumps(tokenizer_document(tokens, **changes))
            )
        if vocabulary:
            (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
        if config is not None:
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.fixture
def bert_folder(make_bert_folder: Callable[..., Path]) -> Path:
    return make_bert_folder()


# Four heads of six dimensions: few enough for tests, and a space has room below it.
TEACHER = Architecture(3, 24, 48, 4, 24)


def _save_teacher(
    folder: Path, architecture: Architecture, *, head: bool, seed: int, **config: Any
) -> Any:
    """Saves a BERT as Hugging Face does, with a tokenizer beside it, and returns it."""
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(seed)
    settings = BertConfig(
        **{
            "vocab_size": len(VOCABULARY),
            "hidden_size": architecture.hidden_size,
            "num_hidden_layers": architecture.num_layers,
            "num_attention_heads": architecture.num_heads,
            "intermediate_size": architecture.ffn_size,
            "max_position_embeddings": 64,
            "initializer_range": 0.4,  # attention far from uniform
            **config,
        }
    )
    model: Any = (BertForSequenceClassification if head else BertModel)(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases are 0 and LayerNorms 1 at first
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_document(VOCABULARY)))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return model.eval()


@pytest.fixture(scope="session")
def save_teacher() -> Callable[..., Any]:
    """Saves a teacher's folder and returns the model of transformers that was saved."""

    def save(
        folder: Path,
        architecture: Architecture = TEACHER,
        *,
        head: bool = False,
        seed: int = 0,
        **config: Any,
    ) -> Any:
        return _save_teacher(folder, architecture, head=head, seed=seed, **config)

    return save


@pytest.fixture(scope="session")
def _shared_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "teacher"
    _save_teacher(folder, TEACHER, head=False, seed=0)
    return folder


@pytest.fixture
def teacher(_shared_teacher: Path, tmp_path: Path) -> Path:
    """A teacher's folder, 3-24-48-4-24, to do anything to."""
    return Path(shutil.copytree(_shared_teacher, tmp_path / "teacher"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text file of 240 documents, enough for three splits."""
    rng = np.random.default_rng(0)
    words = [word for word in WORDS if word.isalpha()]
    documents = (
        "\n".join(" ".join(rng.choice(words, 14)) + "." for _ in range(2)) for _ in range(240)
    )
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    """A space of 54 shapes, the largest of which is the teacher's."""
    path = tmp_path / "small.toml"
    path.write_text(
        "num_layers = [1, 2, 3]\nhidden_size = [8, 16, 24]\nffn_size = [16, 48]\n"
        "num_heads = [4]\nqkv_size = [8, 16, 24]\n"
    )
    return path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; returns its exit code, stdout and stderr."""

    def run(function: Callable[..., Any], *argv: object) -> tuple[int, str, str]:
        code = run_command(function, function.__name__.replace("_", "-"), [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def refused(cli: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Runs a command that is given something wrong; returns the one line that it says."""

    def run(function: Callable[..., Any], *argv: object) -> str:
        code, out, error = cli(function, *argv)
        assert (code, out) == (2, "")
        assert error.count("\n") == 1
        return error

    return run


@pytest.fixture
def options(teacher: Path, text: Path, space_file: Path, tmp_path: Path) -> dict[str, object]:
    """What a small `train-supernet` needs; `--out` is absent as yet."""
    return {
        "--teacher": teacher,
        "--corpus": text,
        "--space": space_file,
        "--steps": 6,
        "--batch-size": 8,
        "--sequence-length": 32,
        "--out": tmp_path / "out",
    }


@pytest.fixture
def supernet(teacher: Path, text: Path, space_file: Path, tmp_path: Path) -> Path:
    """The folder of a SuperPLM that was trained for two steps, with its corpus inside."""
    out = tmp_path / "supernet"
    train_supernet(
        teacher=str(teacher),
        corpus=str(text),
        space=str(space_file),
        steps=2,
        batch_size=8,
        out=out,
    )
    return out


@pytest.fixture
def student(supernet: Path, tmp_path: Path) -> Path:
    """The folder of a slice of it, 2-16-16-4-8."""
    out = tmp_path / "student"
    extract_model(supernet=supernet, architecture="2-16-16-4-8", out=out)
    return out


@pytest.fixture
def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
