"""The examples of a model card: Python that runs as it stands in the model's folder."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from supernet.encoder import Encoder
from supernet.heads import Head
from supernet.model_config import auto_class
from supernet.onnx_graph import LOGITS_NAME, OUTPUT_NAME
from supernet.tokenizer_files import (
    MERGES_FILE,
    PAIRS_VOCABULARY_FILE,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
)
from supernet.tokenizer_padding import Padding, padding_of
from supernet.variants import Precision

_TEXTS = '["A first text.", "And a second one."]'
_QUESTION = '"What did Ada write?"'
_CONTEXT = '"Ada wrote the first program."'

# Of `encodings`, as a dictionary.
_INPUTS = """{
    "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
    "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
    "token_type_ids": np.array([encoding.type_ids for encoding in encodings], dtype=np.int64),
}"""

# Tokens and answers again and again: the first runs are slower than those that follow.
_TIMED = f"""tokenizer_ms, model_ms = [], []
for _ in range(50):
    started = time.perf_counter()
    inputs = tokenize(texts)
    tokenized = time.perf_counter()
    ({LOGITS_NAME},) = session.run(["{LOGITS_NAME}"], inputs)
    finished = time.perf_counter()
    tokenizer_ms.append((tokenized - started) * 1e3)
    model_ms.append((finished - tokenized) * 1e3)
print(f"tokenizer {{np.median(tokenizer_ms):.2f}} ms, model {{np.median(model_ms):.2f}} ms")"""

# What makes an answer of the logits.
_ANSWERS = {
    "classification": """shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
probabilities = shares / shares.sum(axis=-1, keepdims=True)
for text, row in zip(texts, probabilities):
    print(f"{text}: {labels[row.argmax()]} ({row.max():.1%})")""",
    "regression": """for text, (value,) in zip(texts, logits):
    print(f"{text}: {labels[0]} {value:.3f}")""",
    "span": """encoding = tokenizer.encode(question, context)
inside = np.array([part == 1 for part in encoding.sequence_ids])  # of the context
allowed = np.triu(inside[:, None] & inside)  # from its start to its end
scores = np.where(allowed, logits[0, :, :1] + logits[0, :, 1], -np.inf)
start, end = np.unravel_index(scores.argmax(), scores.shape)
answer = context[encoding.offsets[start][0] : encoding.offsets[end][1]]
print(f"{question} {answer}")""",
}


@dataclass(frozen=True)
class _Tokenizer:
    """How the `tokenizers` library reads a tokenizer: imports, and what makes it."""

    imports: str
    made: str


def onnx_example(
    encoder: Encoder,
    tokenizer_files: Mapping[str, bytes],
    precision: Precision,
    *,
    lowercase: bool,
) -> str:
    """Text to hidden states, or to answers, with ONNX Runtime; it times what it runs.

    Args:
        encoder: the model.
        tokenizer_files: by name.
        precision: of `model.onnx`.
        lowercase: whether the tokenizer lowers case; used where it is a vocabulary alone.
    """
    tokenizer = _tokenizer(tokenizer_files, lowercase=lowercase)
    provider = "CUDAExecutionProvider" if precision == "fp16" else "CPUExecutionProvider"
    opened = f'onnxruntime.InferenceSession(f"{{folder}}/model.onnx", providers=["{provider}"])'
    common = f"""import numpy as np
import onnxruntime
{tokenizer.imports}

folder = "."  # this folder
{tokenizer.made}
tokenizer.enable_truncation({encoder.max_positions})
tokenizer.enable_padding({_padding_arguments(padding_of(tokenizer_files))})
"""
    if encoder.head is None:
        return f"""```python
{common}encodings = tokenizer.encode_batch({_TEXTS})
inputs = {_INPUTS}
session = {opened}
({OUTPUT_NAME},) = session.run(["{OUTPUT_NAME}"], inputs)
```"""
    return f"""```python
import time

{common}session = {opened}


def tokenize(texts):
    encodings = tokenizer.encode_batch(texts)
    return {textwrap.indent(_INPUTS, "    ").lstrip()}


{_asked(encoder.head)}
{_TIMED}
{_ANSWERS[encoder.head.kind]}
```"""


def transformers_example(encoder: Encoder, *, trust: bool) -> str:
    """The same with transformers.

    Args:
        encoder: the model.
        trust: whether the folder's own code has to be run.
    """
    head = encoder.head
    loader = auto_class(head.kind if head else None)
    trusted = ", trust_remote_code=True" if trust else ""
    option = trusted if trust or head else ", add_pooling_layer=False"
    is_span = head is not None and head.kind == "span"
    texts = f"    {_QUESTION},\n    {_CONTEXT}," if is_span else f"    {_TEXTS},"
    return f"""```python
import torch
from transformers import {loader}, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder{trusted})
model = {loader}.from_pretrained(folder{option}).eval()
inputs = tokenizer(
{texts}
    padding=True,
    truncation=True,
    max_length={encoder.max_positions},
    return_tensors="pt",
)
with torch.no_grad():
    output = model(**inputs)
{_transformers_answer(head)}
```"""


def _asked(head: Head) -> str:
    if head.kind == "span":
        return f"question, context = {_QUESTION}, {_CONTEXT}\ntexts = [(question, context)]"
    return f"labels = {list(head.labels)!r}\ntexts = {_TEXTS}"


def _transformers_answer(head: Head | None) -> str:
    if head is None:
        return "last_hidden_state = output.last_hidden_state"
    if head.kind == "span":
        return (
            f"{LOGITS_NAME} = torch.stack([output.start_logits, output.end_logits], dim=-1)\n"
            "start, end = output.start_logits.argmax(), output.end_logits.argmax()"
        )
    if head.kind == "regression":
        return f"{LOGITS_NAME} = output.logits\nvalues = {LOGITS_NAME}[:, 0]"
    return (
        f"{LOGITS_NAME} = output.logits\n"
        f"probabilities = {LOGITS_NAME}.softmax(dim=-1)\n"
        f"labels = [model.config.id2label[i] for i in {LOGITS_NAME}.argmax(dim=-1).tolist()]"
    )


def _tokenizer(files: Mapping[str, bytes], *, lowercase: bool) -> _Tokenizer:
    if TOKENIZER_FILE in files:
        made = f'tokenizer = Tokenizer.from_file(f"{{folder}}/{TOKENIZER_FILE}")'
        return _Tokenizer("from tokenizers import Tokenizer", made)
    if VOCABULARY_FILE in files:
        made = (
            f'tokenizer = BertWordPieceTokenizer(f"{{folder}}/{VOCABULARY_FILE}", '
            f"lowercase={lowercase})"
        )
        return _Tokenizer("from tokenizers import BertWordPieceTokenizer", made)
    made = (
        "tokenizer = ByteLevelBPETokenizer("
        f'f"{{folder}}/{PAIRS_VOCABULARY_FILE}", f"{{folder}}/{MERGES_FILE}")\n'
        'first, last = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]\n'
        "tokenizer.post_processor = RobertaProcessing(last, first)"
    )
    return _Tokenizer(
        "from tokenizers import ByteLevelBPETokenizer\n"
        "from tokenizers.processors import RobertaProcessing",
        made,
    )


def _padding_arguments(padding: Padding) -> str:
    """What the library must be told; nothing where it is its default, BERT's."""
    return "" if padding == Padding() else f"pad_id={padding.id}, pad_token={padding.token!r}"
