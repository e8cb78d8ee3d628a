"""`compare-profiles`: what changed between two device profiles."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from autotinybert.command import Answer, JsonOption, VersionOption
from autotinybert.command import main as run
from autotinybert.text_table import text_table
from device_profiles.comparison import (
    NEAR,
    ProfileComparison,
    Ratios,
    compare_profiles,
    describe_row,
)
from device_profiles.measurements import describe_slice
from device_profiles.profile import DeviceProfile


def compare_profiles_command(
    first: Annotated[Path, typer.Argument(metavar="A", help="A device profile.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another, of any machine.")],
    *,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Says what changed from device profile A to device profile B.

    They may be of different machines or builds. Only rows that are ok in both are compared.
    """
    del json, version  # the frame around every command reads them
    profiles = DeviceProfile.load(first), DeviceProfile.load(second)
    found = compare_profiles(*profiles)
    data = {"a": str(first), "b": str(second), **found.to_json()}
    return Answer(data, comparison_text(found, first, second), exit_code=0 if found.told else 1)


def comparison_text(found: ProfileComparison, first: Path, second: Path) -> str:
    """What a person reads."""
    lines = [f"A is {first}, B is {second}; a ratio above 1 means that B is slower"]
    if found.key:
        lines.append("their measurement keys differ: predictors are never fitted to both together")
        lines += [f"  {difference}" for difference in found.key]
    else:
        lines.append("the same kind of machine and build: their measurement keys are equal")
    lines += _differences("host", found.facts) + _differences("protocol", found.protocol)
    lines.append(
        f"{found.shared} rows in both, {found.compared} of them ok in both; "
        f"{found.only_first} only in A, {found.only_second} only in B"
    )
    if found.quiet is not None:
        lines.append(_ratio_table(found, found.quiet))
        lines.append(_worst_table(found.quiet))
    if found.references:
        rows = [
            (name, describe_slice(row.slice), *_figures(row.first_ms, row.second_ms, row.ratio))
            for name, row in found.references
        ]
        header = ("reference", "workload and target", "A ms", "B ms", "B / A")
        lines.append(text_table(header, rows))
    lines.append(found.verdict)
    return "\n".join(lines)


def _differences(what: str, values: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [
        f"{what}: {name} {_brief(before)} / {_brief(after)}"
        for name, (before, after) in values.items()
    ]


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else json_text.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _ratio_table(found: ProfileComparison, quiet: Ratios) -> str:
    named = [("quiet latency", quiet)]
    if found.p50 is not None:
        named.append(("p50", found.p50))
    if len(found.slices) > 1:
        named += [(describe_slice(values), ratios) for values, ratios in found.slices.items()]
    rows = [
        (
            name,
            ratios.rows,
            *(
                f"{value:.3f}"
                for value in (ratios.lower_quartile, ratios.median, ratios.upper_quartile)
            ),
            f"{ratios.share_near:.0%}",
            f"{ratios.factor:.3f}",
            f"{ratios.spread:.1%}",
            f"{ratios.swapped:.1%}",
        )
        for name, ratios in named
    ]
    header = (
        *("B / A", "rows", "25 %", "median", "75 %", f"within {NEAR:.0%}"),
        *("factor", "spread", "swapped"),
    )
    return (
        f"{text_table(header, rows)}\n"
        "factor: geometric mean; spread: what nine of ten rows differ by at most once the factor "
        "is taken out;\nswapped: pairs of rows in another order"
    )


def _worst_table(ratios: Ratios) -> str:
    rows = [
        (describe_row(row), *_figures(row.first_ms, row.second_ms, row.ratio))
        for row in ratios.worst
    ]
    return text_table(("farthest from the factor", "A ms", "B ms", "B / A"), rows)


def _figures(first_ms: float, second_ms: float, ratio: float) -> tuple[str, str, str]:
    return f"{first_ms:.2f}", f"{second_ms:.2f}", f"{ratio:.3f}"


def main() -> None:
    """Runs `compare-profiles`."""
    run(compare_profiles_command, "compare-profiles")


if __name__ == "__main__":
    main()
