"""`predict-latency`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from autotinybert.command import Answer, JsonOption, VersionOption
from autotinybert.command import main as run
from autotinybert.errors import InputError
from device_profiles.lengths import LengthHistogram
from device_profiles.measurements import (
    SLICE_DEFAULTS,
    Slice,
    architecture_columns,
    slice_columns,
)
from device_profiles.table import Table, read_table
from predictor.explanation import explain, explanation_text
from predictor.mixture import SHARES, mixture_mean, mixture_percentile
from predictor.model import STATISTIC_COLUMNS, LatencyPredictor, SlicePredictor
from predictor.store import load_predictor
from profiler.workload_options import lengths_of
from supernet.architecture import ARCHITECTURE_FIELDS, Architecture, IntMatrix

_WORKLOAD_COLUMNS = ("sequence_length", "batch_size")

PREDICTION_COLUMNS = ("latency_ms", "latency_low_ms", "latency_high_ms")
MIXTURE_COLUMNS = ("expected_ms", "p95_ms")


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
    lengths_from: Annotated[
        Path | None,
        typer.Option(help="Lengths, or texts with --tokenizer: what a mixture of them costs."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Hugging Face BERT folder, tokenizer.json or vocab.txt for the texts."),
    ] = None,
    num_lengths: Annotated[
        int | None, typer.Option(min=1, help="Most lengths that texts are padded to; default 4.")
    ] = None,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Prints FILE with latency_ms, latency_low_ms and latency_high_ms added.

    FILE has the columns num_layers, hidden_size, ffn_size, num_heads, qkv_size; where it has no
    sequence_length and batch_size, 128 and 1 are meant. Each bound is exceeded by 5 % of
    measurements. Columns of the three names in FILE are replaced. With --explain it prints what
    the embeddings, the attention and the FFN of one shape take, for each workload and target.

    With --lengths-from the columns are expected_ms, the mean of medians over the lengths of texts,
    and p95_ms, which 5 % of their runs exceed.
    """
    del version  # the frame around every command reads it
    lengths = lengths_of(
        lengths_from, tokenizer=tokenizer, num_lengths=num_lengths, sequence_length=None
    )
    if (csv is None) == (explain_id is None):
        raise InputError("name either --csv FILE or --explain L-d-f-h-q to predict")
    if explain_id is not None:
        if lengths is not None:
            raise InputError("--explain is of one run, not of a mixture: leave out --lengths-from")
        return _explained(load_predictor(predictor), Architecture.parse(explain_id), statistic)
    assert csv is not None
    loaded = load_predictor(predictor)
    table = read_table(csv)
    architectures = architecture_columns(table)
    if lengths is not None:
        mixed = _mixture(table, loaded, architectures, lengths)
        if json:
            return Answer(_as_json(table, mixed, MIXTURE_COLUMNS))
        return Answer({}, _csv_lines(table, mixed, MIXTURE_COLUMNS))
    predicted = np.empty((3, len(table)))
    for values, rows in _rows_of_slices(table, loaded).items():
        part = _slice_for(loaded, values, table, rows)
        _check_range(part, table, architectures, rows)
        found = part.predict(architectures[rows], statistic)
        predicted[:, rows] = found.latency_ms, found.low_ms, found.high_ms
    if json:
        return Answer(_as_json(table, predicted, PREDICTION_COLUMNS))
    return Answer({}, _csv_lines(table, predicted, PREDICTION_COLUMNS))


def _mixture(
    table: Table, predictor: LatencyPredictor, architectures: IntMatrix, lengths: LengthHistogram
) -> npt.NDArray[np.float64]:
    """Mean and 95th percentile of each row's latency over texts of these lengths, `[2, N]`."""
    if "sequence_length" in table:
        raise InputError(
            f"{table.path} has a column sequence_length: leave it out with --lengths-from"
        )
    found = np.empty((2, len(table)))
    weights = np.array(list(lengths.counts.values()), dtype=np.float64)
    for values, rows in _rows_of_slices(table, predictor).items():
        statistics: list[dict[str, npt.NDArray[np.float64]]] = []
        for length in lengths.sequence_lengths:
            part = _slice_for(predictor, (length, *values[1:]), table, rows)
            _check_range(part, table, architectures, rows)
            part.calibration("p50")  # refuses a predictor that has none
            known = [name for name in SHARES if name in part.calibrations]
            statistics.append(
                {name: part.predict(architectures[rows], name).latency_ms for name in known}
            )
        found[0, rows] = mixture_mean(weights, np.stack([each["p50"] for each in statistics]))
        found[1, rows] = mixture_percentile(weights, statistics, 0.95)
    return found


def _check_range(
    part: SlicePredictor, table: Table, architectures: IntMatrix, rows: npt.NDArray[np.int64]
) -> None:
    """Refuses rows of a table that lie outside what was measured; names the first one's line."""
    outside = part.out_of_range(architectures[rows])
    if len(outside):
        row = int(rows[outside[0]])
        others = f" ({len(outside)} such rows)" if len(outside) > 1 else ""
        raise table.error(row, part.explain_out_of_range(architectures[row]) + others)


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


def _as_json(
    table: Table, predicted: npt.NDArray[np.float64], columns: Sequence[str]
) -> dict[str, Any]:
    """The table with the predictions `[C, N]` under C names, numbers as numbers."""
    kept = table.without(columns)
    integers = {*ARCHITECTURE_FIELDS, *_WORKLOAD_COLUMNS, "threads"}

    def value(name: str, field: str) -> int | str:
        return int(field) if name in integers and field.strip() else field

    return {
        "rows": [
            {
                **{n: value(n, field) for n, field in zip(kept.header, fields, strict=True)},
                **dict(zip(columns, values, strict=True)),
            }
            for fields, values in zip(kept.rows, predicted.T.tolist(), strict=True)
        ]
    }


def _csv_lines(
    table: Table, predicted: npt.NDArray[np.float64], columns: Sequence[str]
) -> Iterator[str]:
    """The lines of the table with the predictions `[C, N]` added under C names."""
    kept = table.without(columns)
    yield ",".join([kept.header_line, *columns]) + "\n"
    template = "%s" + ",%.6g" * len(columns) + "\n"
    for row in zip(kept.lines, *(column.tolist() for column in predicted), strict=True):
        yield template % row  # a third faster over a million rows than a format string


def predict_latency_main() -> None:
    """Runs `predict-latency`."""
    run(predict_latency, "predict-latency")
