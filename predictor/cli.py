"""`fit-predictor` and `predict-latency`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, check_apart, whole_file
from device_profiles.machine import EMULATED_REMARK, refuse_emulated
from device_profiles.measurements import (
    SLICE_DEFAULTS,
    Measurements,
    Slice,
    architecture_columns,
    concatenate,
    read_measurements,
    slice_columns,
)
from device_profiles.profile import DeviceProfile, check_same_key
from device_profiles.rows import label_noise
from device_profiles.table import Table, read_table
from predictor.comparison import compare_published
from predictor.explanation import blocks_by_slice, explain, explanation_text
from predictor.fitting import SliceFit, fit_slices
from predictor.model import STATISTIC_COLUMNS, LatencyPredictor, SlicePredictor
from predictor.store import PREDICTOR_FILES, load_predictor, save_predictor
from predictor.summary import fit_summary
from supernet.architecture import ARCHITECTURE_FIELDS, Architecture

REPORT_FILE = "report.html"
_WORKLOAD_COLUMNS = ("sequence_length", "batch_size")

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
    if bool(profiles) == (csv is not None):
        raise InputError("name either device profiles or --csv FILE to fit a predictor to")
    loaded = [DeviceProfile.load(path) for path in profiles or []]
    if len({profile.folder.resolve() for profile in loaded}) < len(loaded):
        raise InputError("a profile is named twice: its rows would count twice")
    check_same_key(loaded)
    if not allow_emulated:
        for profile in loaded:
            refuse_emulated(profile.key, profile.folder, allow="--allow-emulated")
    parts = [profile.measurements for profile in loaded]
    if csv is not None:
        parts = [read_measurements(csv)]
    sources = [str(path) for path in (profiles if csv is None else [csv]) or []]
    for source in sources:
        check_apart(out, {"what the predictor is fitted to": Path(source)})
    measurements = concatenate(parts)
    noise = [label_noise(profile.campaign(), profile.protocol) for profile in loaded]
    request = {
        "sources": [part.sha256 for part in parts],
        "report": report,
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
    if folder.state == "finished":
        before = load_predictor(out)
        return _fit_answer(out, fits, measurements, emulated=before.emulated, finished_before=True)
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
    folder.begin((*PREDICTOR_FILES, REPORT_FILE))
    save_predictor(out, predictor, fits, seed=seed)
    if report:
        with whole_file(out / REPORT_FILE) as file:
            file.write(page)
    folder.finish()
    return _fit_answer(out, fits, measurements, emulated=predictor.emulated)


def _fit_answer(
    out: Path,
    fits: Sequence[SliceFit],
    measurements: Measurements,
    *,
    emulated: bool,
    finished_before: bool = False,
) -> Answer:
    rows = sum(fit.predictor.rows for fit in fits)
    left_out = len(measurements) - rows
    not_ok = sum(verdict != "ok" for verdict in measurements.verdicts)
    text = [fit_summary(fit, compare_published(fit.predictor, measurements)) for fit in fits]
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
    }
    return Answer(data, "\n".join(text))


def predict_latency(
    *,
    predictor: Annotated[Path, typer.Option(help="Folder of the predictor.")],
    csv: Annotated[
        Path | None, typer.Option(help="CSV file with the five columns of a shape.")
    ] = None,
    explain_id: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="L-d-f-h-q",
            help="Say what each block of this shape takes instead.",
        ),
    ] = None,
    statistic: Annotated[
        str, typer.Option(help=f"What is predicted: {', '.join(STATISTIC_COLUMNS)}.")
    ] = "quiet",
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Prints FILE with latency_ms, latency_low_ms and latency_high_ms added.

    FILE has the columns num_layers, hidden_size, ffn_size, num_heads, qkv_size; where it has no
    sequence_length and batch_size, 128 and 1 are meant. Each bound is exceeded by 5 % of
    measurements. Columns of the three names in FILE are replaced. With --explain it prints what
    the embeddings, the attention and the FFN of one shape take, for each workload and target.
    """
    del version  # the frame around every command reads it
    if (csv is None) == (explain_id is None):
        raise InputError("name either --csv FILE or --explain L-d-f-h-q to predict")
    if explain_id is not None:
        return _explained(load_predictor(predictor), Architecture.parse(explain_id), statistic)
    assert csv is not None
    loaded = load_predictor(predictor)
    table = read_table(csv)
    architectures = architecture_columns(table)
    predicted = np.empty((3, len(table)))
    for values, rows in _rows_of_slices(table, loaded).items():
        part = _slice_for(loaded, values, table, rows)
        chosen = architectures[rows]
        outside = part.out_of_range(chosen)
        if len(outside):
            row = int(rows[outside[0]])
            others = f" ({len(outside)} such rows)" if len(outside) > 1 else ""
            raise table.error(row, part.explain_out_of_range(architectures[row]) + others)
        found = part.predict(chosen, statistic)
        predicted[:, rows] = found.latency_ms, found.low_ms, found.high_ms
    if json:
        return Answer(_as_json(table, predicted))
    return Answer({}, _csv_lines(table, predicted))


