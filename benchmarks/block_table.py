"""What tables of measured blocks are worth beside fitted ones and beside regressors.

    python -m benchmarks.block_table PROFILE

PROFILE was made with `profile-device --blocks`. For each workload and target: errors of whole-model
latencies held out by architecture, in ten folds. The raw sum of blocks has seen no model at all.
`corrected` is a measured table times the smooth correction that the best regressor has, too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from autotinybert.text_table import text_table
from device_profiles.blocks import BlockTime
from device_profiles.measurements import describe_slice
from device_profiles.profile import DeviceProfile
from predictor.correction import Correction
from predictor.explanation import blocks_by_slice
from predictor.fitting import FloatVector, assign_folds, fit_slices, held_out_predictions
from predictor.lookup_table import LookupTable
from predictor.metrics import accuracy
from predictor.model import MODELS
from predictor.summary import ACCURACY_HEADER, accuracy_rows
from supernet.architecture import IntMatrix


@dataclass(frozen=True)
class CorrectedTable:
    """A measured table, calibrated, times a smooth correction."""

    table: LookupTable
    correction: Correction

    @classmethod
    def fit(
        cls, blocks: list[BlockTime], architectures: IntMatrix, latency_ms: FloatVector
    ) -> Self:
        """Fits the factors, then the correction to what they miss."""
        table = LookupTable.from_blocks(blocks, architectures, latency_ms)
        missed = np.log(latency_ms / table.predict(architectures))
        return cls(table, Correction.fit(architectures, missed))

    def predict(self, architectures: IntMatrix) -> FloatVector:
        """Latencies in milliseconds, `[N]`."""
        found: FloatVector = self.table.predict(architectures) * np.exp(
            self.correction.predict(architectures)
        )
        return found

    def to_json(self) -> dict[str, object]:
        """As a JSON object."""
        return {"table": self.table.to_json(), "correction": self.correction.to_json()}


def main() -> None:
    """Prints a table of held-out errors for each workload and target that has blocks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("profile", type=Path)
    profile = DeviceProfile.load(parser.parse_args().profile)
    blocks = blocks_by_slice([profile])
    if not blocks:
        parser.error("this profile has no blocks: make one with profile-device --blocks")
    for fit in fit_slices(profile.measurements):
        values = fit.predictor.slice
        if values not in blocks:
            continue
        times, rows = blocks[values], fit.architectures
        latency_ms = fit.statistics["latency_ms"]
        folds = assign_folds(rows, seed=0)
        raw = LookupTable.measured(times)
        predicted = {
            "blocks, raw sum": raw.predict(rows),
            "blocks, calibrated": held_out_predictions(
                partial(LookupTable.from_blocks, times), rows, latency_ms, folds
            ),
            "blocks, corrected": held_out_predictions(
                partial(CorrectedTable.fit, times), rows, latency_ms, folds
            ),
            "fitted table": fit.held_out_ms["lookup-table"],
            **{name: fit.held_out_ms[name] for name in MODELS if name != "lookup-table"},
        }
        best = fit.predictor.chosen
        accuracies = {name: accuracy(latency_ms, found) for name, found in predicted.items()}
        print(f"{describe_slice(values)}: {len(rows)} rows, {len(times)} blocks")
        print(text_table(ACCURACY_HEADER, accuracy_rows(accuracies, best)))
        factors = raw.calibrated(rows, latency_ms).calibration
        assert factors is not None
        print("factors of embeddings, attention and FFN: " + ", ".join(f"{f:.3f}" for f in factors))


if __name__ == "__main__":
    main()
