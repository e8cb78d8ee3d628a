"""`fit-predictor` and `predict-latency`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, sha256_file, whole_file
from device_profiles.measurements import (
    SLICE_DEFAULTS,
    Measurements,
    Slice,
    architecture_columns,
    concatenate,
    read_measurements,
    slice_columns,
)
from device_profiles.profile import PROFILE_FILE, DeviceProfile, check_same_key
from device_profiles.table import Table, read_table
from predictor.comparison import compare_published
from predictor.fitting import SliceFit, fit_slices
from predictor.model import STATISTIC_COLUMNS, LatencyPredictor
from predictor.store import PREDICTOR_FILES, load_predictor, save_predictor
from predictor.summary import fit_summary

REPORT_FILE = "report.html"
PREDICTION_COLUMNS = ("latency_ms", "latency_low_ms", "latency_high_ms")


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
    seed: Annotated[int, typer.Option(min=0, help="Of the cross-validation's folds.")] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Fits a latency predictor to a device profile and writes it."""
    del json, version  # the frame around every command reads them
    if bool(profiles) == (csv is not None):
        raise InputError("name either device profiles or --csv FILE to fit a predictor to")
    loaded = [DeviceProfile.load(path) for path in profiles or []]
    check_same_key(loaded)
    _refuse_emulated(loaded)
    measurements = (
        read_measurements(csv)
        if csv is not None
        else concatenate([profile.measurements for profile in loaded])
    )
    files = (*PREDICTOR_FILES, *((REPORT_FILE,) if report else ()))
    sources = [str(path) for path in (profiles if csv is None else [csv]) or []]
    hashed = [csv] if csv is not None else [profile.folder / PROFILE_FILE for profile in loaded]
    request = {
        "sources_sha256": [sha256_file(path) for path in hashed],
        "report": report,
        "seed": seed,
    }
    folder = OutputFolder.claim(out, "fit-predictor", request, files=files, overwrite=overwrite)
    fits = fit_slices(measurements, seed=seed)
    if folder.state == "finished":
        return _fit_answer(out, fits, measurements, "was fitted before; nothing was written")
    predictor = LatencyPredictor(
        slices=[fit.predictor for fit in fits],
        key=loaded[0].key if loaded else None,
        target=loaded[0].target if loaded else None,
        references=[row for profile in loaded for row in profile.references],
        sources=sources,
    )
    page = ""
    if report:
        # matplotlib and scikit-learn take seconds to load; only a report needs them.
        from predictor.report import report_page

        page = report_page(fits, loaded, sources, seed=seed)
    folder.begin(files)
    save_predictor(out, predictor, fits, seed=seed)
    if report:
        with whole_file(out / REPORT_FILE) as file:
            file.write(page)
    folder.finish()
    return _fit_answer(out, fits, measurements, "")


def _refuse_emulated(profiles: Sequence[DeviceProfile]) -> None:
    for profile in profiles:
        if profile.key["emulated"]:
            raise InputError(
                f"{profile.folder} was measured under an emulator, which says nothing about a "
                "real device: profile the device itself"
            )


def _fit_answer(
    out: Path, fits: Sequence[SliceFit], measurements: Measurements, remark: str
) -> Answer:
    left_out = sum(verdict != "ok" for verdict in measurements.verdicts)
    text = [fit_summary(fit, compare_published(fit.predictor, measurements)) for fit in fits]
    text.append(
        f"fitted {len(measurements) - left_out} rows"
        + (f", left out {left_out} that are not ok" if left_out else "")
        + f"; wrote {out}"
        + (f" ({remark})" if remark else "")
    )
    data: dict[str, Any] = {
        "predictor": str(out),
        "rows": len(measurements) - left_out,
        "rows_left_out": left_out,
        "slices": [
            {
                **dict(zip(SLICE_DEFAULTS, fit.predictor.slice, strict=True)),
                "chosen": fit.predictor.chosen,
                "statistics": list(fit.predictor.calibrations),
                "held_out_accuracy": {
                    name: found.to_json() for name, found in fit.predictor.accuracies.items()
                },
            }
            for fit in fits
        ],
    }
    return Answer(data, "\n".join(text))


def predict_latency(
    *,
    predictor: Annotated[Path, typer.Option(help="Folder of the predictor.")],
    csv: Annotated[Path, typer.Option(help="CSV file with the five columns of a shape.")],
    statistic: Annotated[
        str, typer.Option(help=f"What is predicted: {', '.join(STATISTIC_COLUMNS)}.")
    ] = "quiet",
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Prints FILE with latency_ms, latency_low_ms and latency_high_ms added.

    The bounds are exceeded by 5 % of measurements each. Columns of these names in FILE are
    replaced.
    """
    del version  # the frame around every command reads it
    loaded = load_predictor(predictor)
    table = read_table(csv)
    architectures = architecture_columns(table)
    predicted = np.empty((3, len(table)))
    for values, rows in _rows_of_slices(table, loaded).items():
        part = loaded.slice_for(values)
        chosen = architectures[rows]
        outside = part.out_of_range(chosen)
        if len(outside):
            row = int(np.arange(len(table))[rows][outside[0]])
            others = f" ({len(outside)} such rows)" if len(outside) > 1 else ""
            raise table.error(row, part.explain_out_of_range(architectures[row]) + others)
        found = part.predict(chosen, statistic)
        predicted[:, rows] = found.latency_ms, found.low_ms, found.high_ms
    if json:
        return Answer(_as_json(table, predicted))
    _print_csv(table, predicted)
    return Answer({})


def _rows_of_slices(
    table: Table, predictor: LatencyPredictor
) -> dict[Slice, slice | np.ndarray[Any, np.dtype[np.int64]]]:
    """The rows of each workload and target in a table.

    A column that the table lacks has the predictor's only value, where it has only one.
    """
    defaults = dict(SLICE_DEFAULTS)
    for index, name in enumerate(SLICE_DEFAULTS):
        known = {part.slice[index] for part in predictor.slices}
        if len(known) == 1 and name not in ("sequence_length", "batch_size"):
            defaults[name] = known.pop()
    if not set(SLICE_DEFAULTS) & set(table.header):
        return {tuple(defaults.values()): slice(None)}
    rows: dict[Slice, list[int]] = {}
    for row, values in enumerate(slice_columns(table, defaults)):
        rows.setdefault(values, []).append(row)
    return {values: np.array(found) for values, found in rows.items()}


def _as_json(table: Table, predicted: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    return {
        "rows": [
            {
                **dict(zip(table.header, fields, strict=True)),
                **dict(zip(PREDICTION_COLUMNS, values, strict=True)),
            }
            for fields, values in zip(table.rows, predicted.T.tolist(), strict=True)
        ]
    }


def _print_csv(table: Table, predicted: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    """Writes the table with the three columns to stdout."""
    kept = table.without(PREDICTION_COLUMNS)
    sys.stdout.write(",".join([kept.header_line, *PREDICTION_COLUMNS]) + "\n")
    columns = [column.tolist() for column in predicted]
    sys.stdout.writelines(
        "%s,%.6g,%.6g,%.6g\n" % row  # noqa: UP031 (twice as fast as an f-string over 10**6 rows)
        for row in zip(kept.lines, *columns, strict=True)
    )


def fit_predictor_main() -> None:
    """Runs `fit-predictor`."""
    run(fit_predictor, "fit-predictor")


def predict_latency_main() -> None:
    """Runs `predict-latency`."""
    run(predict_latency, "predict-latency")
