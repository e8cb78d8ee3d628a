from __future__ import annotations

import numpy as np
import pytest

from device_profiles.clock_rate import minima_at_quiet_clock, quiet_probe_ns
from device_profiles.protocol import Protocol
from device_profiles.quality import quiet_latency
from device_profiles.visits import Visit


def visit(
    configuration: int, runs_ns: tuple[int, ...], probe_ns: int | None, **other: str
) -> Visit:
    facts = {"probe_ns": probe_ns}
    return Visit(configuration, 1, 1, runs_ns, 0.0, facts, **other)  # type: ignore[arg-type]


def test_a_visit_at_a_lower_clock_is_told_at_the_quiet_one() -> None:
    visits = [visit(0, (1000, 1100), 4000), visit(0, (950, 960), 3800), visit(0, (1000,), 4000)]
    assert quiet_probe_ns(visits) == 3800
    np.testing.assert_allclose(minima_at_quiet_clock(visits), [950, 950, 950])


def test_the_quiet_clock_is_one_that_a_tenth_of_visits_reach_whatever_the_others_do() -> None:
    often, seldom = (
        [visit(0, (1,), 3000)] + [visit(0, (1,), 3900)] * boosted + [visit(0, (1,), 4200)] * slow
        for boosted, slow in ((80, 19), (19, 80))
    )
    assert quiet_probe_ns(often) == quiet_probe_ns(seldom) == 3900


def test_a_state_that_is_further_off_than_a_boost_still_shows() -> None:
    visits = [visit(0, (1000,), 4000), visit(0, (2000,), 8000), visit(0, (1000,), 4000)]
    np.testing.assert_allclose(minima_at_quiet_clock(visits), [1000, 1800, 1000])


@pytest.mark.parametrize("probe", [None, 5000])
def test_without_a_probe_in_every_visit_nothing_is_corrected(probe: int | None) -> None:
    visits = [visit(0, (1000,), None), visit(0, (900,), probe), visit(0, (1000,), 4000)]
    assert quiet_probe_ns(visits) is None
    np.testing.assert_array_equal(minima_at_quiet_clock(visits), [1000, 900, 1000])


def test_disturbed_visits_do_not_say_what_the_quiet_clock_is() -> None:
    visits = [visit(0, (1000,), 4000), visit(0, (3000,), None, disturbed="load")]
    assert quiet_probe_ns(visits) == 4000
    np.testing.assert_array_equal(minima_at_quiet_clock(visits), [1000, 3000])


def test_campaigns_agree_however_often_the_core_was_boosted() -> None:
    rng = np.random.default_rng(0)
    protocol = Protocol()

    def labels(boosted: float, *, corrected: bool) -> list[float]:
        visits = []
        for configuration in range(40):
            for _ in range(protocol.planned_visits):
                clock = 1.0 if rng.random() < boosted else 1.04
                clock *= 1 + rng.normal(0, 0.002)
                run_ns = round(1e7 * clock * (1 + rng.exponential(0.01)))
                visits.append(visit(configuration, (run_ns,), round(4000 * clock)))
        minima = (
            minima_at_quiet_clock(visits) if corrected else np.array([v.minimum_ns for v in visits])
        )
        by_row = minima.reshape(40, protocol.planned_visits)
        return [quiet_latency(row.tolist(), protocol.visits) for row in by_row]

    def moved(*, corrected: bool) -> float:
        often, seldom = (labels(share, corrected=corrected) for share in (0.9, 0.15))
        return float(abs(np.median(np.log(seldom) - np.log(often))))

    assert moved(corrected=True) < 0.004
    assert moved(corrected=False) > 0.015
