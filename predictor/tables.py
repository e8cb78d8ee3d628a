"""The spreadsheets beside a predictor: what it was fitted to, and what its blocks take."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autotinybert.files import whole_file
from device_profiles.measurements import SLICE_DEFAULTS
from predictor.fitting import SliceFit
from predictor.lookup_table import LookupTable
from predictor.model import STATISTIC_COLUMNS, SlicePredictor
from supernet.architecture import ARCHITECTURE_FIELDS


def write_training_rows(path: Path, fits: Sequence[SliceFit]) -> None:
    """Writes every row with its held-out predictions; a model that a fit lacks is empty there."""
    statistics = [column for column in STATISTIC_COLUMNS.values()]
    models = list(dict.fromkeys(name for fit in fits for name in fit.held_out_ms))
    predictions = {name: f"held_out_{name.replace('-', '_')}_ms" for name in models}
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            (*ARCHITECTURE_FIELDS, *SLICE_DEFAULTS, *statistics, *predictions.values(), "suspect")
        )
        for fit in fits:
            for row, architecture in enumerate(fit.architectures.tolist()):
                measured = [
                    fit.statistics[name][row] if name in fit.statistics else np.nan
                    for name in statistics
                ]
                writer.writerow(
                    (
                        *architecture,
                        *fit.predictor.slice,
                        *("" if np.isnan(value) else f"{value:.6f}" for value in measured),
                        *(
                            f"{fit.held_out_ms[name][row]:.6f}" if name in fit.held_out_ms else ""
                            for name in models
                        ),
                        int(fit.suspects[row]),
                    )
                )


def write_lookup_tables(path: Path, slices: Sequence[SlicePredictor]) -> None:
    """Writes the blocks of every table that there is."""
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*SLICE_DEFAULTS, "block", "hidden_size", "size", "latency_ms"))
        for part in slices:
            table = part.models.get("lookup-table")
            if table is None:  # a transfer has none
                continue
            assert isinstance(table, LookupTable)
            for block, hidden_size, size, latency_ms in table.blocks():
                writer.writerow(
                    (*part.slice, block, hidden_size or "", size or "", f"{latency_ms:.6f}")
                )
