"""The heads in a Hugging Face folder: a classifier or a finder of answers, and that for words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autotinybert.errors import InputError
from autotinybert.values import items, mapping, text
from supernet.heads import SPAN_LABELS, HeadKind, head_shapes
from supernet.task_head import TaskHead
from supernet.teacher_config import StoredConfig

# What a class that stores one of our heads is called. A head for something else may have weights
# of the same names and shapes, such as that for a choice among several texts.
_CLASSES = ("ForSequenceClassification", "ForQuestionAnswering")


def task_head(stored: Mapping[str, Tensor], config: StoredConfig, path: Path) -> TaskHead | None:
    """The head that answers a task, frozen; None if there is none.

    Args:
        stored: all weights of the folder, without the family's prefix.
        config: what the folder says of itself.
        path: the folder, for what an error says.

    Raises:
        InputError: if there is one that is not supported, or its weights or labels are damaged.
    """
    family = config.family
    kind: HeadKind = "span"
    names = {"qa_outputs": "qa_outputs"}
    labels: tuple[str, ...] = SPAN_LABELS
    if not _of_known_class(config.document):
        return None
    if "qa_outputs.weight" not in stored:
        names = {"pooler.dense": family.pooled, "classifier": family.classifier}
        outputs = stored.get(f"{family.classifier}.weight")
        if f"{family.pooled}.weight" not in stored or outputs is None or outputs.numel() == 0:
            return None
        labels = _labels(config.document, outputs.shape[0] if outputs.dim() else 1, path)
        kind = _kind(config.document, labels, path)
    size = config.config.largest.hidden_size
    weights: dict[str, Tensor] = {}
    for name, shape in head_shapes(kind, size, len(labels)).items():
        layer, part = name.rsplit(".", 1)
        weights[name] = checked(stored, f"{names[layer]}.{part}", shape, path)
    with torch.device("meta"):  # all of its weights are replaced at once
        head = TaskHead(kind, size, labels, family.activation)
    head.load_state_dict(weights, assign=True)
    return head.requires_grad_(False).eval()  # noqa: FBT003 (torch's own signature)


def _of_known_class(document: Mapping[str, Any]) -> bool:
    try:
        named = items(document.get("architectures") or (), text)
    except ValueError:
        return False
    return not named or any(name.endswith(_CLASSES) for name in named)


def _kind(document: Mapping[str, Any], labels: tuple[str, ...], path: Path) -> HeadKind:
    problem = document.get("problem_type")
    if problem == "multi_label_classification":
        raise InputError(
            f"{path} has a classifier of several labels at once (multi_label_classification), "
            "which is not supported: name one that chooses one of its labels, or a regression"
        )
    if len(labels) == 1:
        return "regression"
    if problem == "regression":
        raise InputError(
            f"{path} has a regression of {len(labels)} numbers, which is not supported: name one "
            "of a single number"
        )
    return "classification"


def _labels(document: Mapping[str, Any], count: int, path: Path) -> tuple[str, ...]:
    named = document.get("id2label")
    if named is None:
        return tuple(f"LABEL_{index}" for index in range(count))
    try:
        by_index = {int(index): text(name) for index, name in mapping(named).items()}
    except ValueError as error:
        raise InputError(
            f"{path} has an unreadable id2label in its config.json ({error})"
        ) from error
    if sorted(by_index) != list(range(count)):
        raise InputError(
            f"{path} has a classifier of {count} outputs, but {len(by_index)} labels in its "
            "config.json: make id2label name each output, from 0 on"
        )
    labels = tuple(by_index[index] for index in range(count))
    if len(set(labels)) != count:
        raise InputError(f"{path} has labels of one name in its config.json ({', '.join(labels)})")
    return labels


def masked_language_head(
    stored: Mapping[str, Tensor], words: Tensor, config: StoredConfig, path: Path
) -> dict[str, Tensor] | None:
    """The head for masked words, named as `MaskedLanguageHead` names its own.

    Args:
        stored: all weights of the folder, without the family's prefix.
        words: the word embedding, `[V, d]`.
        config: what the folder says of itself.
        path: the folder, for what an error says.

    Returns:
        None where there is no such head, or its decoder is not the word embedding.

    Raises:
        InputError: if its weights are not those of the config.
    """
    names = config.family.masked
    if names is None or f"{names.dense}.weight" not in stored:
        return None
    decoder = stored.get(f"{names.decoder}.weight")
    if decoder is not None and not torch.equal(decoder.float(), words):
        return None
    # Tied biases are stored once, under either name.
    bias = names.bias if names.bias in stored else f"{names.decoder}.bias"
    size = config.config.largest.hidden_size
    return {
        "dense.weight": checked(stored, f"{names.dense}.weight", (size, size), path),
        "dense.bias": checked(stored, f"{names.dense}.bias", (size,), path),
        "LayerNorm.weight": checked(stored, f"{names.norm}.weight", (size,), path),
        "LayerNorm.bias": checked(stored, f"{names.norm}.bias", (size,), path),
        "bias": checked(stored, bias, (config.config.vocab_size,), path),
    }


def checked(stored: Mapping[str, Tensor], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    """One weight in float32.

    Raises:
        InputError: if it is missing, of another shape, or holds no finite numbers.
    """
    if name not in stored:
        raise InputError(f"{path} lacks {name}: it does not hold the model of its config.json")
    value = stored[name]
    if tuple(value.shape) != shape:
        raise InputError(
            f"{path}: {name} has shape {list(value.shape)}, but its config.json says {list(shape)}"
        )
    if not value.is_floating_point():
        raise InputError(f"{path}: {name} is {value.dtype}: save the model in float32")
    found = value.float()
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"{path}: {name} holds values that are not finite numbers")
    return found
