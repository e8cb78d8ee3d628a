from __future__ import annotations

import numpy as np
import pytest

from benchmarks.drift_detection import SERIES, cost_ms, recorded_noise, simulate
from device_profiles.quality import FloatVector
from device_profiles.robust_fit import fit_robustly
from device_profiles.suspects import Suspects, suspect_rows
from supernet.architecture import ARCHITECTURE_FIELDS, IntMatrix, to_matrix
from supernet.space import kd_space


def shapes_and_latencies(rows: int = 200, seed: int = 0) -> tuple[IntMatrix, FloatVector]:
    rng = np.random.default_rng(seed)
    shapes = to_matrix(kd_space().sample(rng, rows))
    return shapes, cost_ms(shapes) * np.exp(0.01 * rng.exponential(size=rows))


def suspects_of(shapes: IntMatrix, latencies: FloatVector) -> Suspects:
    return suspect_rows(latencies, shapes.astype(np.float64), ARCHITECTURE_FIELDS)


@pytest.mark.parametrize("kind", SERIES)
def test_drift_in_simulated_files_with_real_noise_is_found_and_none_invented(kind: str) -> None:
    caught, marked, clean_marked = simulate(100, 1.0, kind, visits=False, noise=recorded_noise())
    assert (marked if kind == "clean" else 1 - caught) <= 0.03
    assert clean_marked < 0.01


def test_half_of_a_file_may_be_slow() -> None:
    shapes, latencies = shapes_and_latencies()
    latencies[60:160] *= 1.3
    found = suspects_of(shapes, latencies)
    assert found.rows == list(range(60, 160))
    assert found.drifts[0].excess == pytest.approx(0.3, abs=0.02)
    assert found.autocorrelation is not None
    assert found.autocorrelation > 0.8


@pytest.mark.parametrize("column", [0, 1, 4])
def test_a_sorted_file_is_not_judged_and_the_column_is_named(column: int) -> None:
    shapes, latencies = shapes_and_latencies()
    order = np.argsort(shapes[:, column], kind="stable")
    latencies = latencies[order]
    latencies[50:90] *= 1.2
    found = suspects_of(shapes[order], latencies)
    assert found.rows == []
    assert f"sorted by {ARCHITECTURE_FIELDS[column]}" in found.not_judged


def test_a_file_that_sweeps_a_column_up_and_down_is_not_judged() -> None:
    shapes, latencies = shapes_and_latencies()
    order = np.argsort(shapes[:, 1], kind="stable")
    order = np.concatenate([order[::2], order[1::2][::-1]])
    found = suspects_of(shapes[order], latencies[order])
    assert "rows of like hidden_size stand together" in found.not_judged


def test_rows_that_are_of_another_kind_are_not_called_slow() -> None:
    shapes, latencies = shapes_and_latencies()
    kind = np.zeros(200)
    kind[120:140] = np.random.default_rng(0).uniform(1, 2, 20)
    latencies[120:140] *= np.random.default_rng(1).uniform(1.2, 1.4, 20)
    columns = np.column_stack([shapes, kind]).astype(np.float64)
    found = suspect_rows(latencies, columns, [*ARCHITECTURE_FIELDS, "kind"])
    assert found.rows == []
    assert "kind" in found.not_judged or found.not_judged == ""


def test_what_is_too_short_or_too_scattered_is_not_judged() -> None:
    shapes, latencies = shapes_and_latencies(29)
    assert "29 rows are too few" in suspects_of(shapes, latencies).not_judged
    rng = np.random.default_rng(0)
    found = suspect_rows(rng.lognormal(size=100), rng.normal(size=(100, 2)), ["a", "b"])
    assert "would not stand out: add columns" in found.not_judged


def test_one_configuration_measured_over_and_over_needs_no_columns() -> None:
    latencies = 5 * np.exp(0.01 * np.random.default_rng(0).normal(size=100))
    latencies[30:50] *= 1.2
    found = suspect_rows(latencies, np.empty((100, 0)), [])
    assert found.rows == list(range(30, 50))
    assert suspect_rows(latencies, np.full((100, 1), 7.0), ["same"]).rows == found.rows


def test_values_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="columns are"):
        suspect_rows(np.ones(3), np.ones((3, 2)), ["a"])
    with pytest.raises(ValueError, match="above 0"):
        suspect_rows(np.zeros(3), np.ones((3, 1)), ["a"])


def test_the_fit_finds_products_and_says_how_much_it_explains() -> None:
    rng = np.random.default_rng(0)
    columns = rng.uniform(1, 3, (300, 4))
    product = np.log(columns[:, 0]) * np.log(columns[:, 1])
    assert fit_robustly(columns, product + 0.01 * rng.normal(size=300)).explained > 0.99
    assert fit_robustly(columns, rng.normal(size=300)).explained < 0.1
    assert fit_robustly(columns, np.ones(300)).explained == 0.0
