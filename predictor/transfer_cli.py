"""What `fit-predictor` does with `--transfer-from`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autotinybert.command import Answer
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, sha256_file
from device_profiles.machine import refuse_emulated
from device_profiles.measurements import (
    SLICE_DEFAULTS,
    Measurements,
    concatenate,
    read_measurements,
)
from device_profiles.profile import DeviceProfile
from predictor.model import LatencyPredictor
from predictor.store import (
    PREDICTOR_FILE,
    PREDICTOR_FILES,
    TRAINING_FILE,
    load_predictor,
    save_predictor,
)
from predictor.transfer_shapes import write_shapes
from predictor.transferring import KnownDevice, expected_error, suggest_shapes, transfer_slices
from supernet.architecture import from_matrix


def load_known(paths: Sequence[Path], *, allow_emulated: bool) -> list[KnownDevice]:
    """The predictors to transfer from, with the shapes that they were fitted to.

    Raises:
        InputError: if one is no predictor, is named twice, or is of an emulator.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("a predictor to transfer from is named twice: leave one out")
    known = []
    for path in paths:
        predictor = load_predictor(path)
        if not allow_emulated and predictor.key is not None:
            refuse_emulated(predictor.key, path, allow="--allow-emulated")
        shapes = read_measurements(path / TRAINING_FILE).architectures
        known.append(KnownDevice(str(path), predictor, np.unique(shapes, axis=0)))
    return known


def suggest(known: Sequence[KnownDevice], count: int, out: Path, *, overwrite: bool) -> Answer:
    """Writes the shapes to measure on a new device to a CSV file.

    Raises:
        InputError: if there is something else at `out`.
    """
    if out.is_dir() or (out.exists() and not overwrite):
        raise InputError(f"{out} is there: choose another --out for the CSV file of shapes")
    shapes = suggest_shapes(known, count)
    write_shapes(out, shapes)
    names = [str(shape) for shape in from_matrix(shapes)]
    text = (
        f"{', '.join(names)}\nwrote {out}: measure these with profile-device --architectures {out} "
        "on the new device, then fit with the same --transfer-from"
    )
    return Answer({"shapes": names, "out": str(out)}, text)


def transfer(
    known: Sequence[KnownDevice],
    loaded: Sequence[DeviceProfile],
    parts: Sequence[Measurements],
    sources: Sequence[str],
    out: Path,
    *,
    overwrite: bool,
) -> Answer:
    """Fits a new device's predictor with the help of known ones, and writes it.

    Raises:
        InputError: if there are too few rows, or `out` holds something else.
        WorkError: if no known device resembles the new one.
    """
    request = {
        "sources": [part.sha256 for part in parts],
        "known": [sha256_file(Path(device.name) / PREDICTOR_FILE) for device in known],
    }
    folder = OutputFolder.claim(
        out, "fit-predictor", request, files=PREDICTOR_FILES, overwrite=overwrite
    )
    found = transfer_slices(concatenate(parts), known)
    if folder.state != "finished":
        predictor = LatencyPredictor(
            slices=[fit.predictor for fit, _ in found],
            key=loaded[0].key if loaded else None,
            target=loaded[0].target if loaded else None,
            references=[row for profile in loaded for row in profile.references],
            sources=[*sources, *(device.name for device in known)],
        )
        folder.begin(PREDICTOR_FILES)
        save_predictor(out, predictor, [fit for fit, _ in found], seed=0)
        folder.finish()
    lines, slices = [], []
    for fit, result in found:
        part = fit.predictor
        lines.append(f"{part.label}, {result.rows} rows: {result.verdict}")
        slices.append(
            {
                **dict(zip(SLICE_DEFAULTS, part.slice, strict=True)),
                "known": result.fit.known,
                "rows": result.rows,
                "expected_mape": expected_error(result),
                "held_out_mape": result.mape,
                "plain_mape": result.plain_mape,
                "factors": dict(result.factors),
            }
        )
    before = folder.state == "finished"
    lines.append(f"{out} was fitted before; nothing was written" if before else f"wrote {out}")
    data = {"predictor": str(out), "slices": slices, "finished_before": before}
    return Answer(data, "\n".join(lines))
