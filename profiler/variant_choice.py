"""Which graph of an encoder a device runs fastest, by measurement.

A few shapes are measured in every variant before the campaign begins, in a small campaign of
their own with the same protocol. `plain` is left only for a gain that is worth depending on other
operators for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from device_profiles.measurements import MeasuredRow
from device_profiles.target import Configuration, Target, Workload
from profiler.plan import Plan
from supernet.architecture import Architecture
from supernet.variants import GRAPH_VARIANTS, GraphVariant, can_write

# What `--graph-variant` takes besides the names of variants.
AUTO = "auto"

# How much faster than `plain` a variant has to be, in the geometric mean over the shapes.
LEAST_GAIN = 0.03

# From the smallest that anyone ships to half of BERT-base; wide, narrow and many-headed.
SHAPES = tuple(
    map(Architecture.parse, ("3-320-608-4-256", "4-312-1200-12-312", "5-564-1024-12-528"))
)


@dataclass(frozen=True)
class VariantChoice:
    """The variant chosen for one target, and why.

    Attributes:
        target: with the chosen variant.
        gains: of each variant over `plain`, geometric mean over shapes and workloads, less 1;
            None where it could not be measured.
        reason: in words.
    """

    target: Target
    gains: Mapping[GraphVariant, float | None]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "threads": self.target.threads,
            "precision": self.target.precision,
            "provider": self.target.provider,
            "graph_variant": self.target.graph_variant,
            "gains": {
                name: None if gain is None else round(gain, 4) for name, gain in self.gains.items()
            },
            "reason": self.reason,
        }


def variant_plan(
    workload: Workload,
    targets: Sequence[Target],
    *,
    within: Architecture | None = None,
    seed: int,
) -> Plan:
    """What has to be measured to choose a variant for every target.

    Args:
        workload: one of the campaign's.
        targets: of the campaign; their own variants do not matter.
        within: measure slices of this shape only.
        seed: decides the order of the visits.
    """
    configurations = tuple(
        Configuration(shape, workload, replace(target, graph_variant=variant))
        for shape in _shapes(within)
        for target in _bases(targets)
        for variant in _variants_of(target)
    )
    return Plan(configurations, len(configurations), 1, seed)


def _shapes(within: Architecture | None) -> list[Architecture]:
    """Three shapes: ours as far as they are slices of `within`, then slices of its own."""
    if within is None:
        return list(SHAPES)
    heads = within.num_heads
    narrow = replace(
        within,
        hidden_size=max(within.hidden_size // 2, 1),
        ffn_size=max(within.ffn_size // 2, 1),
        qkv_size=max(within.qkv_size // 2 // heads, 1) * heads,
    )
    shallow = replace(within, num_layers=-(-within.num_layers // 2))
    fitting = [shape for shape in SHAPES if within.holds(shape)]
    return list(dict.fromkeys([*fitting, shallow, narrow, within]))[: len(SHAPES)]


def choose_variants(rows: Sequence[MeasuredRow], targets: Sequence[Target]) -> list[VariantChoice]:
    """The fastest variant for each target, from the rows of its plan.

    A row that is not `ok` says nothing; a variant that has no pair of rows with `plain` is not
    chosen.
    """
    measured = {row.configuration: row.latency_ms if row.verdict == "ok" else None for row in rows}
    return [_choice(base, measured) for base in _bases(targets)]


def _choice(base: Target, measured: Mapping[Configuration, float | None]) -> VariantChoice:
    pairs = [
        (configuration.architecture, configuration.workload)
        for configuration in measured
        if configuration.target == base
    ]
    gains: dict[GraphVariant, float | None] = {}
    for variant in _variants_of(base)[1:]:
        logs = []
        for pair in pairs:
            plain_ms = measured[Configuration(*pair, base)]
            other_ms = measured.get(Configuration(*pair, replace(base, graph_variant=variant)))
            if plain_ms is not None and other_ms is not None:
                logs.append(math.log(plain_ms / other_ms))
        gains[variant] = math.exp(sum(logs) / len(logs)) - 1 if logs else None
    known = {variant: gain for variant, gain in gains.items() if gain is not None}
    if not known:
        return VariantChoice(base, gains, "no variant could be compared with plain")
    fastest = max(known, key=known.__getitem__)
    said = ", ".join(f"{name} {gain:+.1%}" for name, gain in known.items())
    if known[fastest] < LEAST_GAIN:
        return VariantChoice(base, gains, f"none gains {LEAST_GAIN:.0%} over plain ({said})")
    chosen = replace(base, graph_variant=fastest)
    return VariantChoice(chosen, gains, f"the fastest, speed against plain: {said}")


def _bases(targets: Sequence[Target]) -> list[Target]:
    """The targets in their plain variant, without repeats."""
    return list(dict.fromkeys(replace(target, graph_variant="plain") for target in targets))


def _variants_of(target: Target) -> list[GraphVariant]:
    """The variants that can be written in a target's precision, `plain` first."""
    return [variant for variant in GRAPH_VARIANTS if can_write(variant, target.precision)]
