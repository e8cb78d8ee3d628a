"""Which heads a folder has, and what is said where it has none that is supported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    BertForTokenClassification,
    RobertaConfig,
    RobertaForTokenClassification,
)

from autotinybert.errors import InputError
from autotinybert.files import canonical_json, sha256_file, sha256_text
from supernet.batch import Batch
from supernet.encoder import Encoder, save_encoder
from supernet.huggingface import WEIGHTS_FILE, read_bert_folder
from supernet.teacher_config import CONFIG_FILE

SaveTeacher = Callable[..., Any]
SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    save_file(change(dict(weights)), folder / WEIGHTS_FILE, metadata={"format": "pt"})


def refused(folder: Path) -> str:
    """What is said when the head is asked for; the encoder is read all the same."""
    found = read_bert_folder(folder)
    assert found.head is None
    with pytest.raises(InputError) as caught:
        found.task_head()
    message = str(caught.value)
    assert message.startswith(str(folder))
    assert "\n" not in message
    return message


@pytest.fixture
def classifier(save_teacher: SaveTeacher, tmp_path: Path) -> Path:
    folder = tmp_path / "classifier"
    save_teacher(folder, head=True, id2label={0: "no", 1: "yes", 2: "maybe"})
    return folder


def test_outputs_without_names_are_labelled_by_their_index(
    save_teacher: SaveTeacher, tmp_path: Path
) -> None:
    save_teacher(tmp_path, head=True)
    assert read_bert_folder(tmp_path).task_head().labels == ("LABEL_0", "LABEL_1")


def test_one_output_is_a_regression(save_teacher: SaveTeacher, tmp_path: Path) -> None:
    save_teacher(tmp_path, head=True, num_labels=1)
    head = read_bert_folder(tmp_path).task_head()
    assert (head.kind, head.labels) == ("regression", ("LABEL_0",))


def test_labels_are_in_the_order_of_their_numbers(classifier: Path) -> None:
    change_config(classifier, id2label={"2": "c", "0": "a", "1": "b"})
    assert read_bert_folder(classifier).task_head().labels == ("a", "b", "c")


def test_an_encoder_with_a_pooler_alone_has_no_head(
    save_teacher: SaveTeacher, tmp_path: Path
) -> None:
    save_teacher(tmp_path)
    assert "pooler.dense.weight" in load_file(tmp_path / WEIGHTS_FILE)
    assert "has no classifier on it: name a model saved by AutoModelForSequ" in refused(tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        BertForMultipleChoice(BertConfig(**SIZES)),
        BertForTokenClassification(BertConfig(**SIZES, id2label={0: "a", 1: "b", 2: "c"})),
        RobertaForTokenClassification(RobertaConfig(**SIZES, id2label={0: "a", 1: "b", 2: "c"})),
    ],
    ids=["a choice among texts", "tokens, bert", "tokens, roberta"],
)
def test_a_head_for_something_else_is_no_classifier(tmp_path: Path, model: Any) -> None:
    model.save_pretrained(tmp_path)
    assert "has no classifier on it" in refused(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "several labels at once (multi_label"),
        ({"problem_type": "regression"}, "has a regression of 3 numbers, which is not supported"),
        ({"id2label": {"0": "a", "1": "b"}}, "a classifier of 3 outputs, but 2 labels in its"),
        ({"id2label": {"1": "a", "2": "b", "3": "c"}}, "make id2label name each output, from 0 on"),
        ({"id2label": {"0": "a", "1": "a", "2": "b"}}, "has labels of one name in its config.json"),
        ({"id2label": {"0": "a", "1": "b", "2": 3}}, "has an unreadable id2label in its config"),
        ({"id2label": {"zero": "a"}}, "has an unreadable id2label in its config.json"),
        ({"id2label": ["a", "b", "c"]}, "has an unreadable id2label in its config.json"),
        ({"architectures": ["BertForMultipleChoice"]}, "has no classifier on it"),
        ({"architectures": 7}, "has no classifier on it"),
    ],
)
def test_a_head_that_is_not_supported_is_refused_when_it_is_asked_for(
    classifier: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(classifier, **changes)
    assert message in refused(classifier)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: {**w, "classifier.bias": w["classifier.bias"][:2].clone()},
            "has shape [2], but",
        ),
        (lambda w: {**w, "classifier.bias": w["classifier.bias"] / 0}, "not finite numbers"),
        (lambda w: {n: v for n, v in w.items() if n != "classifier.bias"}, "lacks classifier.bias"),
        (lambda w: {**w, "classifier.weight": torch.tensor(1.0)}, "a classifier of 1 outputs"),
    ],
    ids=["shape", "infinity", "missing", "a number"],
)
def test_a_damaged_head_is_refused_by_name_when_it_is_asked_for(
    classifier: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    change_weights(classifier, change)
    assert message in refused(classifier)


def test_a_copy_of_the_head_is_given_frozen(classifier: Path) -> None:
    found = read_bert_folder(classifier)
    one, other = found.task_head(), found.task_head()
    assert one is not other
    assert not any(parameter.requires_grad for parameter in one.parameters())
    with torch.no_grad():
        one.classifier.bias.add_(1)
    assert not torch.equal(one.classifier.bias, other.classifier.bias)


class TestHash:
    def test_that_of_an_encoder_alone_is_that_of_its_config_and_file(self, teacher: Path) -> None:
        found = read_bert_folder(teacher)
        facts = dataclasses.asdict(found.config)
        del facts["embedding_size"]  # it came later
        facts["weights"] = sha256_file(teacher / WEIGHTS_FILE)
        assert found.sha256 == sha256_text(canonical_json(facts))

    def test_other_labels_make_another(self, classifier: Path) -> None:
        before = read_bert_folder(classifier).sha256
        change_config(classifier, id2label={"0": "no", "1": "yes", "2": "perhaps"})
        assert read_bert_folder(classifier).sha256 != before


class TestEncoderFolder:
    def test_one_is_a_teacher_with_its_head(
        self, random_encoder: Callable[..., Encoder], batch: Batch, tmp_path: Path
    ) -> None:
        encoder = random_encoder("2-24-40-4-12", head="classification", layer_norm_epsilon=1e-6)
        save_encoder(tmp_path, encoder, extra={})
        found = read_bert_folder(tmp_path)
        assert (found.family, str(found.config.largest)) == ("encoder", "2-24-40-4-12")
        assert found.config.layer_norm_epsilon == 1e-6
        assert found.cannot_start is None
        assert found.task_head().labels == ("no", "yes", "not said")
        hidden = found.model()(batch.input_ids % 97, batch.mask).last_hidden_state
        assert hidden.shape == (3, 11, 24)

    def test_one_without_a_head_has_none(
        self, random_encoder: Callable[..., Encoder], tmp_path: Path
    ) -> None:
        save_encoder(tmp_path, random_encoder("2-24-40-4-12"), extra={})
        assert "has no classifier on it" in refused(tmp_path)
