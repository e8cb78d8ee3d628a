"""What a fitted predictor and the profile behind it have to show, as one page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np

from device_profiles.machine import EMULATED_REMARK
from device_profiles.measurements import describe_slice, slice_of
from device_profiles.profile import DeviceProfile
from device_profiles.rows import rows_of
from device_profiles.target import Configuration
from device_profiles.visits import CampaignRecord
from predictor import page
from predictor.baselines import baseline_accuracies
from predictor.comparison import compare_published
from predictor.figures import campaign_course, measured_against_predicted, speedups
from predictor.fitting import SliceFit
from predictor.summary import (
    ACCURACY_HEADER,
    COMPARISON_HEADER,
    accuracy_rows,
    comparison_rows,
    noise_lines,
    ratio_lines,
    suspect_lines,
)

_MOST_DOUBTFUL_ROWS = 20


def report_page(
    fits: Sequence[SliceFit],
    profiles: Sequence[DeviceProfile],
    sources: Sequence[str],
    *,
    seed: int,
    networks: bool,
) -> str:
    """The page for a fit: accuracy, published shapes, the course of the campaign, the machine.

    Args:
        fits: a fit for each workload and target.
        profiles: what was fitted, where it was profiles; empty for a bare CSV file.
        sources: the files or folders that were fitted.
        seed: of the folds.
        networks: fit the published networks as baselines, too.
    """
    subtitle = (
        f"{profiles[0].target}, {profiles[0].host['cpu_model']}" if profiles else ", ".join(sources)
    )
    sections = [_summary(fits, profiles)]
    if any(profile.key.get("emulated") for profile in profiles):
        sections.append(page.paragraph(EMULATED_REMARK.capitalize()))
    for fit in fits:
        sections += _fit_sections(fit, profiles, seed=seed, networks=networks)
    for profile in profiles:
        campaign = profile.campaign()
        sections += [_course(profile, campaign), _doubtful(profile, campaign), _machine(profile)]
    sections.append(_again(profiles, sources))
    return page.page("Latency of BERT shapes on this device", subtitle, sections)


def _summary(fits: Sequence[SliceFit], profiles: Sequence[DeviceProfile]) -> str:
    first = fits[0].predictor
    found = first.accuracies[first.chosen]
    facts = [
        (f"{first.rows}", "rows fitted"),
        (f"{found.mape:.2%}", "mean error, held out"),
        (f"{found.within_5_percent:.0%}", "of rows within 5 %"),
        (f"{found.worst:.1%}", "worst row"),
    ]
    for profile in profiles[:1]:
        base = profile.references[0]
        if base["latency_ms"] is not None:
            facts.append((f"{base['latency_ms']:.1f} ms", f"{base['name']}, quiet"))
        facts.append((f"{profile.document['elapsed_s']:.0f} s", "of measuring"))
    if len(fits) == 1:
        return page.tiles(facts)
    first_of = f"These are the figures for {first.label}, the first of {len(fits)} workloads and "
    return page.tiles(facts) + page.paragraph(f"{first_of}targets; each has a section below.")


def _fit_sections(
    fit: SliceFit, profiles: Sequence[DeviceProfile], *, seed: int, networks: bool
) -> list[str]:
    predictor = fit.predictor
    accuracies = {**predictor.accuracies, **baseline_accuracies(fit, seed=seed, networks=networks)}
    sections = [
        page.section(
            f"Measured against predicted: {predictor.label}",
            page.figure(
                measured_against_predicted(
                    fit.statistics["latency_ms"],
                    fit.held_out_ms[predictor.chosen],
                    *fit.typical_bounds(),
                ),
                f"Each of {predictor.rows} architectures, predicted by a model that had not seen "
                "it. Latencies are quiet latencies: the expected fastest run of four visits.",
            ),
            page.table(ACCURACY_HEADER, accuracy_rows(accuracies, predictor.chosen)),
            *map(page.paragraph, [*noise_lines(fit), *ratio_lines(fit), *suspect_lines(fit)]),
        )
    ]
    for profile in profiles:
        if predictor.slice not in profile.measurements.slices:
            continue
        compared = compare_published(predictor, profile.measurements)
        sections.append(
            page.section(
                f"Published shapes on this device: {predictor.label}",
                page.figure(
                    speedups(compared),
                    "Bars: against BERT-base on this machine through ONNX Runtime. Diamonds: what "
                    "the papers print, measured by their authors in PyTorch on other hardware.",
                ),
                page.table(
                    (*COMPARISON_HEADER, "GLUE", "SQuAD"),
                    [
                        (*cells, row.shape.glue, row.shape.squad_f1)
                        for cells, row in zip(comparison_rows(compared), compared, strict=True)
                    ],
                ),
                page.paragraph(
                    "~ is a noisy measurement. Latencies and speed-ups are empty where a shape "
                    "was not measured and lies outside the range that was. GLUE and SQuAD v1 (F1) "
                    "are dev scores as printed in the papers, empty where we have none."
                ),
            )
        )
    return sections


def _course(profile: DeviceProfile, campaign: CampaignRecord) -> str:
    visits = campaign.visits
    best = np.full(len(campaign.configurations), np.inf)
    for visit in visits:
        best[visit.configuration] = min(best[visit.configuration], visit.minimum_ns)
    rounds: dict[int, float] = {}
    for visit in visits:
        rounds.setdefault(visit.round, visit.started_s)
    slow = [block for block in profile.blocks if block["slow"]]
    slow_numbers = {block["block"] for block in slow}
    remark = (
        f"{len(slow)} of {len(profile.blocks)} blocks were slow (more than "
        f"{profile.protocol.slow_factor - 1:.0%} above quiet blocks): "
        + "; ".join(
            f"round {block['round']} at {block['started_s']:.0f} s, {block['factor'] - 1:+.0%}"
            for block in slow[:8]
        )
        if slow
        else f"None of {len(profile.blocks)} blocks was slow."
    )
    return page.section(
        "Where the machine was slow",
        page.figure(
            campaign_course(
                np.array([visit.started_s for visit in visits]),
                np.array([visit.minimum_ns / best[visit.configuration] for visit in visits]) - 1,
                np.array([visit.block in slow_numbers for visit in visits]),
                [(start, number) for number, start in rounds.items()],
            ),
            "Each dot is a visit. Rounds visit every configuration once, in shuffled order, from "
            "fresh processes; visits in slow blocks are not accepted and are made up for.",
        ),
        page.paragraph(remark),
    )


def _doubtful(profile: DeviceProfile, campaign: CampaignRecord) -> str:
    rows = rows_of(campaign, profile.protocol)
    several = len({(row.configuration.workload, row.configuration.target) for row in rows}) > 1

    def describe(configuration: Configuration) -> str:
        where = describe_slice(slice_of(configuration))
        return f"{configuration.architecture}{f', {where}' if several else ''}"

    doubtful = [row for row in rows if row.verdict != "ok"]
    if not doubtful:
        return page.section("Verdicts", page.paragraph(f"All {len(rows)} rows are ok."))
    left = len(doubtful) - _MOST_DOUBTFUL_ROWS
    return page.section(
        "Verdicts",
        page.paragraph(
            f"{len(doubtful)} of {len(rows)} rows are not ok; a fit leaves them out as long as it "
            "has 20 others."
            + (f" {left} more than are shown here stand in latencies.csv." if left > 0 else "")
        ),
        page.table(
            ("L-d-f-h-q", "verdict", "reason"),
            [
                (describe(row.configuration), row.verdict, row.reason)
                for row in doubtful[:_MOST_DOUBTFUL_ROWS]
            ],
        ),
    )


def _machine(profile: DeviceProfile) -> str:
    host = profile.host
    names = {
        "cpu_model": "CPU",
        "cpu_count": "cores",
        "memory_gib": "memory (GiB)",
        "virtualised": "virtual machine",
        "governor": "frequency governor",
        "boost": "boost",
        "kernel": "kernel",
        "operating_system": "system",
        "onnxruntime_version": "ONNX Runtime",
        "python": "Python",
        "load_average": "load before measuring",
    }
    return page.section(
        "The machine",
        page.facts(
            [
                *((label, host.get(name, "unknown")) for name, label in names.items()),
                ("instruction sets", " ".join(host["isa_flags"])),
                ("measurement key", profile.document["measurement_key_hash"]),
                ("measured (UTC)", profile.document["created_utc"]),
            ]
        ),
    )


def _again(profiles: Sequence[DeviceProfile], sources: Sequence[str]) -> str:
    lines = []
    for profile in profiles:
        lines.append(f"profile-device {shlex.join(profile.document['arguments'])} --out NEW")
    fitted = " ".join(map(shlex.quote, sources))
    if not profiles:
        fitted = f"--csv {fitted}"
    lines.append(f"fit-predictor {fitted} --report --out PREDICTOR")
    return page.section("Run it again", page.commands(lines))
