from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import WorkError
from device_profiles.journal import Journal, read_journal
from device_profiles.protocol import Protocol
from device_profiles.rows import rows_of
from device_profiles.target import Configuration, Target, Workload
from device_profiles.visits import CampaignRecord
from profiler.campaign import ConnectionLostError, run_campaign
from profiler.outage import MAX_ATTEMPTS, WAITS_S, Outage, nameless_cause
from profiler.plan import make_plan, sample_architectures
from supernet.space import kd_space

PROTOCOL = Protocol(block_size=8)


def test_it_waits_longer_each_time_up_to_a_minute_and_then_gives_up() -> None:
    waits: list[float] = []
    outage = Outage(waits.append)
    outage.wait()
    assert waits == []
    for _ in range(MAX_ATTEMPTS):
        outage.lost("connection to pi lost")
        outage.wait()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60] == list(WAITS_S)
    outage.lost("connection to pi lost: No route to host")
    with pytest.raises(WorkError, match=r"No route to host; 10 attempts .* 303 s .* same command"):
        outage.wait()
    assert len(waits) == MAX_ATTEMPTS


def test_what_was_measured_in_between_begins_the_count_anew() -> None:
    waits: list[float] = []
    outage = Outage(waits.append)
    for _ in range(3):
        outage.lost("connection to pi lost")
        outage.wait()
        outage.steady()
    assert waits == [1, 1, 1]
    assert (outage.losses, outage.reason) == (0, "")


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (
            "connection to me@pi lost: ssh: connect to host 10.0.0.7 port 22: No route to host",
            "connection lost: No route to host",
        ),
        ("connection to pi lost: kex_exchange: read: Connection reset by 10.0.0.7", None),
        ("connection to pi lost: what nobody foresaw of me@pi", "connection lost"),
        ("the measuring process on pi was silent for 120 s", "connection lost: was silent"),
    ],
)
def test_a_profile_tells_why_a_connection_was_lost_but_not_to_whom(
    reason: str, cause: str | None
) -> None:
    assert nameless_cause(reason) == (cause or "connection lost: Connection reset")


def run(path: Path, device: Any, sleep_s: Callable[[float], None]) -> CampaignRecord:
    plan = make_plan(
        sample_architectures(kd_space(), 10, 0),
        workloads=[Workload()],
        targets=[Target()],
        rivals=False,
        seed=0,
    )
    with Journal(path) as journal:
        return run_campaign(
            plan,
            PROTOCOL,
            journal,
            device.open,
            host=device.host,
            clock_s=device.clock_s,
            sleep_s=sleep_s,
        )


def unreliable(fake_device: Callable[..., Any], lost_at: frozenset[int]) -> Any:
    """A device whose connection is lost in the visits of these numbers, before their answer."""

    class Unreliable(fake_device):  # type: ignore[misc, valid-type]
        def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            if len(self.visited) in lost_at:
                self.now_s += 30  # until the silence is taken for a loss
                raise ConnectionLostError("connection to pi lost")
            return result

    return Unreliable(noise=0)


def test_lost_connections_cost_neither_rows_nor_the_time_of_the_campaign(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    undisturbed = run(tmp_path / "undisturbed", fake_device(noise=0), lambda _: None)
    device = unreliable(fake_device, frozenset({1, 9, 20, 21, 22, 40}))

    def sleep(seconds: float) -> None:
        device.now_s += seconds

    record = run(tmp_path / "journal", device, sleep)
    assert rows_of(record, PROTOCOL) == rows_of(undisturbed, PROTOCOL)
    assert record.failures == {}
    assert record.elapsed_s == pytest.approx(undisturbed.elapsed_s, abs=0.01)
    noted = [r for r in read_journal(tmp_path / "journal") if r["kind"] == "reconnected"]
    assert [one["attempts"] for one in noted] == [1, 1, 1, 2, 3, 1]
    assert {one["reason"] for one in noted} == {"connection lost"}


def test_a_device_that_goes_away_whenever_it_measures_is_given_up_and_can_be_gone_on_with(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    device = unreliable(fake_device, frozenset(range(5, 1000)))
    with pytest.raises(WorkError, match="connection to pi lost; 10 attempts"):
        run(tmp_path / "journal", device, lambda _: None)
    assert len(device.visited) == 4 + 1 + MAX_ATTEMPTS
    resumed = run(tmp_path / "journal", fake_device(noise=0), lambda _: None)
    unbroken = run(tmp_path / "unbroken", fake_device(noise=0), lambda _: None)
    assert rows_of(resumed, PROTOCOL) == rows_of(unbroken, PROTOCOL)


def test_a_machine_that_does_not_come_back_is_given_up(
    tmp_path: Path, fake_device: Callable[..., Any]
) -> None:
    waits: list[float] = []

    class Gone(fake_device):  # type: ignore[misc, valid-type]
        def open(self) -> Any:
            raise ConnectionLostError("connection to pi lost: Connection refused")

    with pytest.raises(WorkError, match="Connection refused"):
        run(tmp_path / "journal", Gone(), waits.append)
    assert waits == list(WAITS_S)
