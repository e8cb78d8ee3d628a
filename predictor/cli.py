"""`fit-predictor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, check_apart, whole_file
from device_profiles.machine import EMULATED_REMARK, refuse_emulated
from device_profiles.measurements import (
    SLICE_DEFAULTS,
    Measurements,
    concatenate,
    read_measurements,
)
from device_profiles.profile import DeviceProfile, check_same_key
from device_profiles.rows import label_noise
from predictor.comparison import compare_published
from predictor.explanation import blocks_by_slice
from predictor.fitting import SliceFit, fit_slices
from predictor.model import LatencyPredictor
from predictor.store import PREDICTOR_FILES, load_predictor, save_predictor
from predictor.summary import fit_summary, workload_summary
from predictor.transfer_cli import load_known, transfer
from predictor.transfer_cli import suggest as suggest_shapes_for
from predictor.workload_model import WorkloadModel, fit_workload_models, join_workloads

REPORT_FILE = "report.html"


def fit_predictor(
    profiles: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PROFILE...", help="Device profiles of one kind of machine."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder of the predictor.")],
    csv: Annotated[
        Path | None, typer.Option(help="Measurements made elsewhere, instead of a profile.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Add baselines and a page with figures.")
    ] = False,
    baselines: Annotated[
        str,
        typer.Option(
            metavar="all|quick", help="Of the report; the published networks take a minute or two."
        ),
    ] = "all",
    transfer_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PREDICTOR",
            help="Of a device that this one may resemble, for 3 shapes or more; repeatable.",
        ),
    ] = None,
    suggest: Annotated[
        int | None,
        typer.Option(min=1, help="With --transfer-from: write so many shapes to measure to --out."),
    ] = None,
    allow_emulated: Annotated[
        bool,
        typer.Option("--allow-emulated", help="Accept profiles made under an emulator."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the cross-validation's folds.")] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Fits a latency predictor to a device profile and writes it."""
    del json, version  # the frame around every command reads them
    if baselines not in ("all", "quick"):
        raise InputError(f"--baselines {baselines!r} is unknown: use all or quick")
    known = load_known(transfer_from or [], allow_emulated=allow_emulated)
    if suggest is not None:
        if not known or profiles or csv is not None:
            raise InputError("--suggest N goes with --transfer-from and --out FILE.csv alone")
        return suggest_shapes_for(known, suggest, out, overwrite=overwrite)
    loaded, parts, sources = _inputs(profiles or [], csv, allow_emulated=allow_emulated)
    for source in [*sources, *(device.name for device in known)]:
        check_apart(out, {"what the predictor is fitted to": Path(source)})
    if known:
        if report:
            raise InputError("--report is of a fit to 20 shapes or more: leave it out")
        return transfer(known, loaded, parts, sources, out, overwrite=overwrite)
    measurements = concatenate(parts)
    noise = [label_noise(profile.campaign(), profile.protocol) for profile in loaded]
    request = {
        "sources": [part.sha256 for part in parts],
        "report": report,
        **({"baselines": baselines} if report else {}),
        "seed": seed,
    }
    files = (*PREDICTOR_FILES, *((REPORT_FILE,) if report else ()))
    folder = OutputFolder.claim(out, "fit-predictor", request, files=files, overwrite=overwrite)
    fits = fit_slices(
        measurements,
        seed=seed,
        label_noise=np.concatenate(noise) if noise else None,
        block_times=blocks_by_slice(loaded),
    )
    between = fit_workload_models(fits, seed=seed)
    fits = join_workloads(fits, between, seed=seed)
    if folder.state == "finished":
        before = load_predictor(out)
        return _fit_answer(
            out, fits, between, measurements, emulated=before.emulated, finished_before=True
        )
    predictor = LatencyPredictor(
        slices=[fit.predictor for fit in fits],
        key=loaded[0].key if loaded else None,
        target=loaded[0].target if loaded else None,
        references=[row for profile in loaded for row in profile.references],
        sources=sources,
        workload_models=between,
    )
    page = ""
    if report:
        # matplotlib and scikit-learn take seconds to load; only a report needs them.
        from predictor.report import report_page

        page = report_page(fits, loaded, sources, seed=seed, networks=baselines == "all")
    folder.begin((*PREDICTOR_FILES, REPORT_FILE))
    save_predictor(out, predictor, fits, seed=seed)
    if report:
        with whole_file(out / REPORT_FILE) as file:
            file.write(page)
    folder.finish()
    return _fit_answer(out, fits, between, measurements, emulated=predictor.emulated)


