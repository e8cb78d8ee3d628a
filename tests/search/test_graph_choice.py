from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_profiles.profile import DeviceProfile
from device_profiles.target import Target
from search.graph_choice import graph_variant_of


def request(variant: str, **changes: Any) -> Any:
    said = {"graph_variant": variant, "precision": "fp32", "threads": 1, **changes}
    options = {"sequence_length": 128, "batch_size": 1, "threads": said["threads"]}
    return SimpleNamespace(**said, workload_options=lambda: options)


def chosen(variant: str, **changes: Any) -> dict[str, Any]:
    return {"graph_variant": variant, "precision": "fp32", "threads": 1, **changes}


def profile_with(*choices: dict[str, Any]) -> Any:
    return SimpleNamespace(document={"graph_variants": list(choices)})


def test_the_variant_that_was_said_is_taken() -> None:
    assert graph_variant_of(profile_with(chosen("folded")), request("attention")) == "attention"


def test_otherwise_it_is_the_one_chosen_for_these_threads_and_this_precision() -> None:
    profile = profile_with(
        chosen("folded"), chosen("attention", threads=2), chosen("plain", precision="int8")
    )
    assert graph_variant_of(profile, request("auto")) == "folded"
    assert graph_variant_of(profile, request("auto", threads=2)) == "attention"
    assert graph_variant_of(profile, request("auto", precision="int8")) == "plain"


@pytest.mark.parametrize(
    ("targets", "precision", "expected"),
    [
        ([Target()], "fp32", "plain"),
        ([Target(graph_variant="folded"), Target(threads=2)], "fp32", "folded"),
        ([Target(), Target(graph_variant="folded")], "fp32", "folded"),
        ([Target(), Target(graph_variant="attention")], "fp32", "plain"),
        ([Target(graph_variant="folded"), Target(graph_variant="attention")], "fp32", "folded"),
        ([Target(), Target(graph_variant="folded", precision="int8")], "int8", "folded"),
    ],
)
def test_a_profile_that_chose_nothing_is_asked_by_its_rows(
    make_profile: Callable[..., Path],
    targets: list[Target],
    precision: str,
    expected: str,
) -> None:
    profile = DeviceProfile.load(make_profile("asked", configs=2, targets=targets))
    speed = {"plain": 1.0, "folded": 1.05, "attention": 1.01}
    statistics = profile.measurements.statistics
    for row, values in enumerate(profile.measurements.slices):
        shape = profile.measurements.architectures[row]
        statistics["latency_ms"][row] = shape.sum() / speed[str(values[4])]
        profile.measurements.verdicts[row] = "ok"
    assert graph_variant_of(profile, request("auto", precision=precision)) == expected
