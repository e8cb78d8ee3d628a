from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from device_profiles.measurements import MeasuredRow
from device_profiles.target import Configuration, Target, Workload
from profiler.variant_choice import SHAPES, choose_variants, variant_plan
from supernet.architecture import Architecture
from supernet.variants import GraphVariant

SPEED: dict[str, float] = {"plain": 1.0, "folded": 1.05, "attention": 0.9}


def rows(
    configurations: tuple[Configuration, ...],
    speed: Callable[[Configuration], float | None],
) -> list[MeasuredRow]:
    def row(configuration: Configuration) -> MeasuredRow:
        factor = speed(configuration)
        latency_ms = None if factor is None else configuration.architecture.hidden_size / factor
        return MeasuredRow(
            configuration, latency_ms, {}, 4, 40, "rejected" if factor is None else "ok"
        )

    return [row(configuration) for configuration in configurations]


def choose(speed: Callable[[Configuration], float | None], **target: Any) -> tuple[str, str]:
    targets = [Target(**target)]
    plan = variant_plan(Workload(), targets, seed=0)
    (choice,) = choose_variants(rows(plan.configurations, speed), targets)
    return choice.target.graph_variant, choice.reason


def test_every_shape_is_measured_in_every_variant_that_the_precision_has() -> None:
    targets = [Target(), Target(graph_variant="attention"), Target(precision="int8")]
    plan = variant_plan(Workload(1, 64), targets, seed=0)
    assert len(plan.configurations) == len(set(plan.configurations)) == len(SHAPES) * (3 + 2)
    assert {each.workload for each in plan.configurations} == {Workload(1, 64)}
    assert plan.num_required == len(plan.configurations)


def test_the_fastest_variant_is_chosen_and_the_gains_are_told() -> None:
    chosen, reason = choose(lambda configuration: SPEED[configuration.target.graph_variant])
    assert chosen == "folded"
    assert "folded +5.0%" in reason
    assert "attention -10.0%" in reason


@pytest.mark.parametrize(("gain", "chosen"), [(1.029, "plain"), (1.031, "folded")])
def test_plain_is_left_only_for_a_gain_of_three_per_cent(gain: float, chosen: GraphVariant) -> None:
    speed = {**SPEED, "folded": gain}
    assert choose(lambda configuration: speed[configuration.target.graph_variant])[0] == chosen


def test_every_target_has_a_choice_of_its_own() -> None:
    targets = [Target(), Target(threads=2), Target(precision="int8")]

    def speed(configuration: Configuration) -> float:
        target = configuration.target
        return 1.2 if (target.threads, target.graph_variant) == (2, "attention") else 1.0

    plan = variant_plan(Workload(), targets, seed=0)
    choices = choose_variants(rows(plan.configurations, speed), targets)
    assert [choice.target.graph_variant for choice in choices] == ["plain", "attention", "plain"]


def test_noisy_rows_say_nothing() -> None:
    targets = [Target()]
    plan = variant_plan(Workload(), targets, seed=0)
    measured = rows(plan.configurations, lambda each: SPEED[each.target.graph_variant])
    (choice,) = choose_variants([replace(row, verdict="noisy") for row in measured], targets)
    assert choice.target.graph_variant == "plain"


def test_rows_that_were_rejected_say_nothing() -> None:
    def speed(configuration: Configuration) -> float | None:
        variant = configuration.target.graph_variant
        if variant == "folded" and configuration.architecture == SHAPES[0]:
            return None
        return None if variant == "attention" else SPEED[variant]

    chosen, reason = choose(speed)
    assert chosen == "folded"
    assert "attention" not in reason
    assert choose(lambda _: None) == ("plain", "no variant could be compared with plain")


@pytest.mark.parametrize(
    ("largest", "measured"),
    [
        (
            "6-384-1536-12-384",
            {"4-312-1200-12-312", "3-384-1536-12-384", "6-192-768-12-192"},
        ),
        ("1-64-64-1-64", {"1-64-64-1-64", "1-32-32-1-32"}),
        ("12-768-3072-12-768", set(map(str, SHAPES))),
    ],
)
def test_only_slices_of_the_largest_shape_are_measured_three_if_there_are(
    largest: str, measured: set[str]
) -> None:
    plan = variant_plan(Workload(), [Target()], within=Architecture.parse(largest), seed=0)
    assert {str(each.architecture) for each in plan.configurations} == measured
