"""What a campaign does next: functions of its record alone, so that a resumed one decides alike."""

from __future__ import annotations

import statistics

from device_profiles.protocol import Protocol
from device_profiles.rows import rows_of
from device_profiles.visits import CampaignRecord
from profiler.plan import Plan

# More than the five that a block needs to be judged: some may fail.
_FEWEST_VISITS_OF_A_ROUND = 8

# Visits beyond those of the label are given up where they would take the campaign past this many
# times what it takes on a quiet machine.
_MOST_STRETCH = 1.8

# A machine that is always busy is given up: when this much time is lost, and this many times more
# than was of use.
_PATIENCE_S = 60.0
_MOST_LOST_PER_USEFUL = 3.0


def due(record: CampaignRecord, plan: Plan, protocol: Protocol, round_number: int) -> list[int]:
    """What a round is to visit, by index.

    Everything in the planned rounds; then the rows that are not `ok` yet. Whether a row is
    visited again must not depend on how fast its visits were, or labels would be biased: a row
    that is `ok` gets no visit for being unsteady, and rows that are not are few on a machine on
    which labels are worth anything (the tests bound what is left of the bias).

    Of a plan that grew, the newest stage is due, and along with it some of what was measured
    before: whether a block was slow shows in what it shares with others.
    """
    number = round_number - record.stage.rounds_before
    if number > protocol.max_visits:
        return []
    first, last = record.stage.first, record.num_planned
    indices = [index for index in range(first, last) if not record.given_up(index)]
    anchors = _anchors(record, plan, round_number) if indices else []
    if number <= protocol.visits:
        return indices + anchors
    if number <= protocol.planned_visits and not _is_stretched(record, protocol, number):
        return indices + anchors
    rows = rows_of(record, protocol)
    doubtful = [index for index in indices if rows[index].verdict != "ok"]
    others = anchors or plan.shuffled(round_number, sorted(set(indices) - set(doubtful)))
    # Too short a block could not be judged: others are visited along with it.
    missing = max(_FEWEST_VISITS_OF_A_ROUND - len(doubtful), 0) if doubtful else 0
    return doubtful + others[:missing]


def num_anchors(count: int) -> int:
    """How many earlier configurations a round visits along with so many new ones.

    As many: with fewer, the medians that blocks are compared by would follow the new ones, and a
    stage that was slow from end to end would go unseen.
    """
    return max(count, _FEWEST_VISITS_OF_A_ROUND)


def _anchors(record: CampaignRecord, plan: Plan, round_number: int) -> list[int]:
    """Configurations of earlier stages that a round of a later one visits as well."""
    first = record.stage.first
    most = num_anchors(record.num_planned - first)
    earlier = [index for index in range(first) if not record.given_up(index)]
    # Half are references at most; the others differ from round to round.
    references = [index for index in earlier if index < plan.num_required][: most // 2]
    others = plan.shuffled(round_number, sorted(set(earlier) - set(references)))
    return references + others[: most - len(references)]


def _is_stretched(record: CampaignRecord, protocol: Protocol, number: int) -> bool:
    """Whether a round more would make a busy machine's stage far longer than a quiet one's."""
    done = number - 1
    elapsed_s = record.elapsed_s - record.stage.elapsed_s
    quiet_s = (elapsed_s - record.lost_s + record.stage.lost_s) / done * protocol.planned_visits
    return elapsed_s + elapsed_s / done > _MOST_STRETCH * quiet_s


def why_hopeless(record: CampaignRecord) -> str:
    """Why there is no use in going on; empty if there is."""
    useful_s = record.elapsed_s - record.lost_s
    if record.lost_s <= _PATIENCE_S + _MOST_LOST_PER_USEFUL * useful_s:
        return ""
    share = record.lost_s / record.elapsed_s
    causes = [visit.disturbed for visit in record.visits if visit.disturbed]
    if statistics.mode(causes or ["load"]) == "steal":
        return (
            f"the hypervisor took the core for {share:.0%} of the time: measure on a dedicated "
            "machine, or at a quieter hour"
        )
    return f"other work took the core for {share:.0%} of the time: stop it and start anew"
