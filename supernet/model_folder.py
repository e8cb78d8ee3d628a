"""The model folder: what a user gets in the end.

- `model.onnx`: the encoder in its true shape, with its head if it has one, the file to deploy, in
  the precision asked for
- `model.safetensors`, `config.json`: the same for transformers, always float32. Where the shape
  allows, a stock `BertModel` (see `supernet.stock_form`), or with a head the stock class that has
  it; otherwise `modeling_autotinybert.py` lies beside them, and `AutoModel` and its like load it
  with `trust_remote_code=True`
- the tokenizer's files, and `README.md`, the model card

`config.json` tells the true architecture under `autotinybert`, in both forms.

History of that section's format:

1. The first; `model.onnx` is fp32.
2. `precision` of `model.onnx`.
3. `head`, null where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import (
    read_json_object,
    sha256_bytes,
    sha256_file,
    whole_binary_file,
    whole_file,
    write_json,
)
from autotinybert.values import text
from supernet.architecture import Architecture
from supernet.encoder import Encoder, safetensors_bytes
from supernet.heads import HeadKind, head_from_json, head_to_json
from supernet.model_card import ModelCard, render_card
from supernet.model_config import CODE_FILE, model_config
from supernet.onnx_graph import build_encoder
from supernet.stock_form import stock_architecture, to_stock_form
from supernet.tokenizer_files import (
    TOKENIZER_FILES,
    check_tokenizer_files,
    tokenizer_settings,
)
from supernet.tokenizer_padding import padding_of, tokenizer_class
from supernet.variants import PRECISIONS, GraphVariant, Precision
from supernet.weights import FloatArray

FORMAT = 3

ONNX_FILE = "model.onnx"
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"

# Everything that may lie in a model folder: what a new model there must not inherit.
ALL_MODEL_FILES = (
    ONNX_FILE,
    WEIGHTS_FILE,
    CONFIG_FILE,
    CARD_FILE,
    CODE_FILE,
    *TOKENIZER_FILES,
    "verification.json",
)

Form = Literal["stock", "custom-code"]

# Numbers near the smallest that float32 holds in full (1.2e-38) make CPUs 5 to 30 times slower,
# themselves or in a product. What is far below can still not be seen in any sum.
_SMALLEST_WEIGHT = 1e-30

_LARGEST_PROTOBUF = 2**31 - 1


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that was read back.

    Attributes:
        path: the folder.
        architecture: the encoder's true shape.
        form: whether a stock `BertModel` holds it.
        graph_variant: that of `model.onnx`.
        precision: that of `model.onnx`; the other weights are float32.
        onnx_sha256: of `model.onnx`, checked.
        head_kind: None where its answer is its last hidden state.
        labels: the name of each output of the head, in the order of the logits.
    """

    path: Path
    architecture: Architecture
    form: Form
    graph_variant: str
    precision: Precision
    onnx_sha256: str
    head_kind: HeadKind | None = None
    labels: tuple[str, ...] = ()


def model_files(architecture: Architecture, tokenizer_files: Sequence[str]) -> tuple[str, ...]:
    """The names of the files that `write_model_folder` writes."""
    code = () if stock_architecture(architecture) else (CODE_FILE,)
    return (ONNX_FILE, WEIGHTS_FILE, CONFIG_FILE, *code, *tokenizer_files, CARD_FILE)


def write_model_folder(
    folder: Path,
    encoder: Encoder,
    *,
    variant: GraphVariant,
    precision: Precision = "fp32",
    tokenizer_files: Mapping[str, bytes],
    card: ModelCard,
) -> ModelFolder:
    """Writes a model's files into a folder that is already there.

    Args:
        folder: the folder.
        encoder: the model.
        variant: how `model.onnx` is written down.
        precision: what it computes products in.
        tokenizer_files: by name, as `read_tokenizer_files` gives them.
        card: what `README.md` says besides.

    Raises:
        InputError: if the tokenizer does not fit the encoder, the model is too large for one
            ONNX file, or the folder cannot be written.
    """
    check_tokenizer_files(tokenizer_files, encoder.vocab_size)
    settings = tokenizer_settings(tokenizer_files)
    stock = stock_architecture(encoder.architecture)
    config = model_config(encoder, stock, pad_token_id=padding_of(tokenizer_files).id)
    if "tokenizer_class" not in settings:
        config["tokenizer_class"] = tokenizer_class(tokenizer_files)
    content = onnx_content(encoder, variant=variant, precision=precision)
    with whole_binary_file(folder / ONNX_FILE) as file:
        file.write(content)
    onnx_sha256 = sha256_bytes(content)
    config["autotinybert"] = {
        "architecture": str(encoder.architecture),
        "graph_variant": variant,
        "precision": precision,
        "onnx_sha256": onnx_sha256,
        "head": head_to_json(encoder.head),
        "format": FORMAT,
    }
    weights = huggingface_weights(encoder, stock)
    files = {**tokenizer_files, WEIGHTS_FILE: safetensors_bytes(weights)}
    if stock is None:
        files[CODE_FILE] = Path(__file__).with_name(CODE_FILE).read_bytes()
    for name, found in files.items():
        with whole_binary_file(folder / name) as file:
            file.write(found)
    text = render_card(
        card,
        encoder,
        stock=stock,
        variant=variant,
        precision=precision,
        tokenizer_files=tokenizer_files,
        lowercase=bool(settings.get("do_lower_case", True)),
    )
    with whole_file(folder / CARD_FILE) as page:
        page.write(text)
    write_json(folder / CONFIG_FILE, config)
    return load_model_folder(folder)


