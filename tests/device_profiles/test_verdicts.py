from __future__ import annotations

from typing import get_args

import pytest

from device_profiles.verdicts import Cause, failure_reason, judge


@pytest.mark.parametrize(
    ("minima", "verdict", "reason"),
    [
        ([10, 10.1, 12, 15], "ok", ""),
        ([10, 10.25, 12, 15], "ok", ""),
        ([10, 10.4, 10.4, 10.4], "noisy", "two fastest visits differ by 4.0%"),
        ([10, 10, 10], "rejected", "3 of 4 visits accepted; too few were made: give the campaign"),
        ([], "rejected", "0 of 4"),
    ],
)
def test_verdict_asks_that_the_quiet_state_was_seen_twice(
    minima: list[float], verdict: str, reason: str
) -> None:
    judgement = judge(minima, visits=4, agreement=0.03)
    assert judgement.verdict == verdict
    assert reason in judgement.reason


CAUSES: dict[Cause, tuple[str, str]] = {
    "steal": ("3 lost the core to the hypervisor (steal)", "dedicated machine"),
    "load": ("3 waited for the core", "stop other work on the machine"),
    "slow block": (
        "3 fell into slow blocks, though the measuring thread had its core",
        "fix the clock frequency",
    ),
    "slow stretch": ("3 fell into a slow stretch", "measure again"),
    "throttling": ("3 were slow because the machine grew slower", "cool it"),
}


@pytest.mark.parametrize("cause", get_args(Cause))
def test_every_cause_has_its_own_words_and_remedy(cause: Cause) -> None:
    happened, remedy = CAUSES[cause]
    rejected = judge([10.0], visits=4, agreement=0.03, causes={cause: 3})
    assert rejected.reason.startswith(f"1 of 4 visits accepted; {happened}")
    assert remedy in rejected.reason
    noisy = judge([10.0, 11, 11, 11], visits=4, agreement=0.03, causes={cause: 3})
    assert (noisy.verdict, happened in noisy.reason) == ("noisy", True)


def test_the_most_frequent_cause_is_the_one_that_is_told() -> None:
    reason = judge([], visits=4, agreement=0.03, causes={"load": 2, "steal": 3}).reason
    assert "steal" in reason
    assert "competing load" not in reason
    assert judge([10.0] * 4, visits=4, agreement=0.03, causes={"load": 9}).reason == ""


def test_one_visit_is_enough_where_the_protocol_asks_for_one() -> None:
    assert judge([10.0], visits=1, agreement=0.03).verdict == "ok"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("MemoryError: no room", "ran out of memory: MemoryError: no room: free memory"),
        ("the measuring process ended (killed by signal 9)", "ran out of memory: "),
        ("no answer within 600 s", "timed out: "),
        ("the measuring process ended (exit status 1): boom", "crashed: "),
        ("Fail: [ONNXRuntimeError]", "failed on the device: "),
    ],
)
def test_a_failure_is_told_by_its_kind_with_a_remedy(error: str, reason: str) -> None:
    assert failure_reason(error).startswith(reason)
    assert error in failure_reason(error)
    assert "leave this shape out" in failure_reason(error)