def _inputs(
    profiles: Sequence[Path], csv: Path | None, *, allow_emulated: bool
) -> tuple[list[DeviceProfile], list[Measurements], list[str]]:
    """The profiles, their measurements or those of a CSV file, and how they were named.

    Raises:
        InputError: if they do not go together, or may not be fitted.
    """
    if bool(profiles) == (csv is not None):
        raise InputError("name either device profiles or --csv FILE to fit a predictor to")
    if csv is not None:
        return [], [read_measurements(csv)], [str(csv)]
    loaded = [DeviceProfile.load(path) for path in profiles]
    if len({profile.folder.resolve() for profile in loaded}) < len(loaded):
        raise InputError("a profile is named twice: its rows would count twice")
    check_same_key(loaded)
    if not allow_emulated:
        for profile in loaded:
            refuse_emulated(profile.key, profile.folder, allow="--allow-emulated")
    return loaded, [profile.measurements for profile in loaded], list(map(str, profiles))


def _fit_answer(
    out: Path,
    fits: Sequence[SliceFit],
    between: Sequence[WorkloadModel],
    measurements: Measurements,
    *,
    emulated: bool,
    finished_before: bool = False,
) -> Answer:
    rows = sum(fit.predictor.rows for fit in fits)
    left_out = len(measurements) - rows
    not_ok = sum(verdict != "ok" for verdict in measurements.verdicts)
    text = [fit_summary(fit, compare_published(fit.predictor, measurements)) for fit in fits]
    text += [workload_summary(model) for model in between]
    fitted = f"fitted {rows} rows"
    if not_ok > left_out:
        fitted += f", {not_ok - left_out} noisy ones among them, for too few are ok"
    if left_out:
        fitted += f", left out {left_out} that are not ok"
    if emulated:
        text.append(EMULATED_REMARK)
    before = f"{out} was fitted before; nothing was written"
    text.append(before if finished_before else f"{fitted}; wrote {out}")
    data: dict[str, Any] = {
        "predictor": str(out),
        "rows": rows,
        "rows_left_out": left_out,
        "emulated": emulated,
        "finished_before": finished_before,
        "slices": [
            {
                **dict(zip(SLICE_DEFAULTS, fit.predictor.slice, strict=True)),
                "chosen": fit.predictor.chosen,
                "statistics": list(fit.predictor.calibrations),
                "label_noise": fit.predictor.label_noise,
                "suspect_rows": [
                    {"model_id": str(shape), "latency_ms": measured_ms, "expected_ms": expected_ms}
                    for shape, measured_ms, expected_ms in fit.suspect_rows()
                ],
                "held_out_accuracy": {
                    name: found.to_json() for name, found in fit.predictor.accuracies.items()
                },
            }
            for fit in fits
        ],
        "workload_models": [
            {
                **dict(zip(tuple(SLICE_DEFAULTS)[2:], model.target, strict=True)),
                "workloads": [list(pair) for pair in model.workloads],
                "held_out_accuracy": model.held_out.to_json(),
            }
            for model in between
        ],
    }
    return Answer(data, "\n".join(text))


def fit_predictor_main() -> None:
    """Runs `fit-predictor`."""
    run(fit_predictor, "fit-predictor")
