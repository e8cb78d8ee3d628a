"""The `README.md` of a model folder: what the model is, how it was made, how to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supernet.architecture import Architecture, to_matrix
from supernet.cost import parameters
from supernet.encoder import Encoder
from supernet.tokenizer_files import TOKENIZER_FILE, VOCABULARY_FILE
from supernet.variants import GraphVariant, Precision

_PRECISION_NAMES: Mapping[Precision, str] = {
    "fp32": "float32",
    "fp16": "fp16 (`model.safetensors` is float32)",
    "int8": "int8 (`model.safetensors` is float32)",
}
# How `model.onnx` was made from the weights beside it.
_PRECISION_NOTES: Mapping[Precision, str] = {
    "fp32": "",
    "fp16": " Its weights are those of `model.safetensors`, rounded to half precision: for GPUs, "
    "CPUs run it slower than float32.",
    "int8": " The weights of its linear layers and its word embedding are those of "
    "`model.safetensors`, rounded to 8 bits (symmetric, one scale for each output channel and for "
    "each word; no calibration data); what linear layers read is quantised as it runs, with one "
    "scale for everything in a run. So its outputs differ a little from those of "
    "`model.safetensors`, which is float32, and with what a text is batched and padded with. It is "
    "made for CPUs with VNNI or dot-product instructions; on x86 CPUs without them ONNX Runtime's "
    "8-bit products are slower and may saturate.",
}

_UNVERIFIED = "not verified yet: nobody has measured this file on a device"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a card says that the weights do not.

    Attributes:
        teacher: the model that it was made from.
        budget: the latency asked for, in words.
        device: what it was made for, in words.
        verification: what was measured on the exported file; None where nothing was.
        license: an identifier as Hugging Face has them; None where it is not known.
        facts: further rows of the table, name and value.
    """

    teacher: str | None = None
    budget: str | None = None
    device: str | None = None
    verification: str | None = None
    license: str | None = None
    facts: Sequence[tuple[str, str]] = ()

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> ModelCard:
        """A card from what was kept beside an encoder; of nested values it says nothing."""
        texts = {
            name: str(value)
            for name, value in facts.items()
            if isinstance(value, str | int | float)
        }
        known = ("teacher", "budget", "device", "license")
        rows = [(name.replace("_", " "), text) for name, text in texts.items() if name not in known]
        return cls(**{name: texts.get(name) for name in known}, facts=rows)


