from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotinybert.command import Answer, run_command
from autotinybert.errors import InputError
from device_profiles.profile import DeviceProfile
from device_profiles.protocol import Protocol
from device_profiles.target import Configuration
from predictor.fitting import fit_slices
from predictor.regressors import CorrectedRegressor
from profiler.campaign import VisitFailedError
from profiler.cli import profile_device
from profiler.profiling import profile_machine
from profiler.profiling_options import ProfilingJob, ProfilingOptions
from profiler.until_error import START_SHAPES, UntilError
from profiler.until_error_cli import growing
from supernet.architecture import Architecture, to_matrix
from supernet.space import Space, kd_space

NO_OPTIONS: dict[str, Any] = {
    **{field.name: None for field in dataclasses.fields(ProfilingOptions)},
    "target": "cpu-x86",
    "rivals": False,
    "under_load": False,
    "seed": 0,
}


def profile(device: Any, out: Path, **options: Any) -> Answer:
    job = ProfilingJob.of(ProfilingOptions(**{**NO_OPTIONS, **options}))
    assert job.until is not None
    return profile_machine(
        job,
        out,
        overwrite=False,
        grow=growing(job.until, job.num_named, job.protocol),
        open_worker=device.open,
        clock_s=device.clock_s,
    )


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.02", 0.02), ("1.5%", 0.015)])
def test_an_error_is_written_as_a_share_or_in_per_cent(text: str, share: float) -> None:
    assert UntilError.asked(text, kd_space(), configs=None, seed=0).error == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "2 percent", "nan", "inf", "0", "-1%", "2", "100%"])
def test_nonsense_is_refused_in_one_line(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    argv = ["--target", "cpu-x86", "--out", str(tmp_path / "p"), f"--until-error={text}"]
    assert run_command(profile_device, "profile-device", argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--until-error {text!r}" in line
    assert "write 2% or 0.02" in line


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"architectures": Path("shapes.csv")}, "chooses the shapes by what was measured: leave"),
        ({"configs": START_SHAPES - 1}, "begins with 12 shapes: allow at least as many --configs"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        ProfilingJob.of(ProfilingOptions(**{**NO_OPTIONS, "until_error": "2%", **options}))


def test_without_scipy_the_answer_is_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = UntilError.asked("2%", kd_space(), configs=None, seed=0)
    job = ProfilingJob.of(ProfilingOptions(**{**NO_OPTIONS, "until_error": "2%"}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'autotinybert\[predict\]'"):
        growing(asked, 0, job.protocol)


def test_a_profile_ends_by_itself_and_predicts_as_well_as_it_promised(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    device = fake_device(noise=0.01)
    answer = profile(device, tmp_path / "profile", until_error="2%", space="kd")
    document = DeviceProfile.load(tmp_path / "profile").document
    assert "within 2 %; every row is ok" in document["stopped"]
    promises = document["promises"]
    assert [each["shapes"] for each in promises] == list(
        range(2 + START_SHAPES, 3 + promises[-1]["shapes"], 8)
    )
    last = promises[-1]["promised_error"]
    assert last <= 0.02
    assert all(each["promised_error"] > 0.02 or each["shapes"] < 20 for each in promises[:-1])
    assert f"{promises[-1]['shapes']} {100 * last:.3g} %" in answer.text
    assert answer.data["promises"] == promises
    measured = DeviceProfile.load(tmp_path / "profile").measurements
    assert len(fit_slices(measured)) == 1  # the rows are enough for a fit, whatever was promised
    model = CorrectedRegressor.fit(measured.architectures, measured.statistics["latency_ms"])
    fresh = kd_space().sample(np.random.default_rng(7), 100)
    configuration = dataclasses.replace(device.visited[0])
    truth = np.array(
        [device.quiet_ms(dataclasses.replace(configuration, architecture=shape)) for shape in fresh]
    )
    assert np.abs(model.predict(to_matrix(fresh)) / truth - 1).mean() < 1.2 * last


def test_the_most_shapes_end_a_campaign_that_promises_too_little(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    class Whimsical(fake_device):  # type: ignore[misc, valid-type]
        def quiet_ms(self, configuration: Configuration) -> float:
            shape = configuration.architecture
            whim = math.sin(shape.ffn_size + 3.0 * shape.hidden_size)
            return float(super().quiet_ms(configuration)) * (1 + 0.05 * whim)

    profile(Whimsical(), tmp_path / "p", until_error="1%", configs=22)
    found = DeviceProfile.load(tmp_path / "p")
    assert "of 1 % asked for, after the most shapes, 22" in found.document["stopped"]
    assert len(np.unique(found.measurements.architectures, axis=0)) == 22 + 2
    assert found.document["promises"][-1]["promised_error"] > 0.01


def test_every_workload_is_measured_for_what_is_added_and_the_worst_decides(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    options = {"until_error": "0.1%", "configs": 20, "sequence_length": [64, 128]}
    profile(fake_device(), tmp_path / "p", **options)
    found = DeviceProfile.load(tmp_path / "p").measurements
    assert len(found) == (20 + 2) * 2
    assert len(np.unique(found.architectures, axis=0)) == 22


def test_a_finished_profile_measures_nothing_more(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    profile(fake_device(), tmp_path / "p", until_error="3%")
    device = fake_device()
    answer = profile(device, tmp_path / "p", until_error="0.03")
    assert answer.data["finished_before"]
    assert device.visited == []


def test_failures_at_the_start_are_made_up_for_by_more_shapes(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    class Fussy(fake_device):  # type: ignore[misc, valid-type]
        """Fails five of the first shapes that it is asked for."""

        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            asked = self.__dict__.setdefault("asked", [])
            if configuration not in asked:
                asked.append(configuration)
            if 2 <= asked.index(configuration) < 7:
                raise VisitFailedError("no memory")
            found: Mapping[str, Any] = super().visit(configuration, protocol)
            return found

    profile(Fussy(), tmp_path / "p", until_error="3%", configs=60)
    found = DeviceProfile.load(tmp_path / "p")
    assert found.document["promises"][0]["promised_error"] is None
    assert "within 3 %" in found.document["stopped"]


def test_a_space_of_a_few_shapes_is_measured_without_it() -> None:
    shape = Architecture(4, 256, 512, 4, 256)
    tiny = Space("tiny", (4,), (256,), (512, 516), (4,), "free", (256,))
    assert shape in tiny
    with pytest.raises(InputError, match="space tiny has 2: leave it out"):
        UntilError.asked("2%", tiny, configs=None, seed=0)
