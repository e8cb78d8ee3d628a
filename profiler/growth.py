"""A campaign that grows: what was measured says what is measured next, and when it is enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from device_profiles.protocol import Protocol
from device_profiles.target import Configuration
from device_profiles.visits import CampaignRecord
from profiler.plan import Plan
from profiler.rounds import num_anchors

# Shapes that are added may be slower than those before; rows that the limit cuts off are lost.
_RESERVE = 1.1


@dataclass(frozen=True)
class Growth:
    """What a campaign that grows does once nothing is due.

    Attributes:
        configurations: what to measure besides; nothing if it is to end.
        promised_error: the mean relative error to expect of predictions; None if that cannot be
            told.
        reason: why it ends, if it does.
    """

    configurations: tuple[Configuration, ...]
    promised_error: float | None
    reason: str = ""


# A pure function of the record, so that a resumed campaign decides alike.
Grow = Callable[[CampaignRecord], Growth]


def growth_record(
    growth: Growth,
    record: CampaignRecord,
    plan: Plan,
    protocol: Protocol,
    limit_s: float,
    outcome: str,
) -> dict[str, Any]:
    """The line of the journal that carries out a growth, or ends the campaign.

    Args:
        growth: what was decided.
        record: the campaign so far.
        plan: as it began.
        protocol: how it measures.
        limit_s: of the campaign; what does not fit is not begun.
        outcome: what became of the rows so far, in words.
    """
    promised: dict[str, Any] = {"promised_error": growth.promised_error}
    count = _fitting(len(growth.configurations), record, plan, protocol, limit_s)
    if count:
        added = [value.to_json() for value in growth.configurations[:count]]
        return {"kind": "extended", "configurations": added, **promised}
    reason = growth.reason
    if growth.configurations:
        reason = f"no more shapes fit the time limit of {limit_s:g} s"
    return {"kind": "stopped", "reason": f"{reason}; {outcome}", **promised}


def _fitting(
    count: int, record: CampaignRecord, plan: Plan, protocol: Protocol, limit_s: float
) -> int:
    """How many of so many further configurations get all their visits within the limit."""
    visits = len(record.visits) + sum(map(len, record.failures.values()))
    visit_s = _RESERVE * record.elapsed_s / max(visits, 1)
    while (
        count
        and record.elapsed_s + visit_s * protocol.planned_visits * (count + num_anchors(count))
        > limit_s
    ):
        count -= min(plan.per_architecture, count)
    return count
