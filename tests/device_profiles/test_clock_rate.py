from __future__ import annotations

import numpy as np
import pytest

from device_profiles.clock_rate import minima_at_usual_clock, usual_probe_ns
from device_profiles.protocol import Protocol
from device_profiles.quality import quiet_latency
from device_profiles.visits import Visit


def visit(
    configuration: int, runs_ns: tuple[int, ...], probe_ns: int | None, **other: str
) -> Visit:
    facts = {"probe_ns": probe_ns}
    return Visit(configuration, 1, 1, runs_ns, 0.0, facts, **other)  # type: ignore[arg-type]


def test_a_visit_on_a_boosted_core_is_told_at_the_usual_clock() -> None:
    visits = [visit(0, (1000, 1100), 4000), visit(0, (950, 960), 3800), visit(0, (1000,), 4000)]
    assert usual_probe_ns(visits) == 4000
    np.testing.assert_allclose(minima_at_usual_clock(visits), [1000, 1000, 1000])


def test_a_state_that_is_further_off_than_a_boost_still_shows() -> None:
    visits = [visit(0, (1000,), 4000), visit(0, (2000,), 8000), visit(0, (1000,), 4000)]
    np.testing.assert_allclose(minima_at_usual_clock(visits), [1000, 1800, 1000])


@pytest.mark.parametrize("probe", [None, 5000])
def test_without_a_probe_in_every_visit_nothing_is_corrected(probe: int | None) -> None:
    visits = [visit(0, (1000,), None), visit(0, (900,), probe), visit(0, (1000,), 4000)]
    assert usual_probe_ns(visits) is None
    np.testing.assert_array_equal(minima_at_usual_clock(visits), [1000, 900, 1000])


def test_disturbed_visits_do_not_say_what_is_usual() -> None:
    visits = [visit(0, (1000,), 4000), visit(0, (3000,), None, disturbed="load")]
    assert usual_probe_ns(visits) == 4000
    np.testing.assert_array_equal(minima_at_usual_clock(visits), [1000, 3000])


def test_labels_repeat_better_where_the_clock_moves() -> None:
    rng = np.random.default_rng(0)
    protocol, spread = Protocol(), []
    for corrected in (False, True):
        labels = []
        for _ in range(200):
            clock = rng.normal(1, 0.03, protocol.planned_visits)
            noise = 1 + rng.exponential(0.01, protocol.planned_visits)
            probes = clock * (1 + rng.normal(0, 0.003, protocol.planned_visits)) * 4000
            visits = [
                visit(0, (round(1e7 * rate * each),), round(probe) if corrected else None)
                for rate, each, probe in zip(clock, noise, probes, strict=True)
            ]
            labels.append(quiet_latency(minima_at_usual_clock(visits).tolist(), protocol.visits))
        spread.append(np.std(np.log(labels)))
    assert spread[1] < 0.8 * spread[0]
