"""Fine-tuning: what is learnt, what is kept, and that it is the same every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from autotinybert.errors import InputError, WorkError
from supernet.encoder import Encoder
from supernet.tasks.encoding import EncodedExamples, encode_examples
from supernet.tasks.examples import TaskData, read_examples
from supernet.tasks.finetune_grid import FinetuneSettings
from supernet.tasks.finetuning import Finetuned, finetune, predict
from supernet.tasks.metrics import answers, scores
from supernet.tokenizer import load_tokenizer
from supernet.training import StepReport

WriteRule = Callable[..., Path]
Encode = Callable[[Path], tuple[TaskData, EncodedExamples]]
FAST = FinetuneSettings(epochs=4, batch_size=16, learning_rate=1e-2)


@pytest.fixture
def encode(bert_folder: Path) -> Encode:
    tokenizer = load_tokenizer(bert_folder)

    def read(
        path: Path, *, labels: Sequence[str] | None = None, regression: bool = False
    ) -> tuple[TaskData, EncodedExamples]:
        data = read_examples("csv", path, labels=labels, regression=regression)
        return data, encode_examples(tokenizer, data, sequence_length=16)

    return read


def run(
    encoder: Encoder,
    found: tuple[TaskData, EncodedExamples],
    dev: EncodedExamples,
    settings: FinetuneSettings = FAST,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> Finetuned:
    return finetune(encoder, *found, dev, settings, clock_s=lambda: 0.0, on_step=on_step)


def test_a_rule_is_learnt_and_holds_for_other_examples(
    tiny_encoder: Encoder, encode: Encode, write_rule: WriteRule
) -> None:
    train = encode(write_rule("train.csv", 320))
    _, dev = encode(write_rule("dev.csv", 100, seed=1))
    found = run(tiny_encoder, train, dev)
    assert found.epoch_scores[found.epoch - 1] == max(found.epoch_scores) > 90
    assert found.encoder.head is not None
    assert found.encoder.head.labels == ("leisure", "work")
    _, other = encode(write_rule("other.csv", 100, seed=2))
    assert other.labels is not None
    predicted = answers("classification", predict(found.encoder, other, device=torch.device("cpu")))
    assert scores("csv", other.labels, predicted)["accuracy"] > 90


def test_values_of_a_regression_are_learnt(
    tiny_encoder: Encoder, bert_folder: Path, write_rule: WriteRule
) -> None:
    tokenizer = load_tokenizer(bert_folder)
    data, encoded = [], []
    for name, seed in (("train.csv", 0), ("dev.csv", 1)):
        path = write_rule(name, 320, seed=seed, labels=("0.5", "2"))
        data.append(read_examples("csv", path, regression=True))
        encoded.append(encode_examples(tokenizer, data[-1], sequence_length=16))
    found = run(tiny_encoder, (data[0], encoded[0]), encoded[1])
    assert max(found.epoch_scores) > 90
    values = answers("regression", predict(found.encoder, encoded[1], device=torch.device("cpu")))
    assert encoded[1].labels is not None
    assert np.abs(values - encoded[1].labels).mean() < 0.3


def test_the_same_settings_give_the_same_weights_and_another_seed_others(
    tiny_encoder: Encoder, encode: Encode, write_rule: WriteRule
) -> None:
    train = encode(write_rule("train.csv", 40))
    before = {name: value.copy() for name, value in tiny_encoder.weights.items()}
    first, second, other = (
        run(tiny_encoder, train, train[1], FinetuneSettings(epochs=1, batch_size=16, seed=seed))
        for seed in (0, 0, 1)
    )
    name = "encoder.layer.0.output.dense.weight"
    assert np.array_equal(first.encoder.weights[name], second.encoder.weights[name])
    assert not np.array_equal(first.encoder.weights[name], other.encoder.weights[name])
    assert all(np.array_equal(tiny_encoder.weights[name], before[name]) for name in before)


def test_the_first_of_the_best_epochs_is_kept(
    tiny_encoder: Encoder, encode: Encode, write_rule: WriteRule
) -> None:
    train = encode(write_rule("train.csv", 32))
    # So small a learning rate that no answer changes: all epochs are equally good.
    settings = FinetuneSettings(epochs=3, batch_size=16, learning_rate=1e-12)
    found = run(tiny_encoder, train, train[1], settings)
    assert len(set(found.epoch_scores)) == 1
    assert found.epoch == 1


def test_every_example_is_seen_once_an_epoch(
    tiny_encoder: Encoder, encode: Encode, write_rule: WriteRule
) -> None:
    train = encode(write_rule("train.csv", 37))
    reports: list[StepReport] = []
    settings = FinetuneSettings(epochs=2, batch_size=16)
    run(tiny_encoder, train, train[1], settings, reports.append)
    assert len(reports) == 2 * 3
    rates = [report.learning_rate for report in reports]
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_a_head_of_the_task_is_trained_further(
    tiny_encoder: Encoder, encode: Encode, write_rule: WriteRule
) -> None:
    train = encode(write_rule("train.csv", 320))
    learnt = run(tiny_encoder, train, train[1]).encoder
    nothing = FinetuneSettings(epochs=1, batch_size=64, learning_rate=1e-12)
    assert run(learnt, train, train[1], nothing).epoch_scores[0] > 90
    assert run(tiny_encoder, train, train[1], nothing).epoch_scores[0] < 90


def test_examples_without_labels_and_a_loss_that_explodes_are_refused(
    tiny_encoder: Encoder, encode: Encode, write_rule: WriteRule
) -> None:
    train = encode(write_rule("train.csv", 32))
    _, bare = encode(write_rule("bare.csv", 4, labels=("", "")))
    with pytest.raises(InputError, match="without labels"):
        run(tiny_encoder, train, bare)
    with pytest.raises(InputError, match="without a head"):
        predict(tiny_encoder, bare, device=torch.device("cpu"))
    with pytest.raises(WorkError, match="lower --learning-rate"):
        run(tiny_encoder, train, train[1], FinetuneSettings(learning_rate=1e30, batch_size=4))
