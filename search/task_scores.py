"""A classifier's scores on the user's labelled texts: teacher, float32 weights, int8 file.

`scores.json` lies beside a candidate's files. Intervals are 95 % bootstrap intervals over the
texts; differences from the teacher are taken on the same texts.

History of its schema:

1. The first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from autotinybert.errors import DamagedFileError
from autotinybert.files import read_signed_json, write_signed_json
from autotinybert.text_table import text_table
from autotinybert.values import items, mapping, number, text
from search.exported_model import ExportedModel
from search.path_request import PathRequest
from supernet.batch import Batch
from supernet.corpus import TokenCorpus
from supernet.encoder import load_encoder
from supernet.huggingface import BertFolder
from supernet.model_folder import onnx_content
from supernet.onnx_classifier import OnnxClassifier
from supernet.supernet_folder import teacher_of
from supernet.tasks.encoding import EncodedBatch, EncodedExamples, encode_examples
from supernet.tasks.examples import TaskData, read_examples
from supernet.tasks.metrics import (
    Answers,
    bootstrap_difference,
    bootstrap_interval,
    primary,
    scores,
)
from supernet.tokenizer import load_tokenizer
from supernet.variants import Precision

SCHEMA_VERSION = 1

SCORES_FILE = "scores.json"

_REMEDY = "remove it and give the same command again"
_BATCH_SIZE = 32

Logits = npt.NDArray[np.float32]
Predict = Callable[[EncodedBatch], Logits]


@dataclass(frozen=True)
class _Texts:
    """What is scored on."""

    data: TaskData
    encoded: EncodedExamples

    def answers(self, predict: Predict) -> Answers:
        """The answers of a model: numbers of labels, or values."""
        found = []
        # Texts of one length together: less padding.
        order = np.argsort(self.encoded.lengths, kind="stable")
        for start in range(0, len(order), _BATCH_SIZE):
            found.append(predict(self.encoded.batch(order[start : start + _BATCH_SIZE])))
        logits = np.concatenate(found)[np.argsort(order, kind="stable")]
        if self.data.kind == "regression":
            return logits[:, 0].astype(np.float64)
        return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def score_task(
    request: PathRequest, teacher: BertFolder, corpus: TokenCorpus, folder: Path
) -> dict[str, Any]:
    """Scores a candidate that was verified, and keeps the scores beside it.

    Args:
        request: with the task.
        teacher: whose classifier was distilled.
        corpus: how long its sequences are.
        folder: of the candidate, with `trained` and `trained-exported`.

    Raises:
        InputError: if the dev file cannot be read, or the folder cannot be written.
    """
    assert request.task is not None
    assert request.dev is not None
    model = ExportedModel.read(folder / "trained-exported")
    shipped, sha256 = model.path.read_bytes(), model.sha256
    path = folder / SCORES_FILE
    if path.exists():
        known = load_scores(folder)
        if known["model_sha256"] == sha256:
            return known
    head = teacher.task_head()
    data = read_examples(request.task, request.dev, labels=head.labels)
    tokenizer = load_tokenizer(teacher.path)
    length = corpus.sequence_length
    texts = _Texts(data, encode_examples(tokenizer, data, sequence_length=length))
    encoder, _ = load_encoder(folder / "trained")
    other: Precision = "int8" if request.precision != "int8" else "fp32"
    content = onnx_content(encoder, variant=model.graph_variant, precision=other)
    found = {"teacher": texts.answers(_torch_teacher(teacher))}
    found[f"{request.precision} file"] = texts.answers(_file(shipped))
    found[f"{other} file"] = texts.answers(_file(content))
    document = {
        "model_sha256": sha256,
        "shipped": f"{request.precision} file",
        **_document(texts, found, f"{request.precision} file"),
        "sequence_length": length,
    }
    write_signed_json(path, {"schema_version": SCHEMA_VERSION, "kind": "task-scores", **document})
    return load_scores(folder)


def _document(texts: _Texts, found: Mapping[str, Answers], shipped: str) -> dict[str, Any]:
    gold = texts.encoded.labels
    assert gold is not None
    task, names = texts.data.task, texts.data.labels
    regression = texts.data.kind == "regression"
    labels = None if regression else names
    models: list[dict[str, Any]] = []
    for name, answers in found.items():
        rng = np.random.default_rng(0)  # the same draws for every model
        interval = bootstrap_interval(task, gold, answers, rng=rng, labels=labels)
        difference = bootstrap_difference(
            task, gold, answers, found["teacher"], rng=np.random.default_rng(0), labels=labels
        )
        models.append(
            {
                "model": name,
                "score": interval.value,
                "score_low": interval.low,
                "score_high": interval.high,
                "difference": difference.value,
                "difference_low": difference.low,
                "difference_high": difference.high,
                "metrics": scores(task, gold, answers, labels=labels),
            }
        )
    drop = next(-model["difference"] for model in models if model["model"] == shipped)
    return {
        "task": task,
        "examples": len(texts.encoded),
        "metric": primary(task, regression=regression),
        "labels": list(names),
        "models": models,
        "score_drop": drop,
    }


def _torch_teacher(folder: BertFolder) -> Predict:
    teacher = teacher_of(folder, "task")
    head = teacher.head
    assert head is not None

    def predict(batch: EncodedBatch) -> Logits:
        given = Batch(
            torch.from_numpy(batch.input_ids),
            torch.from_numpy(batch.attention_mask),
            torch.from_numpy(batch.token_type_ids),
        )
        with torch.no_grad():
            found: Logits = head(teacher.model(*given).last_hidden_state).numpy()
        return found

    return predict


def _file(content: bytes) -> Predict:
    run = OnnxClassifier(content)
    return lambda batch: run(batch.input_ids, batch.attention_mask, batch.token_type_ids)


def load_scores(folder: Path) -> dict[str, Any]:
    """Reads the `scores.json` in a folder.

    Raises:
        InputError: if it is of a later version.
        DamagedFileError: if it is not there, or was torn, truncated or edited.
    """
    path = folder / SCORES_FILE
    document = read_signed_json(
        path, kind="task-scores", schema_version=SCHEMA_VERSION, remedy=_REMEDY
    )
    try:
        number(document["score_drop"])
        for name in ("model_sha256", "shipped", "task", "metric"):
            text(document[name])
        for model in items(document["models"], mapping):
            text(model["model"])
            for name in ("score", "difference"):
                for bound in ("", "_low", "_high"):
                    number(model[f"{name}{bound}"])
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} holds no scores ({error}): {_REMEDY}") from error
    return document


def scores_text(document: Mapping[str, Any]) -> str:
    """Scores as a table for a person to read."""
    rows = [
        (
            model["model"],
            f"{model['score']:.1f} ({model['score_low']:.1f} to {model['score_high']:.1f})",
            ""
            if model["model"] == "teacher"
            else f"{model['difference']:+.1f} ({model['difference_low']:+.1f} to "
            f"{model['difference_high']:+.1f})",
        )
        for model in document["models"]
    ]
    title = f"{document['metric']} on {document['examples']} texts, %"
    return text_table((title, "95 % interval", "from the teacher"), rows)


def card_scores(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Scores as rows of a model card."""
    return [
        (
            f"{document['metric'].capitalize()}, {model['model']}",
            f"{model['score']:.1f} % (95 %: {model['score_low']:.1f} to {model['score_high']:.1f}) "
            f"on {document['examples']} labelled texts",
        )
        for model in document["models"]
    ]
