"""Fine-tunes an encoder on SQuAD, answers a file of questions with it, and scores the answers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotinybert.errors import InputError
from supernet.distributed import ALONE, Group
from supernet.encoder import Encoder
from supernet.learner import Learner
from supernet.tasks.span_decoding import (
    DecodingSettings,
    SquadAnswers,
    decode_spans,
    write_answers,
)
from supernet.tasks.span_finetuning import SpanTraining, predict_spans, span_learner, train_spans
from supernet.tasks.squad import SquadData, read_squad
from supernet.tasks.squad_features import FeatureSettings, asked_features, training_features
from supernet.tasks.squad_metrics import squad1_metrics, squad2_metrics
from supernet.tokenizer import special_ids, vocabulary_size
from supernet.training import StepReport

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class SquadSettings:
    """Everything that decides what comes of an encoder and the files of SQuAD, but the seed.

    Attributes:
        features: how questions become features.
        training: how the encoder learns.
        decoding: how answers are chosen.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    training: SpanTraining = field(default_factory=SpanTraining)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class SquadEvaluation:
    """What an encoder answers, and what that scores.

    Attributes:
        answers: to every question.
        metrics: those of the official script for the version of the file. For 2.0, `best_*` are
            of the answers given, as the script has them, and `answered_best_*` of those with the
            best answer to every question: their thresholds are what to set as null threshold.
    """

    answers: SquadAnswers
    metrics: dict[str, float]


def evaluate_squad(
    learner: Learner, tokenizer: Tokenizer, data: SquadData, settings: SquadSettings
) -> SquadEvaluation:
    """Answers the questions of a file and scores the answers.

    Args:
        learner: an encoder with a span head.
        tokenizer: its own, of `load_tokenizer`.
        data: the file.
        settings: of features and decoding.

    Raises:
        InputError: if the settings leave no room for a context.
        WorkError: if a logit is no finite number.
    """
    features = asked_features(data.questions, tokenizer, settings.features)
    logits = predict_spans(learner, features, pad_id=special_ids(tokenizer)["pad"])
    answers = decode_spans(
        data.questions,
        features,
        logits,
        settings.decoding,
        may_lack_answers=data.may_lack_answers,
    )
    return SquadEvaluation(answers, _metrics(data, answers))


def finetune_squad(
    encoder: Encoder,
    tokenizer: Tokenizer,
    train_path: Path,
    dev_path: Path,
    settings: SquadSettings,
    *,
    seed: int,
    out_folder: Path,
    clock_s: Callable[[], float],
    on_step: Callable[[StepReport], None] = lambda _: None,
    group: Group = ALONE,
) -> tuple[Encoder, dict[str, Any]]:
    """Fine-tunes an encoder on a file of SQuAD, answers another, and writes the official files.

    All input is read and checked before anything is trained, and nothing is written before the
    end. A span head that the encoder has already is trained further.

    Args:
        encoder: what is trained; it stays as it is.
        tokenizer: its own, of `load_tokenizer`.
        train_path: the file to learn from.
        dev_path: the file to answer.
        settings: how.
        seed: of the head and the order of the features.
        out_folder: gets the files of `write_answers`; it must be there.
        clock_s: reads seconds.
        on_step: told after every step.
        group: one process alone; its device computes.

    Returns:
        The encoder with its head, and what there is to report, as JSON values: `metrics`,
        `version` of the dev file, numbers of questions and features, `left_out_questions`
        whose answer is not in its context, `settings` and `seed`.

    Raises:
        InputError: if a file is malformed, or the settings or the tokenizer do not fit.
        WorkError: if the loss is no finite number any more.
    """
    if not out_folder.is_dir():
        raise InputError(f"no folder {out_folder}: make it, or name another")
    train_data, dev_data = read_squad(train_path), read_squad(dev_path)
    _check_fits(encoder, tokenizer, settings)
    features, left_out = training_features(train_data.questions, tokenizer, settings.features)
    learner = span_learner(encoder, seed)
    train_spans(
        learner,
        features,
        settings.training,
        pad_id=special_ids(tokenizer)["pad"],
        seed=seed,
        clock_s=clock_s,
        on_step=on_step,
        group=group,
    )
    evaluation = evaluate_squad(learner, tokenizer, dev_data, settings)
    write_answers(out_folder, evaluation.answers)
    return learner.encoder(), {
        "metrics": evaluation.metrics,
        "version": dev_data.version,
        "train_questions": len(train_data.questions),
        "train_features": len(features),
        "left_out_questions": left_out,
        "dev_questions": len(dev_data.questions),
        "settings": settings.to_json(),
        "seed": seed,
    }


def _check_fits(encoder: Encoder, tokenizer: Tokenizer, settings: SquadSettings) -> None:
    length, positions = settings.features.sequence_length, encoder.max_positions
    if length > positions:
        raise InputError(
            f"a sequence length of {length} is too long: the encoder has {positions} positions"
        )
    tokens = vocabulary_size(tokenizer)
    if tokens > encoder.vocab_size:
        raise InputError(
            f"the tokenizer has {tokens} tokens and the encoder {encoder.vocab_size}: give the "
            "encoder's own tokenizer"
        )


def _metrics(data: SquadData, answers: SquadAnswers) -> dict[str, float]:
    if answers.null_odds is None:
        return squad1_metrics(data.questions, answers.predictions)
    # The null threshold is in the predictions already.
    given, answered = (
        squad2_metrics(data.questions, predictions, answers.null_odds, null_threshold=math.inf)
        for predictions in (answers.predictions, answers.answered)
    )
    return given | {
        f"answered_{name}": value for name, value in answered.items() if name.startswith("best_")
    }
