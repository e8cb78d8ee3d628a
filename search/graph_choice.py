"""Which graph variant the model ships in: the one that was said, or the fastest of a profile."""

from __future__ import annotations

import math

from device_profiles.measurements import SLICE_DEFAULTS
from device_profiles.profile import DeviceProfile
from profiler.variant_choice import AUTO, LEAST_GAIN
from search.path_request import PathRequest
from supernet.variants import GraphVariant, check_form


def graph_variant_of(profile: DeviceProfile, request: PathRequest) -> GraphVariant:
    """The variant to search, export and verify.

    Where it is not said, it is what the profile's campaign chose by measurement. A profile that
    chose nothing is asked by its rows: of the variants that were measured under what is asked, the
    fastest over the shapes that all have, which leaves `plain` only for a real gain.

    Args:
        profile: of the device.
        request: what was asked for.

    Raises:
        InputError: if variant and precision do not go together.
    """
    if request.graph_variant != AUTO:
        return _known(request.graph_variant, request.precision)
    for each in profile.document.get("graph_variants", []):
        if (each["threads"], each["precision"]) == (request.threads, request.precision):
            return _known(each["graph_variant"], request.precision)
    return _known(_fastest(_latencies(profile, request)), request.precision)


def _latencies(profile: DeviceProfile, request: PathRequest) -> dict[str, dict[bytes, float]]:
    """By variant and architecture, the quiet latency in milliseconds of rows that are `ok`."""
    asked = {**request.workload_options(), "precision": request.precision}
    found: dict[str, dict[bytes, float]] = {}
    measured = profile.measurements
    for row, values in enumerate(measured.slices):
        named = dict(zip(SLICE_DEFAULTS, values, strict=True))
        if all(named[name] == value for name, value in asked.items() if value is not None):
            latencies = found.setdefault(str(named["graph_variant"]), {})
            if measured.verdicts[row] == "ok":
                architecture = measured.architectures[row].tobytes()
                latencies[architecture] = float(measured.statistics["latency_ms"][row])
    return found


def _fastest(latencies: dict[str, dict[bytes, float]]) -> str:
    if len(latencies) <= 1:
        # Where there is none, the slice that is missing is told by name.
        return next(iter(latencies), "plain")
    shared = set.intersection(*(set(each) for each in latencies.values()))
    mean_log = {
        variant: sum(math.log(each[shape]) for shape in shared) / max(len(shared), 1)
        for variant, each in latencies.items()
    }
    fastest = min(mean_log, key=mean_log.__getitem__)
    if "plain" in mean_log and mean_log["plain"] - mean_log[fastest] < math.log1p(LEAST_GAIN):
        return "plain"
    return fastest


def _known(variant: str, precision: str) -> GraphVariant:
    check_form(variant, precision)
    return variant  # type: ignore[return-value] # checked just before
