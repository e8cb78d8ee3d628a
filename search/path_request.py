"""What a whole path is asked for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.constraints import Budget
from supernet.architecture import Architecture
from supernet.objectives import ObjectiveName


@dataclass(frozen=True, kw_only=True)
class PathRequest:
    """Everything that decides the whole path.

    Attributes:
        teacher: as typed: a folder, or the demo's name.
        largest: the teacher's shape.
        target: what is profiled.
        budget: what the model must meet.
        corpus: what is trained on; nothing else where there is a task.
        task: a classifier's task, by the name of its files' format; None for an encoder alone.
        train: its texts.
        dev: its labelled texts to score on.
        max_score_drop: points of its score that the fastest model may lose, instead of a budget.
        space: what is searched.
        profile: a finished profile of this machine to use instead of measuring one, or None.
        configs: shapes to profile.
        sequence_length: of the workload.
        batch_size: of the workload.
        threads: of the target.
        precision: of the target: what is profiled, searched under, exported and verified.
        graph_variant: of the target, or `auto`: the fastest, by measurement.
        training_sequence_length: most tokens of a training sequence; None with a ready corpus.
        max_megabytes: of text, or None for the default.
        supernet_minutes: time to train the SuperPLM.
        train_minutes: time to train the winner.
        method: of the search.
        evaluations: of the search.
        shortlist: how many of the best are measured.
        tries: how many candidates may be verified.
        max_wait: seconds that a verification may wait for a quiet machine.
        seed: of everything.
    """

    teacher: str
    largest: Architecture
    target: str
    budget: Budget
    corpus: str
    task: str | None
    train: Path | None
    dev: Path | None
    max_score_drop: float | None
    space: str
    profile: Path | None
    configs: int
    sequence_length: int
    batch_size: int
    threads: int
    precision: str
    graph_variant: str
    training_sequence_length: int | None
    max_megabytes: float | None
    supernet_minutes: float
    train_minutes: float
    method: str
    evaluations: int
    shortlist: int
    tries: int
    max_wait: float
    seed: int

    @property
    def teacher_name(self) -> str:
        """What a card calls the teacher: never a path of somebody's machine."""
        return Path(self.teacher).name

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **values,
            "largest": str(self.largest),
            "budget": self.budget.to_json(),
            **{
                name: None if values[name] is None else str(values[name])
                for name in ("profile", "train", "dev")
            },
        }

    @property
    def objective(self) -> ObjectiveName:
        """What the SuperPLM learns."""
        return "kd" if self.task is None else "task"

    def task_options(self) -> dict[str, Any]:
        """The options that name a task's files."""
        return {"task": self.task, "train": self.train, "dev": self.dev}

    def workload_options(self) -> dict[str, Any]:
        """The options that choose one workload and target of a profile."""
        return {
            "sequence_length": self.sequence_length,
            "batch_size": self.batch_size,
            "threads": self.threads,
        }

    def budget_options(self) -> dict[str, Any]:
        """The budget as options."""
        budget = self.budget
        latency = None if budget.max_latency_ms is None else f"{budget.max_latency_ms:.12g}ms"
        options: dict[str, Any] = {"max_latency": latency, "speedup": budget.min_speedup}
        if budget.min_speedup is not None:
            options["speedup_reference"] = str(budget.speedup_reference)
        return {**options, "budget_statistic": budget.statistic}

    def command_options(self) -> dict[str, Any]:
        """Every option of `autotinybert` but `--out`, as it would be typed."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("largest", "budget"):
            del values[name]
        budget = self.budget_options()
        if self.max_score_drop is not None:  # the speed-up is what was found
            budget = {"budget_statistic": budget["budget_statistic"]}
        return {**values, **budget}
