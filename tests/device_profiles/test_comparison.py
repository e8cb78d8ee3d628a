from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from device_profiles.comparison import Ratios, RowRatio, compare_profiles, slower
from device_profiles.measurements import SLICE_DEFAULTS
from device_profiles.profile import DeviceProfile
from device_profiles.target import Target, Workload
from supernet.architecture import Architecture

USUAL = tuple(SLICE_DEFAULTS.values())


def rows_of(ratios: Sequence[float]) -> list[RowRatio]:
    return [
        RowRatio(Architecture(1, 128, 128 + 4 * i, 4, 128), USUAL, 10.0 + i, (10.0 + i) * ratio)
        for i, ratio in enumerate(ratios)
    ]


def noise(count: int, scale: float, seed: int = 0) -> list[float]:
    return list(np.exp(scale * np.random.default_rng(seed).standard_normal(count)))


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.0] * 5, "the same within noise"),
        (noise(60, 0.015), "the same within noise"),
        ([1.12 * n for n in noise(60, 0.015)], "B is 12.* % slower everywhere"),
        ([0.5 * n for n in noise(60, 0.015)], "B is (9|10).* % faster everywhere"),
        (
            [1.0, 1.3] * 30,
            "not the same device: differences are not uniform .B is 14.0 % slower on",
        ),
        ([0.87, 1.15] * 30, "not the same device: .* not uniform .alike on average"),
        ([1.0, 1.0], "cannot tell: 2 rows are too few"),
    ],
)
def test_noise_a_common_factor_and_another_ranking_are_told_apart(
    ratios: list[float], verdict: str
) -> None:
    assert re.match(verdict, Ratios.of(rows_of(ratios)).verdict)


def test_the_factor_is_the_geometric_mean_and_the_spread_is_without_it() -> None:
    found = Ratios.of(rows_of([2.0, 8.0]))
    assert found.factor == pytest.approx(4.0)
    assert found.spread == pytest.approx(1.0)
    assert (found.lower_quartile, found.upper_quartile) == pytest.approx((math.sqrt(8), 2**2.5))
    assert Ratios.of(rows_of([3.0] * 4)).spread == pytest.approx(0.0)


def test_the_rows_farthest_from_the_factor_are_named_first() -> None:
    found = Ratios.of(rows_of([1.2] * 9 + [1.0]))
    assert found.worst[0].ratio == pytest.approx(1.0)
    assert found.worst[0].architecture == Architecture(1, 128, 128 + 36, 4, 128)
    assert len(found.worst) == 5


def test_the_share_of_rows_within_three_percent_is_counted() -> None:
    assert Ratios.of(rows_of([1.0, 1.02, 0.98, 1.05])).share_near == 0.75


def test_a_changed_ranking_shows_in_swapped_pairs_and_a_factor_does_not() -> None:
    turned = [
        RowRatio(Architecture(1, 8, 8, 1, 8), USUAL, a, b) for a, b in ((1, 3), (2, 2), (3, 1))
    ]
    assert Ratios.of(turned).swapped == 1.0
    assert Ratios.of(rows_of([1.5] * 20)).swapped == 0.0


@pytest.mark.parametrize(
    ("factor", "words"), [(1.12, "12.0 % slower"), (0.5, "100.0 % faster"), (1.0, "0.0 % slower")]
)
def test_faster_is_said_of_the_speed(factor: float, words: str) -> None:
    assert slower(factor) == words


def test_no_rows_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="no rows"):
        Ratios.of([])


def test_rows_are_matched_by_architecture_workload_and_target(
    make_profile: Callable[..., Path],
) -> None:
    workloads = (Workload(1, 64), Workload(1, 128))
    first = DeviceProfile.load(
        make_profile("a", configs=10, workloads=workloads, targets=(Target(), Target(threads=2)))
    )
    second = DeviceProfile.load(make_profile("b", configs=12, seed=1, workloads=workloads[1:]))
    found = compare_profiles(first, second)
    # Two references and the two corners of the space are in every plan.
    assert (found.shared, found.compared) == (4, 4)
    assert found.only_first == len(first.measurements) - 4
    assert found.only_second == len(second.measurements) - 4
    assert list(found.slices) == [USUAL]
    assert [name for name, _ in found.references] == ["BERT-base", "MiniLM-L6"]
    assert found.verdict == "the same within noise"


def test_a_profile_equals_itself(make_profile: Callable[..., Path]) -> None:
    profile = DeviceProfile.load(make_profile(configs=8))
    found = compare_profiles(profile, profile)
    assert found.quiet is not None
    assert (found.quiet.factor, found.quiet.spread, found.quiet.share_near) == (1.0, 0.0, 1.0)
    assert (found.key, found.facts, found.protocol) == ((), {}, {})
    assert (found.only_first, found.only_second) == (0, 0)


def test_a_broken_device_leaves_nothing_to_compare(make_profile: Callable[..., Path]) -> None:
    whole = DeviceProfile.load(make_profile("a", configs=4))
    broken = DeviceProfile.load(make_profile("b", configs=4, broken=True))
    found = compare_profiles(whole, broken)
    assert found.verdict == "cannot tell: no row is ok in both (6 are in both)"
    assert not found.told
    assert found.to_json()["quiet"] is None
