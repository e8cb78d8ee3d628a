"""Trains a SuperPLM, or a single encoder.

Every batch goes through the teacher once and then through several slices: the largest, so that
the whole stays sound, and others drawn uniformly from the space (several for one teacher pass, for
the teacher is a fifth of the work). Their gradients are averaged into one optimiser step.

A step may take several batches, in one process after another or in several processes at once, each
with slices of its own. Losses are divided by what all of them count together, so both come to the
same.

Nothing is drawn from a stateful generator: what a step sees follows from the seed and its number.
So with a number of steps given, a run that was stopped and resumed equals an unbroken one. With a
time given instead, the learning rate follows the clock.

`torchrun -m supernet.training` takes the options of `train-supernet`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from autotinybert.errors import InputError, WorkError
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.distributed import ALONE, Group
from supernet.learner import Learner
from supernet.objectives import Lesson, Objective
from supernet.space import Space

# Slices that every batch trains besides those that are drawn: the sandwich rule (Yu and Huang,
# 2019) takes the largest and the smallest.
Always = Literal["largest", "sandwich", "none"]
ALWAYS: tuple[Always, ...] = get_args(Always)

TrainingPrecision = Literal["fp32", "bf16"]
TRAINING_PRECISIONS: tuple[TrainingPrecision, ...] = get_args(TrainingPrecision)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a SuperPLM is trained.

    Attributes:
        steps: optimiser steps; None if `minutes` decides.
        minutes: time to train, pauses left out; None if `steps` decides.
        shapes_per_batch: slices of each batch, those that are always there included.
        always: which slices every batch trains.
        in_place: smaller slices learn from the largest slice's answer, not from the teacher's.
        batches_per_step: batches of an optimiser step in each process.
        learning_rate: the highest; it rises linearly, then falls linearly to 0.
        warmup_share: share of the training in which it rises.
        weight_decay: of matrices; biases and LayerNorms have none.
        clip_norm: the gradient's norm is cut to this.
        precision: `bf16` computes products in half the bits, with weights and sums in float32.
        seed: of shapes and batches.

    Raises:
        InputError: if a value makes no sense.
    """

    steps: int | None = None
    minutes: float | None = None
    shapes_per_batch: int = 4
    always: Always = "largest"
    in_place: bool = False
    batches_per_step: int = 1
    learning_rate: float = 1e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    precision: TrainingPrecision = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise InputError("say either how many steps or how many minutes to train")
        for name in (
            "steps", "minutes", "shapes_per_batch", "batches_per_step", "learning_rate", "clip_norm"
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name.replace('_', ' ')} must be above 0, not {value!r}")
        for name, choices in (("always", ALWAYS), ("precision", TRAINING_PRECISIONS)):
            if getattr(self, name) not in choices:
                raise InputError(f"no {name} {getattr(self, name)!r}: use {', '.join(choices)}")
        if self.in_place and self.always == "none":
            raise InputError(
                "in-place distillation needs the largest slice in every batch: leave out "
                "--always none"
            )

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
        largest_loss: of the first slice of each batch, which is the largest unless none is always
            there.
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
        learner: the SuperPLM and what stands on it.
        group: the processes that train it; in each of them it is the same.
        step: optimiser steps made.
        elapsed_s: time trained, pauses left out.
        updating: whether a step is being taken: what is interrupted then is between two states.
    """

    learner: Learner
    group: Group = ALONE
    step: int = 0
    elapsed_s: float = 0.0
    updating: bool = False

    def __post_init__(self) -> None:
        self.learner.to(self.group.device)
        groups: dict[bool, list[Tensor]] = {True: [], False: []}
        for name, parameter in self.learner.named_parameters():
            groups[not (name.endswith("bias") or "LayerNorm" in name)].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": group, "decays": decays} for decays, group in groups.items()], fused=True
        )
        self.parallel: nn.Module = self.learner
        if self.group.size > 1:
            # Slices leave parameters out, others in each process.
            self.parallel = DistributedDataParallel(self.learner, find_unused_parameters=True)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and the optimiser's moments, by name: what a checkpoint holds."""
        found: dict[str, Tensor] = {}
        for name, parameter in self.learner.named_parameters():
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
        device = self.group.device
        for name, parameter in self.learner.named_parameters():
            parameter.copy_(tensors[name])
            if step:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(step), device=device),
                    **{
                        moment: tensors[f"{moment}.{name}"].to(device, copy=True)
                        for moment in ("exp_avg", "exp_avg_sq")
                    },
                }
        self.step, self.elapsed_s = step, elapsed_s


def shapes_of_batch(
    space: Space, largest: Architecture, settings: TrainingSettings, number: int
) -> list[Architecture]:
    """The slices that a batch trains: those that are always there, then others drawn uniformly."""
    rng = np.random.default_rng([settings.seed, 1, number])
    always = {"none": [], "largest": [largest], "sandwich": [largest, space.corners()[0]]}
    kept = list(dict.fromkeys(always[settings.always]))[: settings.shapes_per_batch]
    count = min(settings.shapes_per_batch - len(kept), space.size)
    return [*kept, *space.sample(rng, count)] if count else kept


