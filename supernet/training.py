"""Trains a SuperPLM, or a single encoder, by distillation.

Every batch goes through the teacher once and then through several slices: the largest, so that
the whole stays sound, and others drawn uniformly from the space (several for one teacher pass, for
the teacher is a fifth of the work). Their gradients are averaged into one optimiser step.

Nothing is drawn from a stateful generator: what a step sees follows from the seed and its number.
So with a number of steps given, a run that was stopped and resumed equals an unbroken one. With a
time given instead, the learning rate follows the clock.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autotinybert.errors import InputError, WorkError
from supernet.architecture import Architecture
from supernet.model import SuperPLM
from supernet.objectives import TeacherVariance, distillation_loss, teacher_signals
from supernet.space import Space

# Input ids and attention mask, int64 `[B, S]` each.
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a SuperPLM is trained.

    Attributes:
        steps: optimiser steps; None if `minutes` decides.
        minutes: time to train, pauses left out; None if `steps` decides.
        shapes_per_batch: slices of each batch, the largest included.
        learning_rate: the highest; it rises linearly, then falls linearly to 0.
        warmup_share: share of the training in which it rises.
        weight_decay: of matrices; biases and LayerNorms have none.
        clip_norm: the gradient's norm is cut to this.
        seed: of shapes and batches.

    Raises:
        InputError: if a value makes no sense.
    """

    steps: int | None = None
    minutes: float | None = None
    shapes_per_batch: int = 4
    learning_rate: float = 1e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise InputError("say either how many steps or how many minutes to train")
        for name in ("steps", "minutes", "shapes_per_batch", "learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name.replace('_', ' ')} must be above 0, not {value!r}")

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)

    def progress(self, step: int, elapsed_s: float) -> float:
        """How much of the training is done, from 0 to 1."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.minutes is not None
        return min(elapsed_s / (60 * self.minutes), 1.0)

    def learning_rate_at(self, progress: float) -> float:
        """The learning rate at a share of the training: a triangle."""
        rising = progress / self.warmup_share if self.warmup_share else 1.0
        falling = (1 - progress) / (1 - self.warmup_share)
        return self.learning_rate * max(min(rising, falling), 0.0)


@dataclass(frozen=True)
class StepReport:
    """What a step did.

    Attributes:
        step: its number, from 1.
        elapsed_s: training so far, pauses left out.
        remaining_s: a guess at the time left.
        learning_rate: it was taken with.
        tokens_per_s: tokens, padding left out, times slices, per second of this session.
        largest_loss: of the largest slice.
        sampled_loss: mean of the others; None if there were none.
    """

    step: int
    elapsed_s: float
    remaining_s: float
    learning_rate: float
    tokens_per_s: float
    largest_loss: float
    sampled_loss: float | None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)


@dataclass
class TrainingState:
    """Everything that training changes.

    Attributes:
        student: the SuperPLM.
        projection: from its hidden size to the teacher's.
        step: optimiser steps made.
        elapsed_s: time trained, pauses left out.
        updating: whether a step is being taken: what is interrupted then is between two states.
    """

    student: SuperPLM
    projection: nn.Linear
    step: int = 0
    elapsed_s: float = 0.0
    updating: bool = False

    def __post_init__(self) -> None:
        groups: dict[bool, list[Tensor]] = {True: [], False: []}
        for name, parameter in self._parameters():
            groups[not (name.endswith("bias") or "LayerNorm" in name)].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": group, "decays": decays} for decays, group in groups.items()], fused=True
        )

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.student.named_parameters():
            yield f"student.{name}", parameter
        for name, parameter in self.projection.named_parameters():
            yield f"projection.{name}", parameter

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and the optimiser's moments, by name: what a checkpoint holds."""
        found: dict[str, Tensor] = {}
        for name, parameter in self._parameters():
            found[name] = parameter.detach()
            for moment in ("exp_avg", "exp_avg_sq"):
                state = self.optimizer.state.get(parameter, {})
                if moment in state:
                    found[f"{moment}.{name}"] = state[moment]
        return found

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], step: int, elapsed_s: float) -> None:
        """Goes back to what a checkpoint holds.

        Raises:
            KeyError: if a tensor is missing.
            RuntimeError: if one has another shape.
        """
        for name, parameter in self._parameters():
            parameter.copy_(tensors[name])
            if step:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    **{m: tensors[f"{m}.{name}"].clone() for m in ("exp_avg", "exp_avg_sq")},
                }
        self.step, self.elapsed_s = step, elapsed_s


