"""Which graph variant the model ships in: the one that was said, or the one a profile chose."""

from __future__ import annotations

from autotinybert.errors import InputError
from device_profiles.measurements import SLICE_DEFAULTS
from device_profiles.profile import DeviceProfile
from profiler.variant_choice import AUTO
from search.path_request import PathRequest
from supernet.variants import GraphVariant, check_form


def graph_variant_of(profile: DeviceProfile, request: PathRequest) -> GraphVariant:
    """The variant to search, export and verify.

    Args:
        profile: of the device; its campaign may have chosen a variant by measurement.
        request: what was asked for.

    Raises:
        InputError: if the variant was to be chosen, and the profile has several without saying
            which is the fastest.
    """
    if request.graph_variant != AUTO:
        return _known(request.graph_variant, request.precision)
    chosen = [
        each["graph_variant"]
        for each in profile.document.get("graph_variants", [])
        if (each["threads"], each["precision"]) == (request.threads, request.precision)
    ]
    if not chosen:
        slices = [
            dict(zip(SLICE_DEFAULTS, each, strict=True)) for each in profile.measurements.slices
        ]
        chosen = [
            str(each["graph_variant"])
            for each in slices
            if (each["threads"], each["precision"]) == (request.threads, request.precision)
        ]
    different = sorted(set(chosen))
    if len(different) > 1:
        raise InputError(
            f"{profile.folder} has the graph variants {', '.join(different)} and does not say "
            "which is the fastest: name one with --graph-variant"
        )
    # Where it has none, the slice that is missing is told by name.
    return _known(different[0] if different else "plain", request.precision)


def _known(variant: str, precision: str) -> GraphVariant:
    check_form(variant, precision)
    return variant  # type: ignore[return-value] # checked just before