def load_model_folder(folder: Path) -> ModelFolder:
    """Reads what a model folder says of itself, and checks `model.onnx` against it.

    Raises:
        InputError: if the folder holds no model of ours, or one of a later format.
        DamagedFileError: if `config.json` or `model.onnx` was torn, truncated or edited.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        raise InputError(f"no model in {folder}: name a folder that export-model wrote")
    config = read_json_object(path)
    ours = config.get("autotinybert")
    if not isinstance(ours, dict) or type(ours.get("format")) is not int:
        raise InputError(f"{path} is of another program: name a folder that export-model wrote")
    if ours["format"] > FORMAT:
        raise InputError(
            f"{path} has format {ours['format']}, this version reads up to {FORMAT}: "
            "update autotinybert"
        )
    try:
        kind, labels = head_from_json(ours["head"] if ours["format"] > 2 else None)
        found = ModelFolder(
            path=folder,
            architecture=Architecture.parse(text(ours["architecture"])),
            form="stock" if config["model_type"] == "bert" else "custom-code",
            graph_variant=text(ours["graph_variant"]),
            precision=_precision(ours.get("precision", "fp32")),
            onnx_sha256=text(ours["onnx_sha256"]),
            head_kind=kind,
            labels=labels,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFileError(f"{path} is damaged ({error}): export the model again") from error
    try:
        sha256 = sha256_file(folder / ONNX_FILE)
    except OSError as error:
        raise DamagedFileError(
            f"cannot read {folder / ONNX_FILE}: {error.strerror}; export the model again"
        ) from error
    if sha256 != found.onnx_sha256:
        raise DamagedFileError(
            f"{folder / ONNX_FILE} is torn, truncated or edited: export the model again"
        )
    return found


def huggingface_weights(encoder: Encoder, stock: Architecture | None) -> dict[str, FloatArray]:
    """The weights under the names that transformers has for them, padded to their stock form.

    Args:
        encoder: the model.
        stock: the shape of its stock form; None where the code is ours, which has the same names.
    """
    weights = without_denormals(encoder.weights)
    if stock is not None:
        weights = to_stock_form(weights, encoder.architecture, stock)
    if encoder.head is None:
        return weights
    named = {f"bert.{name}": value for name, value in weights.items()}
    for name, value in without_denormals(encoder.head.weights).items():
        # The pooler is the encoder's there, what stands on it is not.
        named[f"bert.{name}" if name.startswith("pooler.") else name] = value
    return named


def without_denormals(weights: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The weights, with zeros for those too small for a CPU to multiply at full speed."""
    flushed: dict[str, FloatArray] = {}
    for name, value in weights.items():
        small = np.abs(value) < _SMALLEST_WEIGHT
        # Zeros are small, too; a weight that has no other small values is not copied.
        needed = bool((small & (value != 0)).any())
        flushed[name] = np.where(small, np.float32(0), value) if needed else value
    return flushed


def onnx_content(encoder: Encoder, *, variant: GraphVariant, precision: Precision) -> bytes:
    """The bytes of `model.onnx`; equal encoders give equal bytes.

    Args:
        encoder: the model, float32.
        variant: which graph of it.
        precision: what products are computed in; for int8 the weights are quantised here.

    Raises:
        InputError: if the model is too large for one ONNX file.
    """
    size = sum(value.nbytes for value in encoder.weights.values())
    if size > _LARGEST_PROTOBUF:
        raise InputError(
            f"{encoder.architecture} has {size / 2**30:.1f} GiB of weights, one ONNX file holds "
            "2 GiB: choose a smaller architecture"
        )
    head = encoder.head
    graph = build_encoder(
        encoder.architecture,
        variant=variant,
        precision=precision,
        weights=without_denormals(encoder.weights),
        layer_norm_epsilon=encoder.layer_norm_epsilon,
        head=None if head is None else replace(head, weights=without_denormals(head.weights)),
    )
    content: bytes = graph.model.SerializeToString()
    return content


def _precision(name: object) -> Precision:
    for precision in PRECISIONS:
        if precision == name:
            return precision
    raise ValueError(f"no precision {name!r}")
