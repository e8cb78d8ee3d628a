"""`config.json` of a model folder: what transformers reads of it.

`BertConfig`'s fields in both forms; where the code is ours also `qkv_size` and `auto_map`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernet.architecture import Architecture
from supernet.cost import TYPE_VOCAB_SIZE
from supernet.encoder import Encoder
from supernet.heads import Head, HeadKind

CODE_FILE = "modeling_autotinybert.py"

# The suffix of the class that has such a head, in stock transformers and in our file alike.
_TASK_CLASSES: Mapping[HeadKind, str] = {
    "classification": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "span": "ForQuestionAnswering",
}
# What transformers computes a loss by; it knows none for spans.
_PROBLEM_TYPES: Mapping[HeadKind, str] = {
    "classification": "single_label_classification",
    "regression": "regression",
}


def auto_class(kind: HeadKind | None) -> str:
    """The class of transformers that a folder is opened with."""
    return f"AutoModel{_TASK_CLASSES[kind]}" if kind else "AutoModel"


def stock_class(kind: HeadKind | None) -> str:
    """The class of stock transformers that holds such a model."""
    return f"Bert{_TASK_CLASSES[kind]}" if kind else "BertModel"


def model_config(
    encoder: Encoder, stock: Architecture | None, *, pad_token_id: int
) -> dict[str, Any]:
    """What transformers reads.

    Args:
        encoder: the model.
        stock: the shape of its stock form; None where the code is ours.
        pad_token_id: the tokenizer's.
    """
    shape = stock or encoder.architecture
    kind = encoder.head.kind if encoder.head else None
    config: dict[str, Any] = {
        "model_type": "bert",
        "architectures": [stock_class(kind)],
        "vocab_size": encoder.vocab_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "intermediate_size": shape.ffn_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": encoder.max_positions,
        "type_vocab_size": TYPE_VOCAB_SIZE,
        "initializer_range": 0.02,
        "layer_norm_eps": encoder.layer_norm_epsilon,
        "pad_token_id": pad_token_id,
    }
    if stock is None:
        module = CODE_FILE.removesuffix(".py")
        suffixes = {"Model": "", **{each: each for each in sorted(set(_TASK_CLASSES.values()))}}
        config |= {
            "model_type": "autotinybert",
            "architectures": [f"AutoTiny{stock_class(kind)}"],
            "auto_map": {
                "AutoConfig": f"{module}.AutoTinyBertConfig",
                **{
                    f"AutoModel{auto}": f"{module}.AutoTinyBert{ours}"
                    for ours, auto in suffixes.items()
                },
            },
            "qkv_size": shape.qkv_size,
        }
    return config | (_labels_config(encoder.head) if encoder.head else {})


def _labels_config(head: Head) -> dict[str, Any]:
    labels = list(enumerate(head.labels))
    config: dict[str, Any] = {
        "id2label": {str(index): label for index, label in labels},
        "label2id": {label: index for index, label in labels},
    }
    if head.kind in _PROBLEM_TYPES:
        config["problem_type"] = _PROBLEM_TYPES[head.kind]
    return config
