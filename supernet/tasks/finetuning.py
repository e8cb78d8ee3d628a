"""Fine-tunes an encoder with a head on labelled examples.

AdamW with a learning rate that rises and falls linearly, as for BERT (Devlin et al., 2019, appendix
A.3). There is no dropout: the small encoders that this is for have been trained without it.

Shape letters: N number of examples, B batch size, n number of labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from autotinybert.errors import InputError
from supernet.batch import Batch
from supernet.distributed import ALONE, Group
from supernet.encoder import Encoder
from supernet.extraction import as_model
from supernet.learner import Learner
from supernet.model import EncoderOutput
from supernet.objectives import Lesson, ObjectiveSpec, in_full
from supernet.task_head import TaskHead
from supernet.tasks.encoding import EncodedExamples
from supernet.tasks.examples import TaskData
from supernet.tasks.finetune_grid import FinetuneSettings
from supernet.tasks.metrics import answers, primary_score
from supernet.training import StepReport, TrainingSettings, TrainingState, train

# Examples that are answered at once.
_ANSWERED_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Finetuned:
    """What a fine-tuning gives.

    Attributes:
        encoder: with its head, after the epoch that was kept.
        epoch: the first of those with the highest score, from 1.
        epoch_scores: the primary score on the dev examples after each epoch.
    """

    encoder: Encoder
    epoch: int
    epoch_scores: tuple[float, ...]


class LabelledObjective:
    """Learns labels: cross-entropy of classes, squared error of a regression's values.

    Args:
        labels_of: the labels `[B]` of a batch by its number.
    """

    spec = ObjectiveSpec(name="task")
    term_names: tuple[str, ...] = ("labels",)
    needs_scores = False
    needs_parts = False

    def __init__(self, labels_of: Callable[[int], Tensor]) -> None:
        self._labels_of = labels_of

    def lesson(self, batch: Batch, number: int) -> Lesson:
        """The labels of a batch."""
        labels = self._labels_of(number).to(batch.input_ids.device)
        return Lesson(batch, torch.tensor([float(len(labels))], dtype=torch.float64), labels)

    def sums(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> dict[str, Tensor]:
        """The sum of the batch's losses."""
        assert learner.task_head is not None
        logits = in_full(learner.task_head(output.last_hidden_state))
        if learner.task_head.kind == "regression":
            loss = F.mse_loss(logits[:, 0], lesson.targets.to(logits.dtype), reduction="sum")
        else:
            loss = F.cross_entropy(logits, lesson.targets, reduction="sum")
        return {"labels": loss}

    def taught_by(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> Lesson:
        """The same lesson: the labels are true for every slice."""
        del output, learner
        return lesson


def finetune(
    encoder: Encoder,
    data: TaskData,
    train_examples: EncodedExamples,
    dev_examples: EncodedExamples,
    settings: FinetuneSettings,
    *,
    clock_s: Callable[[], float],
    on_step: Callable[[StepReport], None] = lambda _: None,
    group: Group = ALONE,
) -> Finetuned:
    """Fine-tunes an encoder; the same settings give the same weights.

    A head that it has already is trained further, if its labels are the task's. After every epoch
    it is judged by the primary metric, and the best epoch is kept.

    Args:
        encoder: what is trained; it stays as it is.
        data: of the training file: task, kind and labels.
        train_examples: what is learnt from, with labels.
        dev_examples: what it is judged by, with labels.
        settings: how.
        clock_s: reads seconds.
        on_step: told after every step.
        group: one process alone; its device computes.

    Raises:
        InputError: if examples have no labels, or all have the same.
        WorkError: if the loss is no finite number any more.
    """
    batches = _Batches(train_examples, settings)
    dev_labels = _labels(dev_examples)
    learner = _learner(encoder, data, settings.seed)
    state = TrainingState(learner, group)
    epoch_scores: list[float] = []
    best = encoder

    def judge(report: StepReport) -> None:
        nonlocal best
        on_step(report)
        if report.step % batches.per_epoch:
            return
        found = answers(data.kind, _logits(learner, dev_examples, group.device))
        score = primary_score(data.task, dev_labels, found, labels=data.labels)
        if score > max(epoch_scores, default=-np.inf):
            best = learner.encoder()
        epoch_scores.append(score)

    train(
        state,
        LabelledObjective(batches.labels),
        batches.batch,
        lambda _: [encoder.architecture],
        training_settings(settings, len(train_examples)),
        clock_s=clock_s,
        on_step=judge,
    )
    return Finetuned(best, int(np.argmax(epoch_scores)) + 1, tuple(epoch_scores))


def training_settings(settings: FinetuneSettings, examples: int) -> TrainingSettings:
    """The same for so many examples, as training takes them."""
    return TrainingSettings(
        steps=settings.epochs * settings.steps_per_epoch(examples),
        shapes_per_batch=1,
        learning_rate=settings.learning_rate,
        warmup_share=settings.warmup_share,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        seed=settings.seed,
    )


def predict(
    encoder: Encoder, examples: EncodedExamples, *, device: torch.device
) -> npt.NDArray[np.float32]:
    """The logits `[N, n]` of an encoder with a head.

    Raises:
        InputError: if it has none.
    """
    if encoder.head is None:
        raise InputError("an encoder without a head answers nothing: fine-tune it first")
    learner = Learner(as_model(encoder), task_head=TaskHead.from_head(encoder.head)).to(device)
    return _logits(learner, examples, device)


@torch.no_grad()
def _logits(
    learner: Learner, examples: EncodedExamples, device: torch.device
) -> npt.NDArray[np.float32]:
    """The logits `[N, n]`; examples of similar lengths are run together."""
    assert learner.task_head is not None
    found = np.zeros((len(examples), len(learner.task_head.labels)), dtype=np.float32)
    order = np.argsort(examples.lengths, kind="stable")
    for start in range(0, len(order), _ANSWERED_AT_ONCE):
        indices = order[start : start + _ANSWERED_AT_ONCE]
        output = learner.student(*_batch(examples, indices).to(device))
        found[indices] = learner.task_head(output.last_hidden_state).float().cpu().numpy()
    return found


class _Batches:
    """Batches by their number over all epochs; every epoch has an order of its own."""

    def __init__(self, examples: EncodedExamples, settings: FinetuneSettings) -> None:
        self._examples, self._settings = examples, settings
        self._labels = _labels(examples)
        self.per_epoch = settings.steps_per_epoch(len(examples))
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def batch(self, number: int) -> Batch:
        return _batch(self._examples, self._indices(number))

    def labels(self, number: int) -> Tensor:
        return torch.from_numpy(self._labels[self._indices(number)])

    def _indices(self, number: int) -> npt.NDArray[np.int64]:
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self._settings.seed, 2, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self._examples))
        size = self._settings.batch_size
        return self._order[place * size : (place + 1) * size]


def _batch(examples: EncodedExamples, indices: npt.NDArray[np.int64]) -> Batch:
    found = examples.batch(indices)
    return Batch(
        torch.from_numpy(found.input_ids),
        torch.from_numpy(found.attention_mask),
        torch.from_numpy(found.token_type_ids),
    )


def _labels(examples: EncodedExamples) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    if examples.labels is None:
        raise InputError("examples without labels can be answered, but not learnt from or judged")
    return examples.labels


def _learner(encoder: Encoder, data: TaskData, seed: int) -> Learner:
    """A learner of its own, with the encoder's head or a new one."""
    head = encoder.head
    if head is not None and head.kind == data.kind and head.labels == data.labels:
        return Learner(as_model(encoder), task_head=TaskHead.from_head(head))
    new = TaskHead(data.kind, encoder.architecture.hidden_size, data.labels)
    new.initialise(torch.Generator().manual_seed(seed))
    return Learner(as_model(encoder), task_head=new)
