from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autotinybert.errors import InputError
from device_profiles.measurements import Measurements
from device_profiles.profile import DeviceProfile
from device_profiles.target import Target, Workload
from predictor.baselines import baseline_accuracies
from predictor.comparison import compare_published
from predictor.explanation import blocks_by_slice
from predictor.fitting import (
    assign_folds,
    fit_slices,
    held_out_predictions,
    rows_inside_range,
)
from predictor.lookup_table import LookupTable
from predictor.model import MODELS, LatencyPredictor
from supernet.architecture import Architecture, to_matrix

MakeProfile = Callable[..., Path]


def measurements_of(folder: Path) -> Measurements:
    return DeviceProfile.load(folder).measurements


def test_a_fit_states_its_held_out_error_range_and_bounds(make_profile: MakeProfile) -> None:
    (fit,) = fit_slices(measurements_of(make_profile(configs=60)))
    predictor = fit.predictor
    assert predictor.rows == 62
    found = predictor.accuracies[predictor.chosen]
    assert found.mape < 0.02
    assert found.worst < 0.05
    assert predictor.lowest.tolist() == [1, 128, 128, 12, 180]
    assert predictor.highest.tolist() == [12, 768, 3072, 12, 768]
    bounds = predictor.calibrations["quiet"]
    assert bounds.centers.tolist() == [0.0]
    assert -0.05 < bounds.low < 0 < bounds.high <= bounds.safe < 0.05


def test_median_latency_is_predicted_above_the_quiet_one(make_profile: MakeProfile) -> None:
    (fit,) = fit_slices(measurements_of(make_profile(configs=60)))
    shapes = to_matrix([Architecture(4, 312, 1200, 12, 312)])
    quiet, median = (fit.predictor.predict(shapes, name) for name in ("quiet", "p50"))
    assert quiet.latency_ms[0] < median.latency_ms[0] < 1.1 * quiet.latency_ms[0]
    assert quiet.low_ms[0] < quiet.latency_ms[0] < quiet.high_ms[0]


def test_a_statistic_that_was_not_measured_is_refused(make_profile: MakeProfile) -> None:
    (fit,) = fit_slices(measurements_of(make_profile()))
    shapes = to_matrix([Architecture(4, 312, 1200, 12, 312)])
    with pytest.raises(InputError, match=r"p99 was not measured .* has quiet, p50"):
        fit.predictor.predict(shapes, "p99")
    with pytest.raises(InputError, match="no statistic 'mean': use quiet, p50"):
        fit.predictor.predict(shapes, "mean")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((13, 312, 1200, 12, 312), r"num_layers 13 is outside 1\.\.12"),
        ((4, 312, 1200, 8, 312), r"num_heads 8 is outside 12\.\.12"),
        ((4, 312, 4000, 12, 312), r"ffn_size 4000 is outside 128\.\.3072"),
    ],
)
def test_outside_the_fitted_range_it_refuses(
    make_profile: MakeProfile, shape: tuple[int, ...], message: str
) -> None:
    (fit,) = fit_slices(measurements_of(make_profile()))
    with pytest.raises(InputError, match=message):
        fit.predictor.predict(np.array([(4, 312, 1200, 12, 312), shape]))


def test_every_workload_and_target_has_a_predictor_of_its_own(make_profile: MakeProfile) -> None:
    folder = make_profile(
        workloads=[Workload(1, 64), Workload(1, 128)], targets=[Target(threads=2)]
    )
    fits = fit_slices(measurements_of(folder))
    predictor = LatencyPredictor([fit.predictor for fit in fits], None, None, [], [])
    shape = to_matrix([Architecture(4, 312, 1200, 12, 312)])
    short, long = (
        predictor.slice_for((length, 1, 2, "fp32", "plain", "CPUExecutionProvider", "")).predict(
            shape
        )
        for length in (64, 128)
    )
    assert short.latency_ms[0] < 0.7 * long.latency_ms[0]
    with pytest.raises(InputError, match=r"256 tokens, batch 1, 2 threads.* has 64 tokens"):
        predictor.slice_for((256, 1, 2, "fp32", "plain", "CPUExecutionProvider", ""))


def test_rows_that_are_not_ok_are_left_out(make_profile: MakeProfile) -> None:
    measurements = measurements_of(make_profile())
    measurements.statistics["latency_ms"][5] *= 3
    measurements.verdicts[5] = "noisy"
    (fit,) = fit_slices(measurements)
    assert fit.predictor.rows == len(measurements) - 1
    assert fit.predictor.accuracies[fit.predictor.chosen].worst < 0.1


def test_noisy_rows_help_out_where_too_few_are_ok(make_profile: MakeProfile) -> None:
    measurements = measurements_of(make_profile(configs=20))
    measurements.verdicts[3:8] = ["noisy"] * 5
    measurements.verdicts[9] = "rejected"
    (fit,) = fit_slices(measurements)
    assert fit.predictor.rows == len(measurements) - 1


