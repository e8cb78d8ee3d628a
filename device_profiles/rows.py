"""What follows from a campaign's visits: which of them count, and the judged rows."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from device_profiles.clock_rate import minima_at_quiet_clock
from device_profiles.drift import slow_visits
from device_profiles.measurements import MeasuredRow
from device_profiles.protocol import Protocol
from device_profiles.quality import (
    PERCENTILES,
    VISITS_FOR_PERCENTILES,
    FloatVector,
    block_factors,
    is_throttling,
    label_deviation,
    percentiles,
    quiet_latency,
    samples_needed,
)
from device_profiles.target import Configuration
from device_profiles.verdicts import Cause, failure_reason, judge
from device_profiles.visits import CampaignRecord, Visit


def factors_of_blocks(visits: Sequence[Visit]) -> dict[int, float]:
    """How much slower than quiet blocks each block was, by its undisturbed visits."""
    minima = minima_at_quiet_clock(visits)
    kept = [index for index, visit in enumerate(visits) if not visit.disturbed]
    whole = [visits[index] for index in kept]
    factors = dict.fromkeys((visit.block for visit in visits), 1.0)
    factors.update(
        block_factors(
            np.array([visit.configuration for visit in whole], dtype=np.int64),
            np.array([visit.block for visit in whole], dtype=np.int64),
            minima[kept],
        )
    )
    return factors


def why_not_accepted(campaign: CampaignRecord, protocol: Protocol) -> list[Cause | None]:
    """For each visit of a campaign, why it is not accepted; None if it is.

    The only place that decides it. What took the core away comes first: it explains slowness.
    """
    visits = campaign.visits
    if protocol.most_waiting_share >= 1:  # a busy machine is what is to be measured
        return [None] * len(visits)
    factors = factors_of_blocks(visits)
    cause = _cause_of_slow_blocks(visits, factors, protocol)
    why: list[Cause | None] = [
        visit.disturbed or (cause if factors[visit.block] > protocol.slow_factor else None)
        for visit in visits
    ]
    # A block begins where a process does; the machine slows down when it likes.
    left = [index for index, found in enumerate(why) if found is None]
    slow = slow_visits(
        np.array([visits[index].configuration for index in left], dtype=np.int64),
        minima_at_quiet_clock(visits)[left],
    )
    for index in np.array(left, dtype=np.int64)[slow].tolist():
        why[index] = "slow stretch"
    return why


def _cause_of_slow_blocks(
    visits: Sequence[Visit], factors: Mapping[int, float], protocol: Protocol
) -> Cause:
    rises: dict[int, list[float]] = {block: [] for block in factors}
    for visit in visits:
        half = len(visit.runs_ns) // 2
        if not visit.disturbed and half:
            first, second = visit.runs_ns[:half], visit.runs_ns[-half:]
            rises[visit.block].append(statistics.median(second) / statistics.median(first) - 1)
    throttling = is_throttling(
        [factors[block] for block in sorted(factors)],
        [statistics.median(rises[block] or [0.0]) for block in sorted(factors)],
        protocol.slow_factor,
    )
    return "throttling" if throttling else "slow block"


def _accepted(
    campaign: CampaignRecord, protocol: Protocol
) -> tuple[list[list[int]], list[Counter[Cause]]]:
    """For each configuration, the visits that count and what the others were lost to."""
    accepted: list[list[int]] = [[] for _ in campaign.configurations]
    causes: list[Counter[Cause]] = [Counter() for _ in campaign.configurations]
    why = why_not_accepted(campaign, protocol)
    for number, (visit, cause) in enumerate(zip(campaign.visits, why, strict=True)):
        if cause is None:
            accepted[visit.configuration].append(number)
        else:
            causes[visit.configuration][cause] += 1
    return accepted, causes


def label_noise(campaign: CampaignRecord, protocol: Protocol) -> FloatVector:
    """How far each label may be off by chance, by how its visits differ.

    Returns:
        `[N]` in the plan's order, the standard deviation relative to the label; NaN where it has
        too few visits to tell. What moves all labels of a campaign alike is not in it.
    """
    accepted, _ = _accepted(campaign, protocol)
    minima = minima_at_quiet_clock(campaign.visits)
    return np.array(
        [
            label_deviation(minima[numbers].tolist(), protocol.visits)
            for numbers in accepted[: campaign.num_planned]
        ]
    )


def rows_of(campaign: CampaignRecord, protocol: Protocol) -> list[MeasuredRow]:
    """One row for each configuration of the plan, judged, in the plan's order."""
    visits, minima = campaign.visits, minima_at_quiet_clock(campaign.visits)
    accepted, causes = _accepted(campaign, protocol)
    return [
        _row(
            campaign.configurations[index],
            [visits[number] for number in accepted[index]],
            [float(minima[number]) / 1e6 for number in accepted[index]],
            causes[index],
            campaign.failures.get(index, []),
            protocol,
        )
        for index in range(campaign.num_planned)
    ]


def _missing_percentiles(runs: int, visits: int) -> str:
    """Why some percentiles of a row that is `ok` are not there."""
    if visits < VISITS_FOR_PERCENTILES:
        return f"{visits} visits; percentiles need {VISITS_FOR_PERCENTILES}"
    missing = [(p, samples_needed(p)) for p in PERCENTILES if runs < samples_needed(p)]
    needs = ", ".join(f"p{percentile} {needed}" for percentile, needed in missing)
    return f"{runs} runs; needed for {needs}" if missing else ""


def _row(
    configuration: Configuration,
    accepted: Sequence[Visit],
    minima_ms: Sequence[float],
    causes: Mapping[Cause, int],
    failures: Sequence[str],
    protocol: Protocol,
) -> MeasuredRow:
    runs_ms = [elapsed_ns / 1e6 for visit in accepted for elapsed_ns in visit.runs_ns]
    processes = len({visit.block for visit in accepted})
    judgement = judge(
        minima_ms, visits=protocol.visits, agreement=protocol.agreement, causes=causes
    )
    reason = judgement.reason or _missing_percentiles(len(runs_ms), processes)
    if judgement.verdict == "rejected" and failures:
        reason = failure_reason(failures[-1])
    if judgement.verdict == "rejected":
        latency_ms, percentiles_ms = None, dict.fromkeys(PERCENTILES)
    else:
        latency_ms = quiet_latency(minima_ms, protocol.visits)
        percentiles_ms = percentiles(runs_ms, processes)
    return MeasuredRow(
        configuration,
        latency_ms,
        percentiles_ms,
        len(accepted),
        len(runs_ms),
        judgement.verdict,
        reason,
        None if judgement.verdict == "rejected" else _end_to_end_ms(accepted, protocol),
    )


def _end_to_end_ms(visits: Sequence[Visit], protocol: Protocol) -> float | None:
    """The quiet end-to-end latency; None where too few visits timed it."""
    times_ns = [visit.end_to_end_ns for visit in visits]
    minima_ms = [time_ns / 1e6 for time_ns in times_ns if time_ns is not None]
    return quiet_latency(minima_ms, protocol.visits) if len(minima_ms) >= protocol.visits else None
