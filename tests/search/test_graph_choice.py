from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autotinybert.errors import InputError
from device_profiles.profile import DeviceProfile
from device_profiles.target import Target
from search.graph_choice import graph_variant_of


def request(variant: str, **changes: Any) -> Any:
    said = {"graph_variant": variant, "precision": "fp32", "threads": 1, **changes}
    return SimpleNamespace(**said)


def chosen(variant: str, **changes: Any) -> dict[str, Any]:
    return {"graph_variant": variant, "precision": "fp32", "threads": 1, **changes}


def profile_with(*choices: dict[str, Any], slices: tuple[Target, ...] = ()) -> Any:
    return SimpleNamespace(
        folder=Path("profile"),
        document={"graph_variants": list(choices)} if choices else {},
        measurements=SimpleNamespace(
            slices=[
                (128, 1, t.threads, t.precision, t.graph_variant, t.provider, "") for t in slices
            ]
        ),
    )


def test_the_variant_that_was_said_is_taken() -> None:
    assert graph_variant_of(profile_with(chosen("folded")), request("attention")) == "attention"


def test_otherwise_it_is_the_one_chosen_for_these_threads_and_this_precision() -> None:
    profile = profile_with(
        chosen("folded"), chosen("attention", threads=2), chosen("plain", precision="int8")
    )
    assert graph_variant_of(profile, request("auto")) == "folded"
    assert graph_variant_of(profile, request("auto", threads=2)) == "attention"
    assert graph_variant_of(profile, request("auto", precision="int8")) == "plain"


def test_a_profile_of_one_variant_leaves_no_choice_and_one_of_several_must_say() -> None:
    one = profile_with(slices=(Target(graph_variant="folded"), Target(threads=2)))
    assert graph_variant_of(one, request("auto")) == "folded"
    several = profile_with(slices=(Target(graph_variant="folded"), Target()))
    with pytest.raises(InputError, match="folded, plain and does not say which"):
        graph_variant_of(several, request("auto"))


def test_a_real_profile_without_a_choice_has_its_only_variant(
    make_profile: Callable[..., Path],
) -> None:
    profile = DeviceProfile.load(make_profile("one", configs=2))
    assert graph_variant_of(profile, request("auto")) == "plain"