def test_too_few_rows_to_fit_are_refused_with_how_many_are_needed(
    make_profile: MakeProfile,
) -> None:
    with pytest.raises(InputError, match=r"has 12 usable architectures .* needs 20"):
        fit_slices(measurements_of(make_profile(configs=10)))


def test_repeated_measurements_of_a_shape_share_a_fold() -> None:
    shapes = to_matrix([Architecture(layers, 8, 8, 1, 8) for layers in range(1, 31)])
    folds = assign_folds(np.concatenate([shapes, shapes]), seed=0)
    np.testing.assert_array_equal(folds[:30], folds[30:])
    assert np.bincount(folds).tolist() == [6] * 10


def test_held_out_predictions_have_not_seen_their_row(make_profile: MakeProfile) -> None:
    measurements = measurements_of(make_profile())
    latency_ms = measurements.statistics["latency_ms"]
    folds = assign_folds(measurements.architectures, seed=0)
    fit = MODELS["cost-terms"].fit
    before = held_out_predictions(fit, measurements.architectures, latency_ms, folds)
    changed = latency_ms.copy()
    changed[7] *= 100
    after = held_out_predictions(fit, measurements.architectures, changed, folds)
    same_fold = folds == folds[7]
    np.testing.assert_array_equal(after[same_fold], before[same_fold])
    assert not np.array_equal(after, before)


def test_rows_that_no_answer_could_be_like_do_not_widen_the_bounds() -> None:
    shapes = to_matrix([Architecture(layers, 8, 8, 1, 8) for layers in range(1, 31)])
    folds = np.arange(30) % 10
    inside = rows_inside_range(shapes, folds)
    assert np.flatnonzero(~inside).tolist() == [0, 29]


def test_baselines_are_compared_on_the_same_rows(make_profile: MakeProfile) -> None:
    (fit,) = fit_slices(measurements_of(make_profile()))
    found = baseline_accuracies(fit, seed=0, networks=False)
    assert set(found) == {"quadratic in logarithms", "random forest", "proportional to FLOPs"}
    assert {value.rows for value in found.values()} == {fit.predictor.rows}
    assert min(value.mape for value in found.values()) > 0


def test_published_shapes_are_compared_as_measured_where_they_were(
    make_profile: MakeProfile,
) -> None:
    measurements = measurements_of(make_profile(rivals=True))
    (fit,) = fit_slices(measurements)
    compared = {row.shape.name: row for row in compare_published(fit.predictor, measurements)}
    base = compared["BERT-base"]
    assert base.speedup == 1.0
    tiny = compared["TinyBERT-4"]
    assert base.measured_ms is not None
    assert tiny.measured_ms is not None
    assert tiny.speedup == pytest.approx(base.measured_ms / tiny.measured_ms)
    assert tiny.shape.speedup == 9.4


def test_published_shapes_outside_the_range_have_no_figure(make_profile: MakeProfile) -> None:
    measurements = measurements_of(make_profile())
    (fit,) = fit_slices(measurements)
    compared = {row.shape.name: row for row in compare_published(fit.predictor, measurements)}
    assert compared["BERT-tiny"].predicted_ms is None  # two heads, twelve were measured
    assert compared["BERT-tiny"].speedup is None
    assert compared["TinyBERT-4"].measured_ms is None
    assert compared["TinyBERT-4"].speedup is not None


def test_the_lookup_table_of_a_profile_with_blocks_consists_of_them(
    make_profile: MakeProfile,
) -> None:
    profile = DeviceProfile.load(make_profile(blocks=True))
    blocks = blocks_by_slice([profile])
    (fit,) = fit_slices(profile.measurements, block_times=blocks)
    table = fit.predictor.models["lookup-table"]
    assert isinstance(table, LookupTable)
    assert table.is_measured
    # Less what the last layer's share of the embeddings is, blocks add up on the fake device.
    assert table.calibration == pytest.approx((1, 1, 1), abs=0.05)
    assert fit.predictor.accuracies["lookup-table"].mape < 0.02
    (without,) = fit_slices(profile.measurements)
    fitted = without.predictor.models["lookup-table"]
    assert isinstance(fitted, LookupTable)
    assert not fitted.is_measured


def test_blocks_of_another_workload_are_not_used(make_profile: MakeProfile) -> None:
    profile = DeviceProfile.load(make_profile(blocks=True))
    (blocks,) = blocks_by_slice([profile]).values()
    (fit,) = fit_slices(profile.measurements, block_times={(64, *blocks[0].slice[1:]): blocks})
    table = fit.predictor.models["lookup-table"]
    assert isinstance(table, LookupTable)
    assert not table.is_measured


def test_blocks_that_could_not_be_measured_are_passed_over(make_profile: MakeProfile) -> None:
    profile = DeviceProfile.load(make_profile(blocks=True))
    assert profile.block_times is not None
    torn = [
        replace(time, latency_ms=None, verdict="rejected") if time.block == "ffn" else time
        for time in profile.block_times
    ]
    assert blocks_by_slice([replace(profile, block_times=torn)]) == {}
    assert blocks_by_slice([replace(profile, block_times=torn), profile]) != {}
    assert blocks_by_slice([replace(profile, block_times=None)]) == {}
