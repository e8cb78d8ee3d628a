"""Latencies at one clock rate: a core that boosts now and then is no faster machine.

A core's clock follows its own load, its neighbours' and its temperature, and moves by several per
cent within minutes, both ways. A fixed piece of arithmetic is timed after every run of a visit; its
median over the visit tells the clock rate, and the visit's latency is told at the campaign's quiet
clock rate: the one that a tenth of its visits reach. Campaigns differ in how often the core was at
its highest rate and hardly in what that rate is, so labels of two campaigns agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from device_profiles.visits import Visit

FloatVector = npt.NDArray[np.float64]

# So few visits may be above the quiet rate: a single probe that was too fast decides nothing.
_FASTEST_SHARE = 0.1

# What is further off than this is no boost but another state of the machine, which has to show.
_LARGEST_CORRECTION = 0.1


def quiet_probe_ns(visits: Sequence[Visit]) -> float | None:
    """What the probe took in the fastest tenth of undisturbed visits; None if one lacks it."""
    probes = [visit.probe_ns for visit in visits if not visit.disturbed]
    known = [probe for probe in probes if probe is not None]
    if not known or len(known) < len(probes):
        return None
    return float(np.quantile(known, _FASTEST_SHARE, method="inverted_cdf"))


def minima_at_quiet_clock(visits: Sequence[Visit]) -> FloatVector:
    """The fastest run of each visit, in nanoseconds at the campaign's quiet clock rate, `[V]`.

    Without a probe in every undisturbed visit they are as they were timed.
    """
    minima = np.array([visit.minimum_ns for visit in visits], dtype=np.float64)
    quiet = quiet_probe_ns(visits)
    if quiet is None:
        return minima
    rates = np.array([quiet / (visit.probe_ns or quiet) for visit in visits])
    corrected: FloatVector = minima * np.clip(
        rates, 1 - _LARGEST_CORRECTION, 1 + _LARGEST_CORRECTION
    )
    return corrected
