"""Latencies at one clock rate: a core that boosts now and then is no faster machine.

A core's clock follows its own load, its neighbours' and its temperature, and moves by several per
cent within minutes, both ways. A fixed piece of arithmetic is timed after every run of a visit; its
median over the visit tells the clock rate, and the visit's latency is told at the clock rate that
was usual in the campaign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from device_profiles.visits import Visit

FloatVector = npt.NDArray[np.float64]

# What is further off than this is no boost but another state of the machine, which has to show.
_LARGEST_CORRECTION = 0.1


def usual_probe_ns(visits: Sequence[Visit]) -> float | None:
    """The median of what the probe took in undisturbed visits; None if one of them lacks it."""
    probes = [visit.probe_ns for visit in visits if not visit.disturbed]
    known = [probe for probe in probes if probe is not None]
    return float(np.median(known)) if known and len(known) == len(probes) else None


def minima_at_usual_clock(visits: Sequence[Visit]) -> FloatVector:
    """The fastest run of each visit, in nanoseconds at the campaign's usual clock rate, `[V]`.

    Without a probe in every undisturbed visit they are as they were timed.
    """
    minima = np.array([visit.minimum_ns for visit in visits], dtype=np.float64)
    usual = usual_probe_ns(visits)
    if usual is None:
        return minima
    rates = np.array([usual / (visit.probe_ns or usual) for visit in visits])
    corrected: FloatVector = minima * np.clip(
        rates, 1 - _LARGEST_CORRECTION, 1 + _LARGEST_CORRECTION
    )
    return corrected
