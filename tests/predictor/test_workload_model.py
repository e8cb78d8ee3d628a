from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autotinybert.errors import InputError
from device_profiles.profile import DeviceProfile
from device_profiles.target import Workload
from predictor.correction import FIELDS
from predictor.fitting import SliceFit, fit_slices
from predictor.model import LatencyPredictor
from predictor.workload_model import WorkloadModel, fit_workload_models, join_workloads
from predictor.workload_terms import (
    ALL_WORKLOADS,
    WORKLOAD_TERMS,
    AtWorkload,
    with_workload,
    workload_terms,
)
from supernet.architecture import Architecture, to_matrix
from supernet.space import kd_space

MakeProfile = Callable[..., Path]
LENGTHS = (32, 64, 128, 256)


def fits_of(folder: Path) -> list[SliceFit]:
    return fit_slices(DeviceProfile.load(folder).measurements)


@pytest.fixture(scope="module")
def fits(
    tmp_path_factory: pytest.TempPathFactory, make_profile_in: Callable[..., Path]
) -> list[SliceFit]:
    workloads = [Workload(1, each) for each in LENGTHS]
    folder = make_profile_in(tmp_path_factory.mktemp("lengths"), configs=24, workloads=workloads)
    return fits_of(folder)


def predictor_of(fits: list[SliceFit], models: list[WorkloadModel]) -> LatencyPredictor:
    parts = [fit.predictor for fit in fits]
    return LatencyPredictor(parts, None, None, [], [], models)


def test_a_length_between_the_measured_ones_is_predicted(
    make_profile: MakeProfile, fits: list[SliceFit]
) -> None:
    (model,) = fit_workload_models(fits, seed=0)
    assert model.held_out.mape < 0.03
    assert model.held_out.rows == sum(fit.predictor.rows for fit in fits[1:3])
    predictor = predictor_of(fits, [model])
    (truth,) = fits_of(make_profile("truth", configs=30, seed=5, workloads=[Workload(1, 96)]))
    found = predictor.slice_for((96, *fits[0].predictor.slice[1:]))
    assert found.chosen == ALL_WORKLOADS
    inside = np.ones(len(truth.architectures), dtype=bool)
    inside[found.out_of_range(truth.architectures)] = False
    predicted = found.predict(truth.architectures[inside])
    measured = truth.statistics["latency_ms"][inside]
    assert np.abs(predicted.latency_ms / measured - 1).mean() < 0.03
    within = (predicted.low_ms <= measured) & (measured <= predicted.high_ms)
    assert within.mean() > 0.8


def test_what_was_measured_is_predicted_by_its_own_model(fits: list[SliceFit]) -> None:
    predictor = predictor_of(fits, fit_workload_models(fits, seed=0))
    for fit in fits:
        assert predictor.slice_for(fit.predictor.slice) is fit.predictor


@pytest.mark.parametrize("length", [16, 31, 257, 512])
def test_beyond_the_measured_lengths_it_refuses(fits: list[SliceFit], length: int) -> None:
    predictor = predictor_of(fits, fit_workload_models(fits, seed=0))
    with pytest.raises(InputError, match=f"{length} tokens.* was not measured"):
        predictor.slice_for((length, *fits[0].predictor.slice[1:]))


def test_another_batch_size_or_target_is_refused(fits: list[SliceFit]) -> None:
    predictor = predictor_of(fits, fit_workload_models(fits, seed=0))
    with pytest.raises(InputError, match=r"batch 2.* was not measured"):
        predictor.slice_for((96, 2, *fits[0].predictor.slice[2:]))
    with pytest.raises(InputError, match=r"2 threads.* was not measured"):
        predictor.slice_for((96, 1, 2, *fits[0].predictor.slice[3:]))


def test_two_lengths_say_nothing_about_what_lies_between(make_profile: MakeProfile) -> None:
    folder = make_profile(configs=30, workloads=[Workload(1, 32), Workload(1, 128)])
    assert fit_workload_models(fits_of(folder), seed=0) == []


def test_two_batch_sizes_say_nothing_about_one_between_them_however_many_lengths_there_are(
    make_profile: MakeProfile,
) -> None:
    workloads = [Workload(batch, length) for batch in (1, 4) for length in (32, 64, 128)]
    fits = fits_of(make_profile(configs=20, workloads=workloads))
    predictor = predictor_of(fits, fit_workload_models(fits, seed=0))
    rest = fits[0].predictor.slice[2:]
    assert predictor.slice_for((96, 4, *rest)).chosen == ALL_WORKLOADS
    with pytest.raises(InputError, match=r"96 tokens, batch 2.* was not measured"):
        predictor.slice_for((96, 2, *rest))


def test_terms_are_paid_by_token_by_run_and_by_pair_of_tokens() -> None:
    shape = to_matrix([Architecture(2, 20, 30, 3, 33)])
    (terms,) = workload_terms(with_workload(shape, 10, 4))
    named = dict(zip(WORKLOAD_TERMS, terms.tolist(), strict=True))
    assert named["tokens*L*d*q"] == 40 * 2 * 20 * 33
    assert named["run*L*d*q"] == 2 * 20 * 33
    assert named["pairs*L*h"] == 10 * 10 * 4 * 2 * 3
    assert len(FIELDS) == with_workload(shape, 10, 4).shape[1]


def test_it_reads_back_bit_for_bit(fits: list[SliceFit]) -> None:
    (model,) = fit_workload_models(fits, seed=0)
    shapes = to_matrix(kd_space().sample(np.random.default_rng(0), 100))
    rows = with_workload(shapes, 96, 1)
    read = type(model.regressor).from_json(model.regressor.to_json())
    np.testing.assert_array_equal(read.predict(rows), model.regressor.predict(rows))
    with pytest.raises(InputError, match="has prices_ms and a correction"):
        type(model.regressor).from_json({})


def test_a_measured_workload_may_learn_from_the_others(fits: list[SliceFit]) -> None:
    models = fit_workload_models(fits, seed=0)
    joined = join_workloads(fits, models, seed=0)
    for before, after in zip(fits, joined, strict=True):
        part = after.predictor
        assert set(part.models) == {*before.predictor.models, ALL_WORKLOADS}
        assert part.slice == before.predictor.slice
        best = min(part.accuracies.values(), key=lambda found: found.mape).mape
        assert part.accuracies[part.chosen].mape <= max(1.3 * best, best + 0.002)
        model = part.models[ALL_WORKLOADS]
        read = AtWorkload.from_json(model.to_json())
        shapes = after.architectures
        np.testing.assert_array_equal(read.predict(shapes), model.predict(shapes))
    with pytest.raises(InputError, match="no workload of a model"):
        AtWorkload.from_json({"prices_ms": {}, "correction": {}})
