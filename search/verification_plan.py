"""What a verification measures, beside what, how often, and under which workload and target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from autotinybert.errors import InputError
from device_profiles.machine import key_differences, key_hash, measurement_key, refuse_emulated
from device_profiles.measurements import (
    SLICE_DEFAULTS,
    Slice,
    describe_slice,
    rows_of_slice,
    slice_of,
)
from device_profiles.profile import DeviceProfile
from device_profiles.protocol import Protocol
from device_profiles.target import Configuration, Target, Workload
from predictor.model import STATISTIC_COLUMNS
from search.constraints import Budget, name_of
from search.exported_model import ExportedModel
from supernet.architecture import Architecture
from supernet.variants import GraphVariant, Precision

# The name under which the file itself is journalled; references have their architecture's id.
CANDIDATE = "candidate"

# Rounds that a try may make for each one that is to count.
_ROUNDS_PER_COUNTED = 2


@dataclass(frozen=True)
class Reference:
    """A shape that is measured beside the file.

    Attributes:
        name: what people call it.
        architecture: its shape.
        profile_ms: what the profile says, by statistic; None where it does not.
    """

    name: str
    architecture: Architecture
    profile_ms: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class VerificationPlan:
    """Everything that decides a verification.

    Attributes:
        model: the exported file.
        budget: what it must meet.
        workload: what one run processes.
        target: how it is run.
        protocol: the profile's.
        references: what is measured beside it, in every round.
        key: the profile's measurement key.
        seed: decides the order of the visits in each round.
    """

    model: ExportedModel
    budget: Budget
    workload: Workload
    target: Target
    protocol: Protocol
    references: tuple[Reference, ...]
    key: Mapping[str, Any]
    seed: int = 0

    @classmethod
    def make(
        cls,
        model: ExportedModel,
        profile: DeviceProfile,
        budget: Budget,
        *,
        workload: Workload,
        target: Target,
        seed: int = 0,
    ) -> Self:
        """Plans the verification of a file against a profile.

        Raises:
            InputError: if the profile was made under an emulator, or the budget is a latency and
                there is no reference to tell the state of the machine by.
        """
        refuse_emulated(profile.key, profile.folder)
        wanted = slice_of(Configuration(model.architecture, workload, target))
        rows = rows_of_slice(profile.references, wanted)
        references = {
            Architecture.parse(row["model_id"]): {
                statistic: row[column] for statistic, column in STATISTIC_COLUMNS.items()
            }
            for row in rows
        }
        known = any(statistics["quiet"] is not None for statistics in references.values())
        if budget.min_speedup is None and not known:
            raise InputError(
                f"{profile.folder} has no reference row for {describe_slice(wanted)}, and without "
                "one nobody can tell whether the machine is as it was: profile it again"
            )
        if budget.min_speedup is not None and budget.speedup_reference not in references:
            references[budget.speedup_reference] = dict.fromkeys(STATISTIC_COLUMNS)
        return cls(
            model=model,
            budget=budget,
            workload=workload,
            target=target,
            protocol=profile.protocol,
            references=tuple(
                Reference(name_of(architecture), architecture, statistics)
                for architecture, statistics in references.items()
            ),
            key=profile.key,
            seed=seed,
        )

    @property
    def rounds_needed(self) -> int:
        """Rounds that must count, fixed beforehand; a bound needs one more than the label."""
        return max(self.protocol.max_visits, self.protocol.visits + 1)

    @property
    def most_rounds(self) -> int:
        """Rounds after which a try ends, however many of them counted."""
        return _ROUNDS_PER_COUNTED * self.rounds_needed

    @property
    def configurations(self) -> dict[str, Configuration]:
        """What a round visits, by the name it is journalled under."""
        shapes = {CANDIDATE: self.model.architecture}
        shapes.update((str(ref.architecture), ref.architecture) for ref in self.references)
        return {
            name: Configuration(architecture, self.workload, self.target)
            for name, architecture in shapes.items()
        }

    def order(self, try_number: int, round_number: int) -> list[str]:
        """The order of a round's visits: the same for the same seed, try and round."""
        names = list(self.configurations)
        rng = np.random.default_rng([self.seed, try_number, round_number])
        return [names[index] for index in rng.permutation(len(names)).tolist()]

    def check_machine(self, host: Mapping[str, Any]) -> None:
        """Checks that a machine is the one that was profiled.

        Raises:
            InputError: naming the fields of the measurement key that differ.
        """
        differences = key_differences(self.key, measurement_key(host))
        if differences:
            raise InputError(
                "this is not the machine and build that were profiled "
                f"({'; '.join(differences)}): verify there, or profile this one"
            )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, less the file: what one journal holds verdicts of."""
        described = Configuration(self.model.architecture, self.workload, self.target).to_json()
        return {
            "budget": self.budget.to_json(),
            **{name: described[name] for name in SLICE_DEFAULTS},
            "protocol": self.protocol.to_json(),
            "references": {str(ref.architecture): dict(ref.profile_ms) for ref in self.references},
            "measurement_key_hash": key_hash(self.key),
            "seed": self.seed,
        }


def choose_slice(
    profile: DeviceProfile,
    *,
    graph_variant: GraphVariant,
    precision: Precision,
    sequence_length: int | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
) -> tuple[Workload, Target]:
    """The workload and target to measure under: the only profiled one that fits what was said.

    Args:
        profile: says what was profiled.
        graph_variant: of the exported file.
        precision: of the exported file.
        sequence_length: tokens, or None for whatever was profiled.
        batch_size: sequences, or None.
        threads: threads, or None.

    Raises:
        InputError: if none or several fit; says what was profiled.
    """
    said: dict[str, int | str | None] = {
        "precision": precision,
        "graph_variant": graph_variant,
        "sequence_length": sequence_length,
        "batch_size": batch_size,
        "threads": threads,
    }
    profiled = list(dict.fromkeys(profile.measurements.slices))
    fitting = [values for values in profiled if _fits(values, said)]
    if len(fitting) == 1:
        named = dict(zip(SLICE_DEFAULTS, fitting[0], strict=True))
        return (
            Workload(int(named["batch_size"]), int(named["sequence_length"])),
            Target(
                str(named["provider"]),
                int(named["threads"]),
                precision,
                graph_variant,
                str(named["provider_options"]),
            ),
        )
    there = "; ".join(map(describe_slice, fitting or profiled))
    if fitting:
        raise InputError(
            f"{profile.folder} has several workloads and targets ({there}): say which with "
            "--sequence-length, --batch-size and --threads"
        )
    wanted = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in said.items() if value is not None
    )
    raise InputError(
        f"{wanted} was not profiled; {profile.folder} has {there}: choose one of these, or profile "
        "what you need"
    )


def _fits(values: Slice, said: Mapping[str, int | str | None]) -> bool:
    named = dict(zip(SLICE_DEFAULTS, values, strict=True))
    return all(value is None or named[name] == value for name, value in said.items())
