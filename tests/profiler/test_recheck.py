"""Checking a profile again, on a fake device that a test makes slower."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import InputError
from autotinybert.files import read_json_object
from device_profiles.journal import Journal, read_journal
from device_profiles.profile import JOURNAL_FILE, PROFILE_FILE, DeviceProfile
from device_profiles.protocol import Protocol
from device_profiles.target import Configuration, Target, Workload
from profiler.campaign import VisitFailedError
from profiler.recheck import choose_rows
from profiler.recheck_cli import RECHECK_FILE, recheck_profile

Slowdown = Callable[[Configuration, int], float]
Recheck = Callable[..., Any]


@pytest.fixture
def recheck(fake_device: Callable[..., Any]) -> Recheck:
    """Checks a profile; `slowdown(configuration, visit)` is a factor, 0 a failure."""

    class Machine(fake_device):  # type: ignore[misc, valid-type]
        slowdown: Slowdown = staticmethod(lambda configuration, visit: 1.0)
        facts: Callable[[int], Mapping[str, Any]] = staticmethod(lambda visit: {})

        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            factor = self.slowdown(configuration, len(self.visited))
            if not factor:
                raise VisitFailedError("out of memory")
            runs_ns = [int(ns * factor) for ns in result["runs_ns"]]
            return {**result, "runs_ns": runs_ns, **self.facts(len(self.visited))}

    def run(
        path: Path,
        slowdown: Slowdown = lambda *_: 1.0,
        *,
        changes: Mapping[str, Any] = {},
        facts: Callable[[int], Mapping[str, Any]] = lambda _: {},
        **options: Any,
    ) -> Any:
        machine = Machine(seed=5)
        machine.host = {**machine.host, **changes}
        machine.slowdown = slowdown
        machine.facts = facts
        answer = recheck_profile(
            DeviceProfile.load(path),
            open_worker=machine.open,
            host_facts=lambda: machine.host,
            clock_s=machine.clock_s,
            **options,
        )
        answer.data["visited"] = machine.visited
        return answer

    return run


def is_large(configuration: Configuration) -> bool:
    return configuration.architecture.num_layers > 4


@pytest.mark.parametrize(
    ("slowdown", "verdict", "sentence", "exit_code"),
    [
        (lambda c, _: 1.0, "holds", "the profile holds", 0),
        (lambda c, _: 1.015, "holds", "the profile holds", 0),
        (lambda c, _: 1.12, "shifted", "uniformly: this machine is 1[12].* % slower", 1),
        (lambda c, _: 0.8, "shifted", "uniformly: this machine is 2[45].* % faster", 1),
        (lambda c, _: 1.3 if is_large(c) else 1.0, "does not hold", "profile again", 1),
        (lambda c, visit: 1 + 0.2 * (visit % 7), "cannot tell", "stop other work", 1),
        (lambda c, _: 0.0, "cannot tell", "0 of 5 rows are ok", 1),
    ],
    ids=["same", "in noise", "slower", "faster", "another machine", "disturbed", "broken"],
)
def test_a_profile_is_judged_by_a_few_of_its_shapes(
    recheck: Recheck,
    make_profile: Callable[..., Path],
    slowdown: Slowdown,
    verdict: str,
    sentence: str,
    exit_code: int,
) -> None:
    answer = recheck(make_profile(), slowdown)
    assert (answer.data["verdict"], answer.exit_code) == (verdict, exit_code)
    assert re.search(sentence, answer.data["sentence"])
    assert answer.data["sentence"] in answer.text


def test_the_shapes_are_spread_over_the_latencies_and_only_they_are_measured(
    recheck: Recheck, make_profile: Callable[..., Path]
) -> None:
    path = make_profile()
    profile = DeviceProfile.load(path)
    chosen = choose_rows(profile, 5)
    latencies = sorted(profile.measurements.statistics["latency_ms"].tolist())
    assert [old_ms for _, old_ms in chosen] == [latencies[i] for i in (0, 10, 20, 31, 41)]
    answer = recheck(path)
    assert set(answer.data["visited"]) == {configuration for configuration, _ in chosen}
    assert len(answer.data["visited"]) == 5 * profile.protocol.planned_visits
    assert len(recheck(path, configs=7).data["rows"]) == 7


def test_each_shape_keeps_its_workload_and_target(make_profile: Callable[..., Path]) -> None:
    path = make_profile(
        configs=6, workloads=(Workload(1, 64), Workload(2, 128)), targets=(Target(threads=2),)
    )
    chosen = choose_rows(DeviceProfile.load(path), 16)
    assert {configuration.workload for configuration, _ in chosen} == {
        Workload(1, 64),
        Workload(2, 128),
    }
    assert {configuration.target for configuration, _ in chosen} == {Target(threads=2)}


def test_another_build_is_listed_and_not_refused(
    recheck: Recheck, make_profile: Callable[..., Path]
) -> None:
    answer = recheck(make_profile(), changes={"onnxruntime_version": "2.0"})
    assert answer.data["key_differences"] == ["onnxruntime_version 1.0 / 2.0"]
    assert (answer.data["verdict"], answer.exit_code) == ("holds", 0)
    assert "onnxruntime_version 1.0 / 2.0" in answer.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": {"machine": "aarch64"}}, "not cpu-x86: use --target cpu-arm here"),
        ({"configs": 2}, "measures 3 to 100 --configs, not 2"),
        ({"changes": {"cpu_count": 1}}, "measured with 2 threads, this machine has 1"),
    ],
)
def test_what_cannot_be_checked_is_refused(
    recheck: Recheck, make_profile: Callable[..., Path], options: dict[str, Any], message: str
) -> None:
    path = make_profile(configs=4, targets=(Target(threads=2),))
    with pytest.raises(InputError, match=message):
        recheck(path, **options)


def test_a_profile_without_rows_that_are_ok_cannot_be_checked(
    recheck: Recheck, make_profile: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match="has 0 rows that are ok"):
        recheck(make_profile(configs=4, broken=True))


def test_with_out_the_check_is_written_and_not_made_twice(
    recheck: Recheck, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = make_profile(), tmp_path / "out"
    first = recheck(path, out=out)
    assert read_json_object(out / RECHECK_FILE)["verdict"] == "holds"
    assert len(read_journal(out / JOURNAL_FILE)) == 1 + 6 + 30 + 1
    again = recheck(path, lambda *_: 2.0, out=out)
    assert again.data["visited"] == []
    assert again.data["rows"] == json.loads(json.dumps(first.data["rows"]))
    assert "nothing was measured" in again.text
    anew = recheck(path, lambda *_: 2.0, out=out, overwrite=True)
    assert anew.data["verdict"] == "shifted"
    with pytest.raises(InputError, match="different request"):
        recheck(path, out=out, seed=1)


def test_what_another_check_is_writing_is_left_alone_even_with_overwrite(
    recheck: Recheck, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = make_profile(configs=4), tmp_path / "out"
    recheck(path, out=out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with Journal(out / JOURNAL_FILE), pytest.raises(InputError, match=JOURNAL_FILE):
        recheck(path, out=out, seed=1, overwrite=True)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_a_check_killed_while_it_replaces_another_takes_none_of_its_visits(
    recheck: Recheck, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    """The request is written last; when it cannot be, the old visits are gone already."""
    path, out = make_profile(configs=4), tmp_path / "out"
    recheck(path, out=out)
    (out / RECHECK_FILE).unlink()
    (out / RECHECK_FILE).mkdir()
    with pytest.raises(InputError, match="cannot write"):
        recheck(path, out=out, seed=1, overwrite=True)
    assert (out / JOURNAL_FILE).read_bytes() == b""


def test_disturbed_visits_make_a_machine_no_more_restless(
    recheck: Recheck, make_profile: Callable[..., Path]
) -> None:
    waited = {"facts": {"waited_ns": 10**9}}
    answer = recheck(
        make_profile(),
        lambda _, visit: 3.0 if visit % 2 else 1.0,
        facts=lambda visit: waited if visit % 2 else {},
    )
    assert answer.data["unrest"] < 0.05


def test_a_profile_is_never_written_to_by_its_check(
    recheck: Recheck, make_profile: Callable[..., Path]
) -> None:
    path = make_profile(configs=4)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(InputError, match="is the profile that is checked"):
        recheck(path, out=path, overwrite=True)
    recheck(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert PROFILE_FILE in before