def train(
    state: TrainingState,
    objective: Objective,
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
        objective: what it learns.
        batch_of: a batch by its number, counted over all steps and processes; always the same.
        shapes_of: the slices that a batch trains, the largest first.
        settings: how long, and how.
        clock_s: reads seconds; the first process's counts.
        on_step: told after every step; a checkpoint may be saved there.

    Raises:
        WorkError: if the loss is no finite number any more.
    """
    group = state.group
    started_s = clock_s() - state.elapsed_s
    session_start_s, session_tokens, first_progress = clock_s(), 0.0, None
    while True:
        progress = settings.progress(state.step, state.elapsed_s)
        first_progress = progress if first_progress is None else first_progress
        if progress >= 1:
            return
        # The first step's learning rate would be 0 at the foot of the triangle.
        rate = settings.learning_rate_at(max(progress, settings.warmup_share / 20))
        done = _step(
            state, objective, _portions(state, settings, batch_of, shapes_of), settings, rate
        )
        state.step += 1
        state.updating = False
        state.elapsed_s = group.agree(clock_s() - started_s)
        session_tokens += done.tokens
        session_s = max(clock_s() - session_start_s, 1e-9)
        now = settings.progress(state.step, state.elapsed_s)
        pace = (now - first_progress) / session_s
        on_step(
            StepReport(
                step=state.step,
                elapsed_s=state.elapsed_s,
                remaining_s=(1 - now) / pace if pace > 0 else 0.0,
                learning_rate=rate,
                tokens_per_s=session_tokens / session_s,
                largest_loss=done.losses[0],
                sampled_loss=float(np.mean(done.losses[1:])) if len(done.losses) > 1 else None,
            )
        )


@dataclass(frozen=True)
class _Portion:
    """A batch of a step, and the slices that it trains."""

    number: int
    batch: Batch
    shapes: Sequence[Architecture]


@dataclass(frozen=True)
class _Done:
    """What a step did: the loss of each place among a batch's slices, and tokens times slices."""

    losses: list[float]
    tokens: float


def _portions(
    state: TrainingState,
    settings: TrainingSettings,
    batch_of: Callable[[int], Batch],
    shapes_of: Callable[[int], Sequence[Architecture]],
) -> list[_Portion]:
    """This process's batches of the next step: no two processes see the same."""
    each, group = settings.batches_per_step, state.group
    first = (state.step * group.size + group.rank) * each
    return [
        _Portion(number, batch_of(number).to(group.device), shapes_of(number))
        for number in range(first, first + each)
    ]


def _step(
    state: TrainingState,
    objective: Objective,
    portions: Sequence[_Portion],
    settings: TrainingSettings,
    learning_rate: float,
) -> _Done:
    """One optimiser step."""
    group, learner = state.group, state.learner
    with _precision(settings, group.device):
        lessons = [objective.lesson(portion.batch, portion.number) for portion in portions]
    counts = group.sum(sum((lesson.counts for lesson in lessons), torch.zeros(())))
    state.optimizer.zero_grad(set_to_none=True)
    slices = len(portions[0].shapes)
    sums = torch.zeros(slices, len(counts), dtype=torch.float64)
    for portion, lesson in zip(portions, lessons, strict=True):
        is_last = portion is portions[-1]
        sums += _learn(state, objective, portion.shapes, lesson, counts, settings, last=is_last)
    losses = (group.sum(sums).cpu() / counts.cpu()).sum(1).tolist()
    if not all(map(math.isfinite, losses)):
        raise WorkError(
            f"the loss is {losses} at step {state.step + 1}: try a lower --learning-rate"
        )
    nn.utils.clip_grad_norm_(learner.parameters(), settings.clip_norm)
    for parameters in state.optimizer.param_groups:
        parameters["lr"] = learning_rate
        parameters["weight_decay"] = settings.weight_decay if parameters["decays"] else 0.0
    state.updating = True  # until the step is counted
    state.optimizer.step()
    tokens = torch.tensor(
        [float(portion.batch.mask.sum()) * slices for portion in portions], dtype=torch.float64
    )
    return _Done(losses, float(group.sum(tokens.sum())))


def _learn(
    state: TrainingState,
    objective: Objective,
    shapes: Sequence[Architecture],
    lesson: Lesson,
    counts: Tensor,
    settings: TrainingSettings,
    *,
    last: bool,
) -> Tensor:
    """Adds the gradients of a batch's slices; returns the sums of their terms, `[slices, k]`.

    Among several processes, the last slice of the last batch carries the gradients across.
    """
    group, learner = state.group, state.learner
    embedding = learner.student.embeddings.word_embeddings
    words = learner.student.gather_words(lesson.batch.input_ids)
    # DistributedDataParallel averages over processes; these are parts of one sum.
    weight = group.size / (len(shapes) * counts.to(group.device))
    found = []
    for place, architecture in enumerate(shapes):
        across = group.size > 1 and last and place == len(shapes) - 1
        if across:
            words.push_gradient(embedding)
        quiet = contextlib.nullcontext() if across or group.size == 1 else state.parallel.no_sync()  # type: ignore[operator]
        with quiet, _precision(settings, group.device):
            sums, taught = state.parallel(
                objective,
                lesson,
                architecture,
                None if across else words,
                teaching=settings.in_place and place == 0,
            )
            (sums * weight).sum().backward()
        lesson = taught
        found.append(sums.detach().double().cpu())
    words.push_gradient(embedding)
    return torch.stack(found)


def _precision(
    settings: TrainingSettings, device: torch.device
) -> contextlib.AbstractContextManager[Any]:
    if settings.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


if __name__ == "__main__":
    from supernet.training_cli import train_supernet_main

    train_supernet_main()
