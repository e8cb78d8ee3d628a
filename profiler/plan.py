"""What a campaign measures, and in which order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from device_profiles.target import Configuration, Target, Workload
from supernet.architecture import Architecture
from supernet.published import PUBLISHED_SHAPES, REFERENCE_SHAPES
from supernet.space import Space


@dataclass(frozen=True)
class Plan:
    """Everything that a campaign is to measure.

    Attributes:
        configurations: without repeats; the first `num_required` are measured in any case, the
            others may be dropped from the end when time is short.
        num_required: references, and shapes that were asked for by name.
        per_architecture: configurations of each architecture; they stand together, and are
            dropped together.
        seed: decides the order of the visits.
    """

    configurations: tuple[Configuration, ...]
    num_required: int
    per_architecture: int
    seed: int

    def shortened(self, count: int) -> int:
        """The number of configurations nearest below `count` that the plan may be cut to."""
        return max(count - count % self.per_architecture, self.num_required)

    def shuffled(self, round_number: int, due: Sequence[int]) -> list[int]:
        """The order in which a round visits `due`: the same for the same seed and round."""
        rng = np.random.default_rng([self.seed, round_number])
        return [due[index] for index in rng.permutation(len(due)).tolist()]


def sample_architectures(space: Space, count: int, seed: int) -> list[Architecture]:
    """Shapes that tell most about a space: its two corners, then evenly spread ones.

    The corners make the measured range the whole space; a predictor refuses what lies outside.
    """
    corners = space.corners()[:count]
    spread = space.space_filling(np.random.default_rng(seed), min(count, space.size))
    return list(dict.fromkeys([*corners, *spread]))[:count]


def make_plan(
    architectures: Sequence[Architecture],
    *,
    workloads: Sequence[Workload],
    targets: Sequence[Target],
    rivals: bool,
    seed: int,
    references: Sequence[Architecture] = (),
    within: Architecture | None = None,
) -> Plan:
    """Crosses architectures with workloads and targets, references first.

    Args:
        architectures: the shapes to measure.
        workloads: batch sizes and sequence lengths.
        targets: threads and graph variants.
        rivals: measure all published shapes, not only the references.
        seed: decides the order of the visits.
        references: references besides the usual ones.
        within: leave out rivals that are no slices of this shape.
    """
    required = [shape.architecture for shape in REFERENCE_SHAPES] + list(references)
    if rivals:
        published = [shape.architecture for shape in PUBLISHED_SHAPES]
        required += [shape for shape in published if within is None or within.holds(shape)]
    required = list(dict.fromkeys(required))
    # Architecture is the outer loop: a plan cut short still has every workload of what is left.
    configurations = [
        Configuration(architecture, workload, target)
        for architecture, workload, target in itertools.product(
            dict.fromkeys([*required, *architectures]),
            dict.fromkeys(workloads),
            dict.fromkeys(targets),
        )
    ]
    per_architecture = len(set(workloads)) * len(set(targets))
    return Plan(tuple(configurations), len(required) * per_architecture, per_architecture, seed)