def _explained(predictor: LatencyPredictor, shape: Architecture, statistic: str) -> Answer:
    """What the blocks of a shape take, for each workload and target."""
    found = [explain(part, shape, statistic) for part in predictor.slices]
    text = "\n\n".join(explanation_text(shape, each) for each in found)
    data = {
        "model_id": str(shape),
        "statistic": statistic,
        "slices": [each.to_json() for each in found],
    }
    return Answer(data, text)


def _rows_of_slices(
    table: Table, predictor: LatencyPredictor
) -> dict[Slice, npt.NDArray[np.int64]]:
    """The rows of each workload and target in a table.

    A target column that the table lacks has the predictor's only value, where it has only one.
    """
    defaults = dict(SLICE_DEFAULTS)
    for index, name in enumerate(SLICE_DEFAULTS):
        known = {part.slice[index] for part in predictor.slices}
        if len(known) == 1 and name not in _WORKLOAD_COLUMNS:
            defaults[name] = known.pop()
    slices, slice_of_row = slice_columns(table, defaults)
    return {values: np.flatnonzero(slice_of_row == index) for index, values in enumerate(slices)}


def _slice_for(
    predictor: LatencyPredictor, values: Slice, table: Table, rows: npt.NDArray[np.int64]
) -> SlicePredictor:
    """The predictor for some rows of a table; an error names the line and what was assumed."""
    try:
        return predictor.slice_for(values)
    except InputError as error:
        missing = [name for name in _WORKLOAD_COLUMNS if name not in table]
        assumed = " and ".join(f"{name} {SLICE_DEFAULTS[name]}" for name in missing)
        hint = f" ({assumed} assumed: the file has no such column)" if missing else ""
        raise table.error(int(rows[0]), f"{error}{hint}") from error


def _as_json(table: Table, predicted: npt.NDArray[np.float64]) -> dict[str, Any]:
    """The table with the predictions, numbers as numbers."""
    kept = table.without(PREDICTION_COLUMNS)
    integers = {*ARCHITECTURE_FIELDS, *_WORKLOAD_COLUMNS, "threads"}

    def value(name: str, field: str) -> int | str:
        return int(field) if name in integers and field.strip() else field

    return {
        "rows": [
            {
                **{n: value(n, field) for n, field in zip(kept.header, fields, strict=True)},
                **dict(zip(PREDICTION_COLUMNS, values, strict=True)),
            }
            for fields, values in zip(kept.rows, predicted.T.tolist(), strict=True)
        ]
    }


def _csv_lines(table: Table, predicted: npt.NDArray[np.float64]) -> Iterator[str]:
    """The lines of the table with the three columns added."""
    kept = table.without(PREDICTION_COLUMNS)
    yield ",".join([kept.header_line, *PREDICTION_COLUMNS]) + "\n"
    columns = [column.tolist() for column in predicted]
    for row in zip(kept.lines, *columns, strict=True):
        yield "%s,%.6g,%.6g,%.6g\n" % row  # noqa: UP031 (a third faster over a million rows)


def fit_predictor_main() -> None:
    """Runs `fit-predictor`."""
    run(fit_predictor, "fit-predictor")


def predict_latency_main() -> None:
    """Runs `predict-latency`."""
    run(predict_latency, "predict-latency")
