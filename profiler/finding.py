"""One thing that was found about a machine, and the facts that it was found in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

Level = Literal["ok", "warn", "bad", "unknown"]


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        level: `ok`; `warn` where measurements take longer or hold for this state alone; `bad`
            where they cannot be trusted; `unknown` where the machine does not tell.
        what: what was looked at.
        why: what was seen and what it does to a measurement.
        mend: the command that mends it, or in words what does; empty where nothing is to mend.
    """

    level: Level
    what: str
    why: str
    mend: str = ""

    def to_json(self) -> dict[str, str]:
        """As a JSON object."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """What a machine said; anything may be missing, and then counts as not told.

    Attributes:
        host: as `profiler.host` gathers them.
        texts: of `/proc` and `/sys`, by path.
        stat_before: the first line of `/proc/stat` at the beginning of the sample.
        stat_after: the same at its end.
        processes: the name, pid and part of a core of those that used one, the busiest first.
        clock_resolution_ns: of the clock that runs are timed with.
        allowed_cpus: processors that the measuring process may use.
        machine_cpus: processors of the machine.
    """

    host: Mapping[str, Any]
    texts: Mapping[str, str]
    stat_before: str = ""
    stat_after: str = ""
    processes: Sequence[tuple[str, int, float]] = ()
    clock_resolution_ns: float = math.nan
    allowed_cpus: int = 0
    machine_cpus: int = 0

    @classmethod
    def from_json(cls, host: Mapping[str, Any], value: Mapping[str, Any]) -> Self:
        """Reads what `profiler.doctor_facts` gathered, from a machine that may be another.

        Raises:
            ValueError: if something in it is not of its kind.
        """
        try:
            return cls(
                host=host,
                texts={str(path): str(text) for path, text in value["texts"].items()},
                stat_before=str(value["stat_before"]),
                stat_after=str(value["stat_after"]),
                processes=tuple(
                    (str(one["name"]), int(one["pid"]), float(one["cpu_share"]))
                    for one in value["processes"]
                ),
                clock_resolution_ns=float(value["clock_resolution_ns"]),
                allowed_cpus=int(value["allowed_cpus"]),
                machine_cpus=int(value["machine_cpus"]),
            )
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"facts that are not readable ({error!r})") from error

    def matching(self, beginning: str, end: str) -> dict[str, str]:
        """The texts whose path begins and ends so."""
        return {
            path: text
            for path, text in self.texts.items()
            if path.startswith(beginning) and path.endswith(end)
        }
