"""Trains an encoder with a span head to point at answers, and asks it.

The loss is the cross-entropy of the answer's first and last token among those of its feature, "no
answer" being the first token of all (Devlin et al., 2019). There is no dropout: the small encoders
that this is for have been trained without it.

Shape letters: N number of features, B batch size, S sequence length.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from autotinybert.errors import InputError, WorkError
from supernet.batch import Batch
from supernet.distributed import ALONE, Group
from supernet.encoder import Encoder
from supernet.extraction import as_model
from supernet.heads import SPAN_LABELS
from supernet.learner import Learner
from supernet.model import EncoderOutput
from supernet.objectives import Lesson, ObjectiveSpec, in_full
from supernet.task_head import TaskHead
from supernet.tasks.span_decoding import FloatArray
from supernet.tasks.squad_features import SpanFeature
from supernet.training import StepReport, TrainingSettings, TrainingState, train

# Features that are answered at once.
_ANSWERED_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class SpanTraining:
    """How an encoder learns spans.

    Attributes:
        epochs: passes over the features.
        batch_size: features of a step.
        learning_rate: the highest; it rises linearly, then falls linearly to 0.
        warmup_share: share of the training in which it rises.
        weight_decay: of matrices; biases and LayerNorms have none.
        clip_norm: the gradient's norm is cut to this.

    Raises:
        InputError: if a value makes no sense.
    """

    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 5e-5
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name.replace('_', ' ')} must be above 0, not {value!r}")
        if not 0 <= self.warmup_share < 1:
            raise InputError(f"warmup share must be from 0 to below 1, not {self.warmup_share!r}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError(f"weight decay must be 0 or more, not {self.weight_decay!r}")


class SpanObjective:
    """Learns where answers begin and end.

    Args:
        places_of: the places of the first and the last token, int64 `[B, 2]`, of a batch by its
            number.
    """

    spec = ObjectiveSpec(name="task")
    term_names: tuple[str, ...] = ("spans",)
    needs_scores = False
    needs_parts = False

    def __init__(self, places_of: Callable[[int], Tensor]) -> None:
        self._places_of = places_of

    def lesson(self, batch: Batch, number: int) -> Lesson:
        """The places of a batch's answers."""
        places = self._places_of(number).to(batch.input_ids.device)
        # A start and an end for each feature: the mean is over both.
        return Lesson(batch, torch.tensor([float(places.numel())], dtype=torch.float64), places)

    def sums(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> dict[str, Tensor]:
        """The sum of the losses of starts and ends."""
        assert learner.task_head is not None
        logits = in_full(learner.task_head(output.last_hidden_state))
        logits = logits.masked_fill(lesson.batch.mask[:, :, None] == 0, float("-inf"))
        return {"spans": F.cross_entropy(logits, lesson.targets, reduction="sum")}

    def taught_by(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> Lesson:
        """The same lesson: the places are true for every slice."""
        del output, learner
        return lesson


def span_learner(encoder: Encoder, seed: int) -> Learner:
    """An encoder to be trained, with its span head, or a new one if it has none."""
    head = encoder.head
    if head is not None and head.kind == "span":
        return Learner(as_model(encoder), task_head=TaskHead.from_head(head))
    new = TaskHead("span", encoder.architecture.hidden_size, SPAN_LABELS)
    new.initialise(torch.Generator().manual_seed(seed))
    return Learner(as_model(encoder), task_head=new)


def train_spans(
    learner: Learner,
    features: Sequence[SpanFeature],
    settings: SpanTraining,
    *,
    pad_id: int,
    seed: int,
    clock_s: Callable[[], float],
    on_step: Callable[[StepReport], None] = lambda _: None,
    group: Group = ALONE,
) -> None:
    """Trains an encoder with a span head in place; the same values give the same weights.

    Args:
        learner: of `span_learner`.
        features: of `training_features`.
        settings: how.
        pad_id: what fills sequences up.
        seed: of the order of the features.
        clock_s: reads seconds.
        on_step: told after every step.
        group: one process alone; its device computes.

    Raises:
        WorkError: if the loss is no finite number any more.
    """
    per_epoch = math.ceil(len(features) / settings.batch_size)
    places = torch.tensor([(feature.start, feature.end) for feature in features])

    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([seed, 2, epoch]).permutation(len(features))

    def indices(number: int) -> npt.NDArray[np.int64]:
        epoch, place = divmod(number, per_epoch)
        return order(epoch)[place * settings.batch_size : (place + 1) * settings.batch_size]

    train(
        TrainingState(learner, group),
        SpanObjective(lambda number: places[indices(number)]),
        lambda number: _batch([features[index] for index in indices(number)], pad_id),
        lambda _: [learner.student.config.largest],
        TrainingSettings(
            steps=settings.epochs * per_epoch,
            shapes_per_batch=1,
            learning_rate=settings.learning_rate,
            warmup_share=settings.warmup_share,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            seed=seed,
        ),
        clock_s=clock_s,
        on_step=on_step,
    )


@torch.no_grad()
def predict_spans(
    learner: Learner, features: Sequence[SpanFeature], *, pad_id: int
) -> list[FloatArray]:
    """The logits of starts and ends, `[S, 2]` for each feature.

    Features of similar lengths are run together.

    Raises:
        WorkError: if one is no finite number.
    """
    assert learner.task_head is not None
    device = next(learner.parameters()).device
    found: list[FloatArray] = [np.zeros((0, 2), dtype=np.float32) for _ in features]
    lengths = [len(feature.input_ids) for feature in features]
    order = np.argsort(lengths, kind="stable").tolist()
    for start in range(0, len(order), _ANSWERED_AT_ONCE):
        indices = order[start : start + _ANSWERED_AT_ONCE]
        batch = _batch([features[index] for index in indices], pad_id).to(device)
        output = learner.student(*batch)
        logits = learner.task_head(output.last_hidden_state).float().cpu().numpy()
        if not np.isfinite(logits).all():
            raise WorkError("the encoder's logits are not finite: train it again")
        for index, values in zip(indices, logits, strict=True):
            found[index] = values[: lengths[index]].copy()
    return found


def _batch(features: Sequence[SpanFeature], pad_id: int) -> Batch:
    """Features padded to the longest of them."""
    lengths = np.array([len(feature.input_ids) for feature in features])
    places = np.arange(lengths.max())
    input_ids = np.full((len(features), len(places)), pad_id, dtype=np.int64)
    for row, feature in zip(input_ids, features, strict=True):
        row[: len(feature.input_ids)] = feature.input_ids
    mask = places < lengths[:, None]
    second = np.array([feature.second_segment for feature in features])
    types = mask & (places >= second[:, None])
    return Batch(
        torch.from_numpy(input_ids),
        torch.from_numpy(mask.astype(np.int64)),
        torch.from_numpy(types.astype(np.int64)),
    )
