"""What a campaign measures besides latencies, as its journal tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from device_profiles.footprint import Footprint
from device_profiles.lengths import LengthHistogram
from device_profiles.sustained import LoadSeries
from device_profiles.target import Configuration
from supernet.architecture import Architecture

ExtraKind = Literal["footprint", "sustained"]
EXTRA_KINDS: tuple[ExtraKind, ...] = get_args(ExtraKind)


@dataclass
class Extras:
    """Footprints and lasting loads so far, by the index of their configuration.

    Attributes:
        footprints: those taken.
        loads: lasting loads.
        failures: what could not be measured, and why; it is not tried again.
    """

    footprints: dict[int, Footprint] = field(default_factory=dict)
    loads: dict[int, LoadSeries] = field(default_factory=dict)
    failures: dict[tuple[ExtraKind, int], str] = field(default_factory=dict)

    def add(self, index: int, record: Mapping[str, Any]) -> None:
        """Takes in one record of the journal.

        Raises:
            LookupError, ValueError: if it is not of a kind that a campaign writes.
        """
        kind: ExtraKind = record["kind"]
        if "error" in record:
            self.failures[kind, index] = str(record["error"])
        elif kind == "footprint":
            self.footprints[index] = Footprint.from_json(record)
        else:
            self.loads[index] = LoadSeries.from_json(record)

    def is_done(self, kind: ExtraKind, index: int) -> bool:
        """Whether it was measured, or tried in vain."""
        found: Mapping[int, object] = self.footprints if kind == "footprint" else self.loads
        return index in found or (kind, index) in self.failures

    def document(
        self, configurations: Sequence[Configuration], names: Mapping[Architecture, str]
    ) -> dict[str, list[dict[str, Any]]]:
        """What `profile.json` says of it; of what was not asked for, nothing.

        Args:
            configurations: the plan.
            names: of the reference architectures.
        """

        def described(index: int) -> dict[str, Any]:
            configuration = configurations[index]
            name = names.get(configuration.architecture, str(configuration.architecture))
            return {"name": name, **configuration.to_json()}

        def failed(kind: ExtraKind) -> list[dict[str, Any]]:
            return [
                {**described(index), "error": error}
                for (failed_kind, index), error in self.failures.items()
                if failed_kind == kind
            ]

        footprints = [
            {**described(index), **footprint.to_json()}
            for index, footprint in self.footprints.items()
        ]
        loads = [_load(described(index), series) for index, series in self.loads.items()]
        found = {
            "footprints": footprints + failed("footprint"),
            "sustained": loads + failed("sustained"),
        }
        return {name: rows for name, rows in found.items() if rows}


def _load(described: Mapping[str, Any], series: LoadSeries) -> dict[str, Any]:
    summary = series.summary()
    return {
        **described,
        "load_s": series.second[-1] + 1,
        "runs": sum(series.runs),
        "cold_ms": round(summary.cold_ms, 6),
        "sustained_ms": round(summary.sustained_ms, 6),
        "ratio": round(summary.ratio, 4),
        "steal_ms": series.steal_ms,
        "verdict": summary.verdict,
        "reason": summary.reason,
    }


def lengths_document(
    lengths: LengthHistogram, reference_rows: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """What `profile.json` says of a user's texts.

    Args:
        lengths: of the texts.
        reference_rows: the reference rows of the profile, one for each sequence length.

    Returns:
        The histogram, and under `expected` for each reference, batch size and target the mean
        over the texts of `latency_ms` and of `p50_ms`; None where a length has none.
    """
    # Rows that differ in the sequence length and what was measured alone belong together.
    shared = ("name", "model_id", "batch_size", "threads", "precision", "graph_variant", "provider")
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in reference_rows:
        groups.setdefault(tuple(row[name] for name in shared), []).append(row)
    expected = [
        {
            **dict(zip(shared, values, strict=True)),
            **{
                f"mean_{statistic}": lengths.mean(
                    {row["sequence_length"]: row[statistic] for row in rows}
                )
                for statistic in ("latency_ms", "p50_ms")
            },
        }
        for values, rows in groups.items()
    ]
    return {
        **lengths.to_json(),
        "padding_share": round(lengths.padding_share, 4),
        "expected": expected,
    }
