"""A tiny encoder learns to point at a marker word, through the official files and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from autotinybert.errors import InputError, WorkError
from supernet.architecture import Architecture
from supernet.encoder import Encoder
from supernet.extraction import extract
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.tasks.span_decoding import DecodingSettings
from supernet.tasks.span_finetuning import (
    SpanTraining,
    predict_spans,
    span_learner,
    train_spans,
)
from supernet.tasks.squad import read_squad
from supernet.tasks.squad_features import FeatureSettings, SpanFeature
from supernet.tasks.squad_finetuning import (
    SquadSettings,
    evaluate_squad,
    finetune_squad,
)
from supernet.tasks.squad_metrics import squad1_metrics, squad2_metrics
from supernet.tokenizer import load_tokenizer

MARKERS = ["red", "blue", "green"]
FILLERS = [f"w{number}" for number in range(12)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "which", "?", *MARKERS, *FILLERS]

# Contexts of 14 words do not fit beside a question of 2 and 3 special tokens.
SETTINGS = SquadSettings(
    features=FeatureSettings(sequence_length=16, doc_stride=5, max_query_length=4),
    training=SpanTraining(epochs=6, batch_size=16, learning_rate=3e-3),
    decoding=DecodingSettings(n_best_size=3, max_answer_length=4),
)


def no_clock_s() -> float:
    return 0.0


def squad_document(count: int, seed: int, *, without: bool = False) -> dict[str, Any]:
    """Contexts with one marker each, which is the answer; every third has none if asked for."""
    rng = np.random.default_rng(seed)
    paragraphs = []
    for number in range(count):
        words = rng.choice(FILLERS, 14).tolist()
        answers = []
        if not (without and number % 3 == 0):
            place, marker = int(rng.integers(14)), str(rng.choice(MARKERS))
            words[place] = marker
            answers = [{"text": marker, "answer_start": len(" ".join([*words[:place], ""]))}]
        qa: dict[str, Any] = {"id": f"q{number}", "question": "which?", "answers": answers}
        if without:
            qa["is_impossible"] = not answers
        paragraphs.append({"context": " ".join(words), "qas": [qa]})
    return {"version": "v2.0" if without else "1.1", "data": [{"paragraphs": paragraphs}]}


@pytest.fixture
def tokenizer(make_bert_folder: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(make_bert_folder(tokens=VOCABULARY))


@pytest.fixture
def encoder() -> Encoder:
    architecture = Architecture(1, 32, 64, 2, 32)
    model = SuperPLM(
        SuperPLMConfig(largest=architecture, vocab_size=len(VOCABULARY), max_positions=24)
    )
    model.initialise(torch.Generator().manual_seed(0), 0.1)
    return extract(model, architecture)


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def make(train: int = 200, dev: int = 60, *, without: bool = False) -> tuple[Path, Path]:
        paths = tmp_path / "train.json", tmp_path / "dev.json"
        for seed, (path, count) in enumerate(zip(paths, (train, dev), strict=True)):
            path.write_text(json.dumps(squad_document(count, seed, without=without)))
        return paths

    return make


@pytest.fixture
def out_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_an_encoder_learns_to_point_at_a_marker_and_its_files_score_what_it_reports(
    encoder: Encoder,
    tokenizer: Tokenizer,
    files: Callable[..., tuple[Path, Path]],
    out_folder: Path,
) -> None:
    train_path, dev_path = files()
    found, results = finetune_squad(
        encoder,
        tokenizer,
        train_path,
        dev_path,
        SETTINGS,
        seed=0,
        out_folder=out_folder,
        clock_s=no_clock_s,
    )
    assert results["metrics"]["exact_match"] > 90
    assert results["train_features"] > 200  # contexts did not fit
    assert results["left_out_questions"] == 0
    predictions = json.loads((out_folder / "predictions.json").read_text())
    data = read_squad(dev_path)
    assert squad1_metrics(data.questions, predictions) == results["metrics"]
    assert json.dumps(results)
    assert found.head is not None
    assert encoder.head is None
    # What comes back is what was judged.
    again = evaluate_squad(span_learner(found, 1), tokenizer, data, SETTINGS)
    assert again.answers.predictions == predictions


def test_an_encoder_learns_when_there_is_no_answer(
    encoder: Encoder,
    tokenizer: Tokenizer,
    files: Callable[..., tuple[Path, Path]],
    out_folder: Path,
) -> None:
    train_path, dev_path = files(without=True)
    _, results = finetune_squad(
        encoder,
        tokenizer,
        train_path,
        dev_path,
        SETTINGS,
        seed=0,
        out_folder=out_folder,
        clock_s=no_clock_s,
    )
    metrics = results["metrics"]
    assert metrics["HasAns_exact"] > 90
    assert metrics["NoAns_exact"] > 90
    assert metrics["answered_best_exact"] >= metrics["exact"]
    predictions, odds = (
        json.loads((out_folder / name).read_text())
        for name in ("predictions.json", "null_odds.json")
    )
    # The official script without odds, and the best thresholds that it finds with them.
    questions = read_squad(dev_path).questions
    official = squad2_metrics(questions, predictions)
    assert official.items() <= metrics.items()
    with_odds = squad2_metrics(questions, predictions, odds)
    best = {name: value for name, value in with_odds.items() if name.startswith("best_")}
    assert best.items() <= metrics.items()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    encoder: Encoder,
    tokenizer: Tokenizer,
    files: Callable[..., tuple[Path, Path]],
    out_folder: Path,
) -> None:
    train_path, dev_path = files(20, 5)
    one_epoch = SquadSettings(features=SETTINGS.features, training=SpanTraining(epochs=1))

    def weights(seed: int) -> np.ndarray[Any, Any]:
        found, _ = finetune_squad(
            encoder,
            tokenizer,
            train_path,
            dev_path,
            one_epoch,
            seed=seed,
            out_folder=out_folder,
            clock_s=no_clock_s,
        )
        assert found.head is not None
        return found.head.weights["qa_outputs.weight"]

    first = weights(3)
    assert np.array_equal(first, weights(3))
    assert not np.array_equal(first, weights(4))


def feature(length: int, start: int = 0, end: int = 0) -> SpanFeature:
    return SpanFeature(
        question=0,
        input_ids=np.arange(2, 2 + length, dtype=np.int32),
        second_segment=2,
        context_place=2,
        offsets=np.zeros((length - 3, 2), dtype=np.int32),
        is_max_context=np.ones(length - 3, dtype=np.bool_),
        start=start,
        end=end,
    )


def test_logits_come_in_the_order_of_the_features_and_padding_changes_none(
    encoder: Encoder,
) -> None:
    learner = span_learner(encoder, 0)
    features = [feature(9), feature(4), feature(12)]
    together = predict_spans(learner, features, pad_id=0)
    assert [len(found) for found in together] == [9, 4, 12]
    for found, alone in zip(together, features, strict=True):
        (expected,) = predict_spans(learner, [alone], pad_id=0)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_head_that_is_there_is_trained_further(encoder: Encoder) -> None:
    learner = span_learner(encoder, 7)
    with_head = learner.encoder()
    again = span_learner(with_head, 8).encoder()
    assert with_head.head is not None
    assert again.head is not None
    assert np.array_equal(
        with_head.head.weights["qa_outputs.weight"], again.head.weights["qa_outputs.weight"]
    )


def test_the_first_loss_is_that_of_guessing_among_the_tokens_of_each_feature(
    encoder: Encoder,
) -> None:
    learner = span_learner(encoder, 0)
    assert learner.task_head is not None
    with torch.no_grad():
        for parameter in learner.task_head.parameters():
            parameter.zero_()
    losses: list[float] = []
    train_spans(
        learner,
        [feature(4, 2, 2), feature(12, 5, 8)],
        SpanTraining(epochs=1),
        pad_id=0,
        seed=0,
        clock_s=no_clock_s,
        on_step=lambda report: losses.append(report.largest_loss),
    )
    assert losses == [pytest.approx((np.log(4) + np.log(12)) / 2)]  # padding is no choice


def test_logits_that_are_not_finite_are_an_error(encoder: Encoder) -> None:
    learner = span_learner(encoder, 0)
    assert learner.task_head is not None
    with torch.no_grad():
        for parameter in learner.task_head.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(WorkError, match="logits are not finite"):
        predict_spans(learner, [feature(5)], pad_id=0)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"epochs": 0}, "epochs must be above 0, not 0"),
        ({"learning_rate": float("nan")}, "learning rate must be above 0, not nan"),
        ({"warmup_share": 1.0}, "warmup share must be from 0 to below 1, not 1.0"),
        ({"weight_decay": -1.0}, "weight decay must be 0 or more, not -1.0"),
    ],
)
def test_training_refuses_values_that_make_no_sense(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        SpanTraining(**values)


@pytest.mark.parametrize("which", ["train", "dev", "length", "tokenizer", "folder"])
def test_what_does_not_fit_is_refused_before_anything_is_written(
    which: str,
    encoder: Encoder,
    tokenizer: Tokenizer,
    files: Callable[..., tuple[Path, Path]],
    out_folder: Path,
) -> None:
    train_path, dev_path = files(2, 2)
    settings, told = SETTINGS, f"{which}.json is no file of SQuAD"
    if which in ("train", "dev"):
        {"train": train_path, "dev": dev_path}[which].write_text('{"data": {}}')
    elif which == "length":
        settings, told = SquadSettings(), "length of 384 is too long: the encoder has 24 positions"
    elif which == "tokenizer":
        tokenizer.add_tokens(["more"])
        told = "the tokenizer has 23 tokens and the encoder 22"
    else:
        out_folder.rmdir()
        told = "no folder .*out: make it"
    with pytest.raises(InputError, match=told):
        finetune_squad(
            encoder,
            tokenizer,
            train_path,
            dev_path,
            settings,
            seed=0,
            out_folder=out_folder,
            clock_s=no_clock_s,
        )
    assert not out_folder.exists() or list(out_folder.iterdir()) == []