def render_card(
    card: ModelCard,
    encoder: Encoder,
    *,
    stock: Architecture | None,
    variant: GraphVariant,
    precision: Precision = "fp32",
    tokenizer_files: Mapping[str, bytes],
    lowercase: bool,
) -> str:
    """The Markdown text of a card.

    Args:
        card: what the weights do not say.
        encoder: the model.
        stock: the shape of its stock form; None where the folder holds code of its own.
        variant: that of `model.onnx`.
        precision: that of `model.onnx`.
        tokenizer_files: by name.
        lowercase: whether the tokenizer lowers case; used where it is a vocabulary alone.
    """
    parts = [
        _front_matter(card),
        f"# BERT encoder {encoder.architecture}",
        "A small BERT encoder, chosen and exported by autotinybert. It turns tokens into hidden "
        "states; it has neither a pooler nor a head.",
        _table(_rows(card, encoder, variant, precision)),
        "## Run it with ONNX Runtime",
        "`model.onnx` is the file to deploy: the encoder in its true shape. Inputs `input_ids`, "
        "`attention_mask`, `token_type_ids`, int64 `[batch, sequence]`, both axes dynamic; output "
        f"`last_hidden_state`, float32 `[batch, sequence, {encoder.architecture.hidden_size}]`. "
        + _runtime_note(variant, precision)
        + _PRECISION_NOTES[precision],
        _onnx_example(encoder, tokenizer_files, precision, lowercase=lowercase),
        "## Load it with transformers",
        _form_note(encoder.architecture, stock),
        _transformers_example(encoder, trust=stock is None),
        "There is no trained pooler: use `last_hidden_state`, for example its first token, or its "
        "mean over the tokens that `attention_mask` keeps.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(card: ModelCard) -> str:
    lines = ["---", "library_name: transformers", "pipeline_tag: feature-extraction"]
    if card.license is not None:
        lines.append(f"license: {json.dumps(card.license)}")  # a JSON string is a YAML string
    return "\n".join([*lines, "tags:", "- bert", "- onnx", "- autotinybert", "---"])


def _rows(
    card: ModelCard, encoder: Encoder, variant: GraphVariant, precision: Precision
) -> list[tuple[str, str]]:
    shape = encoder.architecture
    count = parameters(
        to_matrix([shape]), vocab_size=encoder.vocab_size, max_positions=encoder.max_positions
    )
    rows = [
        ("Architecture", f"`{shape}` (layers-hidden-FFN-heads-QKV)"),
        ("Parameters", f"{int(count[0]):,}"),
        ("Vocabulary, longest sequence", f"{encoder.vocab_size:,}, {encoder.max_positions:,}"),
        ("Graph variant of `model.onnx`", f"`{variant}`, {_PRECISION_NAMES[precision]}"),
    ]
    for name, value in (
        ("Teacher", card.teacher),
        ("Latency budget", card.budget),
        ("Device", card.device),
        *card.facts,
    ):
        if value is not None:
            rows.append((_cell(name), _cell(value)))
    return [*rows, ("Verification", _cell(card.verification or _UNVERIFIED))]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _runtime_note(variant: GraphVariant, precision: Precision) -> str:
    if variant == "attention":
        return "It uses `com.microsoft.Attention`, which only ONNX Runtime has."
    if precision == "int8":
        return "It uses `com.microsoft.MatMulIntegerToFloat`, which only ONNX Runtime has."
    return "It uses ONNX's own operators, opset 20."


def _form_note(architecture: Architecture, stock: Architecture | None) -> str:
    if stock is None:
        return (
            f"No stock `BertModel` can hold {architecture.num_heads} heads of "
            f"{architecture.head_size} dimensions at hidden size {architecture.hidden_size}, so "
            "the folder brings a short model file of its own: read `modeling_autotinybert.py` "
            "before you let it run. It has an encoder and no classes for tasks."
        )
    pooler = (
        "`add_pooling_layer=False` leaves out a pooler that would be random; classes for tasks, "
        "such as `AutoModelForSequenceClassification`, start from one and train it."
    )
    if stock == architecture:
        return f"`model.safetensors` is a stock `BertModel`. {pooler}"
    return (
        "`model.safetensors` is a stock `BertModel`: its attention is padded with zeros to "
        f"{stock.num_heads} heads of {stock.head_size} dimensions (in truth "
        f"{architecture.num_heads} of {architecture.head_size}). Outputs are the same and the "
        f"padding stays zero under fine-tuning; `model.onnx` computes none of it. {pooler}"
    )


def _onnx_example(
    encoder: Encoder,
    tokenizer_files: Mapping[str, bytes],
    precision: Precision,
    *,
    lowercase: bool,
) -> str:
    provider = "CUDAExecutionProvider" if precision == "fp16" else "CPUExecutionProvider"
    if TOKENIZER_FILE in tokenizer_files:
        imported = "Tokenizer"
        loaded = f'Tokenizer.from_file(f"{{folder}}/{TOKENIZER_FILE}")'
    else:
        imported = "BertWordPieceTokenizer"
        loaded = f'BertWordPieceTokenizer(f"{{folder}}/{VOCABULARY_FILE}", lowercase={lowercase})'
    return f"""```python
import numpy as np
import onnxruntime
from tokenizers import {imported}

folder = "."  # this folder
tokenizer = {loaded}
tokenizer.enable_truncation({encoder.max_positions})
tokenizer.enable_padding()
encodings = tokenizer.encode_batch(["A first text.", "And a second one."])
inputs = {{
    "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
    "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
    "token_type_ids": np.array([encoding.type_ids for encoding in encodings], dtype=np.int64),
}}
session = onnxruntime.InferenceSession(f"{{folder}}/model.onnx", providers=["{provider}"])
(last_hidden_state,) = session.run(["last_hidden_state"], inputs)
```"""


def _transformers_example(encoder: Encoder, *, trust: bool) -> str:
    option = "trust_remote_code=True" if trust else "add_pooling_layer=False"
    trusted = ", trust_remote_code=True" if trust else ""
    return f"""```python
import torch
from transformers import AutoModel, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder{trusted})
model = AutoModel.from_pretrained(folder, {option}).eval()
inputs = tokenizer(
    ["A first text.", "And a second one."],
    padding=True,
    truncation=True,
    max_length={encoder.max_positions},
    return_tensors="pt",
)
with torch.no_grad():
    last_hidden_state = model(**inputs).last_hidden_state
```"""
