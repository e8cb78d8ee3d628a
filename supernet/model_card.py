"""The `README.md` of a model folder: what the model is, how it was made, how to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supernet.architecture import Architecture, to_matrix
from supernet.card_examples import onnx_example, transformers_example
from supernet.cost import parameters
from supernet.encoder import Encoder
from supernet.heads import Head, HeadKind
from supernet.model_config import stock_class
from supernet.onnx_graph import LOGITS_NAME, OUTPUT_NAME
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

_WHAT: Mapping[HeadKind, str] = {
    "classification": "classifier",
    "regression": "regression",
    "span": "question answering",
}
_ANSWERS: Mapping[HeadKind, str] = {
    "classification": "It says which of its labels a text, or a pair of texts, has.",
    "regression": "It gives a text, or a pair of texts, a number.",
    "span": "It finds the answer to a question in a text: where it starts and where it ends.",
}
_PIPELINES: Mapping[HeadKind, str] = {
    "classification": "text-classification",
    "regression": "text-classification",
    "span": "question-answering",
}
_PAIRS = " A pair of texts is a tuple of two in place of a text."
_EXAMPLE_NOTES: Mapping[HeadKind, str] = {
    "classification": _PAIRS,
    "regression": _PAIRS,
    "span": " A question goes before its text.",
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
    head = encoder.head
    parts = [
        _front_matter(card, head),
        f"# BERT {_WHAT[head.kind] if head else 'encoder'} {encoder.architecture}",
        _introduction(head),
        _table(_rows(card, encoder, variant, precision)),
        "## Run it with ONNX Runtime",
        f"`model.onnx` is the file to deploy: {_file_note(encoder)} "
        + _runtime_note(variant, precision)
        + _PRECISION_NOTES[precision]
        + (" The head is float32." if head and precision != "fp32" else ""),
        onnx_example(encoder, tokenizer_files, precision, lowercase=lowercase),
        "## Load it with transformers",
        _form_note(encoder, stock),
        transformers_example(encoder, trust=stock is None),
    ]
    if head is None:
        parts.append(
            "There is no trained pooler: use `last_hidden_state`, for example its first token, or "
            "its mean over the tokens that `attention_mask` keeps."
        )
    return "\n\n".join(parts) + "\n"


def _introduction(head: Head | None) -> str:
    chosen = "chosen and exported by autotinybert."
    if head is None:
        return (
            f"A small BERT encoder, {chosen} It turns tokens into hidden states; it has neither a "
            "pooler nor a head."
        )
    return f"A small BERT encoder with a trained head, {chosen} {_ANSWERS[head.kind]}"


def _file_note(encoder: Encoder) -> str:
    """What `model.onnx` takes and puts out."""
    inputs = (
        "Inputs `input_ids`, `attention_mask`, `token_type_ids`, int64 `[batch, sequence]`, both "
        "axes dynamic; output"
    )
    if encoder.head is None:
        size = encoder.architecture.hidden_size
        return (
            f"the encoder in its true shape. {inputs} `{OUTPUT_NAME}`, float32 "
            f"`[batch, sequence, {size}]`."
        )
    axes = "batch, sequence" if encoder.head.kind == "span" else "batch"
    return (
        f"the encoder in its true shape, and the head. {inputs} `{LOGITS_NAME}`, float32 "
        f"`[{axes}, {len(encoder.head.labels)}]`, in the order of the labels."
        + _EXAMPLE_NOTES[encoder.head.kind]
        + " The example times tokenizer and model apart; a user waits for both."
    )


def _front_matter(card: ModelCard, head: Head | None) -> str:
    pipeline = _PIPELINES[head.kind] if head else "feature-extraction"
    lines = ["---", "library_name: transformers", f"pipeline_tag: {pipeline}"]
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
    size = int(count[0])
    if encoder.head is not None:
        size += sum(value.size for value in encoder.head.weights.values())
    rows = [
        ("Architecture", f"`{shape}` (layers-hidden-FFN-heads-QKV)"),
        ("Parameters", f"{size:,}"),
        ("Vocabulary, longest sequence", f"{encoder.vocab_size:,}, {encoder.max_positions:,}"),
        ("Graph variant of `model.onnx`", f"`{variant}`, {_PRECISION_NAMES[precision]}"),
    ]
    if encoder.head is not None:
        labels = ", ".join(f"`{label}`" for label in encoder.head.labels)
        rows.append(("Labels, in the order of the logits", _cell(labels)))
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


def _form_note(encoder: Encoder, stock: Architecture | None) -> str:
    shape, head = encoder.architecture, encoder.head
    if stock is None:
        classes = (
            "Its classes for tasks, such as `AutoModelForSequenceClassification`, start from the "
            "encoder and train a head."
            if head is None
            else "It has the same head as `model.onnx`."
        )
        return (
            f"No stock `BertModel` can hold {shape.num_heads} heads of {shape.head_size} "
            f"dimensions at hidden size {shape.hidden_size}, so the folder brings a short model "
            "file of its own: read `modeling_autotinybert.py` before you let it run. " + classes
        )
    name = stock_class(head.kind if head else None)
    pooler = (
        " `add_pooling_layer=False` leaves out a pooler that would be random; classes for tasks, "
        "such as `AutoModelForSequenceClassification`, start from one and train it."
        if head is None
        else ""
    )
    if stock == shape:
        return f"`model.safetensors` is a stock `{name}`.{pooler}"
    return (
        f"`model.safetensors` is a stock `{name}`: its attention is padded with zeros to "
        f"{stock.num_heads} heads of {stock.head_size} dimensions (in truth "
        f"{shape.num_heads} of {shape.head_size}). Outputs are the same and the padding stays "
        f"zero under fine-tuning; `model.onnx` computes none of it.{pooler}"
    )
