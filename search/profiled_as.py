"""The options under which a campaign measures as another one did."""

from __future__ import annotations

from typing import Any

from device_profiles.profile import DeviceProfile
from device_profiles.protocol import Protocol
from device_profiles.quality import PERCENTILES


def options_as_of(profile: DeviceProfile) -> dict[str, Any]:
    """`profile-device`'s options for the processors and the protocol of a profile."""
    options: dict[str, Any] = {}
    if pinned := profile.key.get("pinned_cpus"):
        options["cpus"] = str(pinned)
    protocol = profile.protocol
    if protocol.most_waiting_share >= 1:
        options["under_load"] = True
    for percentile in PERCENTILES:
        wanted = Protocol.for_percentile(percentile)
        if protocol.min_runs == wanted.min_runs > Protocol().min_runs:
            options["percentile"] = percentile
    return options
