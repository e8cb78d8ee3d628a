"""Verdicts on rows: can a label be trusted, and if not, why and what to do, in words.

Functions of plain numbers, so that anyone's measurements can be judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "noisy", "rejected"]

# Why a visit is not accepted.
Cause = Literal["steal", "load", "slow block", "slow stretch", "throttling"]

# What happened, after a number of visits; then the remedy.
_CAUSES: dict[Cause, tuple[str, str]] = {
    "steal": (
        "lost the core to the hypervisor (steal)",
        "measure on a dedicated machine, or at a quieter hour",
    ),
    "load": (
        "waited for the core, because other work ran on it (competing load)",
        "stop other work on the machine",
    ),
    "slow block": (
        "fell into slow blocks, though the measuring thread had its core (a lower clock, load on "
        "another core, or a neighbour on the same host)",
        "fix the clock frequency, or measure at a quieter hour",
    ),
    "slow stretch": (
        "fell into a slow stretch of the campaign",
        "measure again at a quieter hour",
    ),
    "throttling": (
        "were slow because the machine grew slower as it worked (throttling)",
        "cool it, plug it in, or fix its clock frequency",
    ),
}

_OUT_OF_MEMORY = ("memoryerror", "out of memory", "bad_alloc", "failed to allocate", "signal 9")


@dataclass(frozen=True)
class Judgement:
    """The verdict on a row, and its reasons with the remedy in words."""

    verdict: Verdict
    reason: str = ""


def judge(
    accepted_minima: Sequence[float],
    *,
    visits: int,
    agreement: float,
    causes: Mapping[Cause, int] | None = None,
) -> Judgement:
    """Judges one row by its visits.

    The state that the label describes must have been seen twice: one fast visit among slow ones
    may be the only quiet one, or a fluke.

    Args:
        accepted_minima: the fastest run of each accepted visit.
        visits: how many the label needs.
        agreement: how far apart, relatively, the two fastest may lie.
        causes: how many visits were not accepted, by cause.
    """
    if len(accepted_minima) < visits:
        why = f"{len(accepted_minima)} of {visits} visits accepted"
        return Judgement("rejected", f"{why}; {_most_frequent(causes) or _TOO_FEW}")
    fastest, second = sorted(accepted_minima)[:2] if visits > 1 else (accepted_minima[0],) * 2
    gap = second / fastest - 1
    if gap > agreement:
        why = f"its two fastest visits differ by {gap:.1%}"
        return Judgement("noisy", f"{why}; {_most_frequent(causes) or _UNSETTLED}")
    return Judgement("ok")


_TOO_FEW = "too few were made: give the campaign more time"
_UNSETTLED = "nothing told why: measure on a quieter machine"


def _most_frequent(causes: Mapping[Cause, int] | None) -> str:
    if not causes or not max(causes.values()):
        return ""
    cause = max(causes, key=lambda name: causes[name])
    happened, remedy = _CAUSES[cause]
    return f"{causes[cause]} {happened}: {remedy}"


def failure_reason(error: str) -> str:
    """What a configuration failed with, and the remedy.

    Args:
        error: what the worker said.
    """
    said = error.lower()
    if any(sign in said for sign in _OUT_OF_MEMORY):
        kind, remedy = "ran out of memory", "free memory, or leave this shape out"
    elif said.startswith("no answer within"):
        kind, remedy = "timed out", "leave this shape out: it is too slow for this device"
    elif said.startswith("the measuring process"):
        kind, remedy = "crashed", "try another graph variant, or leave this shape out"
    else:
        kind, remedy = "failed on the device", "try another target, or leave this shape out"
    return f"{kind}: {error}: {remedy}"