def shapes_of_step(
    space: Space, largest: Architecture, settings: TrainingSettings, step: int
) -> list[Architecture]:
    """The slices that a step trains: the largest, then others drawn uniformly."""
    rng = np.random.default_rng([settings.seed, 1, step])
    count = min(settings.shapes_per_batch - 1, space.size)
    return [largest, *space.sample(rng, count)]


def train(
    state: TrainingState,
    teacher: SuperPLM,
    variance: TeacherVariance,
    batch_of: Callable[[int], Batch],
    shapes_of: Callable[[int], Sequence[Architecture]],
    settings: TrainingSettings,
    *,
    clock_s: Callable[[], float],
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> None:
    """Trains until the settings say that it is done.

    Args:
        state: what is trained; goes on from `state.step`.
        teacher: frozen.
        variance: the unit of each loss term.
        batch_of: the batch of a step; always the same for the same step.
        shapes_of: the slices that a step trains, the largest first.
        settings: how long, and how.
        clock_s: reads seconds.
        on_step: told after every step; a checkpoint may be saved there.

    Raises:
        WorkError: if the loss is no finite number any more.
    """
    started_s = clock_s() - state.elapsed_s
    session_start_s, session_tokens, first_progress = clock_s(), 0, None
    while True:
        progress = settings.progress(state.step, state.elapsed_s)
        first_progress = progress if first_progress is None else first_progress
        if progress >= 1:
            return
        # The first step's learning rate would be 0 at the foot of the triangle.
        rate = settings.learning_rate_at(max(progress, settings.warmup_share / 20))
        batch, shapes = batch_of(state.step), shapes_of(state.step)
        losses = _step(state, teacher, variance, batch, shapes, settings, rate)
        state.step += 1
        state.updating = False
        state.elapsed_s = clock_s() - started_s
        session_tokens += int(batch[1].sum()) * len(shapes)
        session_s = max(clock_s() - session_start_s, 1e-9)
        done = settings.progress(state.step, state.elapsed_s)
        pace = (done - first_progress) / session_s
        on_step(
            StepReport(
                step=state.step,
                elapsed_s=state.elapsed_s,
                remaining_s=(1 - done) / pace if pace > 0 else 0.0,
                learning_rate=rate,
                tokens_per_s=session_tokens / session_s,
                largest_loss=losses[0],
                sampled_loss=float(np.mean(losses[1:])) if len(losses) > 1 else None,
            )
        )


def _step(
    state: TrainingState,
    teacher: SuperPLM,
    variance: TeacherVariance,
    batch: Batch,
    shapes: Sequence[Architecture],
    settings: TrainingSettings,
    learning_rate: float,
) -> list[float]:
    """One optimiser step; returns the loss of each slice."""
    input_ids, mask = batch
    student, projection = state.student, state.projection
    signals = teacher_signals(teacher, input_ids, mask)
    words = student.gather_words(input_ids)
    state.optimizer.zero_grad(set_to_none=True)
    losses = []
    for architecture in shapes:
        output = student(input_ids, mask, architecture=architecture, with_scores=True, words=words)
        loss = distillation_loss(output, projection, signals, variance).total
        (loss / len(shapes)).backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
    if not all(map(math.isfinite, losses)):
        raise WorkError(
            f"the loss is {losses} at step {state.step + 1}: try a lower --learning-rate"
        )
    words.push_gradient(student.embeddings.word_embeddings)
    parameters = [*student.parameters(), *projection.parameters()]
    nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
        group["weight_decay"] = settings.weight_decay if group["decays"] else 0.0
    state.updating = True  # until the step is counted
    state.optimizer.step()
    return losses
