"""What a search needs before it begins: method, space, workload, references, feasible set."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from autotinybert.errors import InputError
from device_profiles.measurements import SLICE_DEFAULTS
from predictor.model import LatencyPredictor, SlicePredictor
from search.constraints import Budget
from search.evolution import Evolution, RandomSearch, Searcher
from search.feasible import FeasibleSet, feasible_set
from supernet.architecture import Architecture
from supernet.space import Space, fast_rule
from supernet.space_file import BUILT_IN_SPACES, load_space, space_document

if TYPE_CHECKING:
    from supernet.supernet_folder import Supernet

METHODS = ("evolved", "random", "fast")

# Held-out sequences that an architecture is scored on.
DEFAULT_SEQUENCES = 128

# The steps of the published searcher, in spaces of ours; a user's own space is searched as it is.
_HIDDEN_STEP, _FFN_STEP = 16, 32


def make_searcher(method: str, feasible: FeasibleSet, *, seed: int) -> Searcher:
    """What proposes architectures under a method of `METHODS`."""
    if method == "random":
        return RandomSearch(feasible, seed=seed)
    return Evolution(feasible, seed=seed)


def searched_space(supernet: Supernet, name: str | None) -> Space:
    """The space that is searched, cut to what the SuperPLM holds.

    Raises:
        InputError: if the SuperPLM holds nothing of it.
    """
    largest = supernet.model.config.largest
    if name is None:
        if not _is_built_in(supernet.space, largest):
            return supernet.space
        name = supernet.space.name
    return searched_lattice(name, largest)


def searched_lattice(name: str, largest: Architecture) -> Space:
    """A space in the steps in which it is searched, cut to what a SuperPLM of a shape holds.

    Raises:
        InputError: if it holds nothing of it.
    """
    return load_space(name, hidden_step=_HIDDEN_STEP, ffn_step=_FFN_STEP).clipped(largest)


def feasible_under(
    method: str, space: Space, part: SlicePredictor, budget: Budget, limit_ms: float
) -> FeasibleSet:
    """Everything that a method may propose under a budget.

    Raises:
        InputError: if that is nothing; names the lowest latency there is.
    """
    fast = method == "fast"
    return feasible_set(
        space,
        part,
        limit_ms,
        statistic=budget.statistic,
        rule=fast_rule if fast else None,
        rule_name=method if fast else "",
    )


def _is_built_in(space: Space, largest: Architecture) -> bool:
    """Whether a space is one of ours, cut to a SuperPLM, and not just named like it."""
    if space.name in BUILT_IN_SPACES:
        with suppress(InputError):  # the SuperPLM may hold nothing of ours
            return space_document(load_space(space.name).clipped(largest)) == space_document(space)
    return False


def choose_slice(
    predictor: LatencyPredictor, wanted: dict[str, int | str | None]
) -> SlicePredictor:
    """The predictor's slice that options leave.

    Raises:
        InputError: if they leave none, or several; names those there are.
    """
    left = [
        part
        for part in predictor.slices
        if all(
            value is None or dict(zip(SLICE_DEFAULTS, part.slice, strict=True))[name] == value
            for name, value in wanted.items()
        )
    ]
    if len(left) == 1:
        return left[0]
    known = "; ".join(part.label for part in predictor.slices)
    if not left:
        asked = ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None)
        raise InputError(f"{asked} was not profiled; this predictor has {known}")
    raise InputError(
        f"several workloads or targets were profiled ({known}): choose one with "
        "--sequence-length, --batch-size, --threads, --precision or --graph-variant"
    )
