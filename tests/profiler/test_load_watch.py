from __future__ import annotations

from profiler.load_watch import LoadWatch

MILLISECOND = 1_000_000


class Core:
    """A core that other work shares until `busy_until_ms`; every reading takes a tenth of a ms."""

    def __init__(self, busy_until_ms: float = 0.0) -> None:
        self._busy_until_ns = busy_until_ms * MILLISECOND
        self.now_ns = 0
        self._cpu_ns = 0.0
        self.pauses_s: list[float] = []

    def clock(self) -> int:
        step = MILLISECOND // 10
        self.now_ns += step
        self._cpu_ns += step / 2 if self.now_ns < self._busy_until_ns else step
        return self.now_ns

    def cpu_clock(self) -> int:
        return int(self._cpu_ns)

    def sleep_s(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_ns += int(seconds * 1e9)

    def watch(self) -> LoadWatch:
        return LoadWatch(self.clock, self.cpu_clock, self.sleep_s)


def test_a_free_core_holds_nothing_back_and_is_not_probed_again() -> None:
    core = Core()
    watch = core.watch()
    assert watch.hold(20.0) == 0
    probed_ns = core.now_ns
    watch.learn(disturbed=False)
    assert watch.hold(20.0) == 0
    assert core.now_ns == probed_ns
    assert core.pauses_s == []


def test_a_busy_core_is_waited_for_in_growing_pauses() -> None:
    core = Core(busy_until_ms=5_000)
    held_ns = core.watch().hold(20.0)
    assert 5_000 * MILLISECOND < held_ns < 5_600 * MILLISECOND
    assert core.pauses_s[:4] == [0.02, 0.04, 0.08, 0.16]
    assert max(core.pauses_s) == 0.5


def test_waiting_is_bounded_and_begins_again_with_the_next_visit() -> None:
    core = Core(busy_until_ms=1e9)
    watch = core.watch()
    for _ in range(2):
        assert 2e9 <= watch.hold(2.0) < 2.6e9


def test_a_disturbed_visit_makes_it_suspicious() -> None:
    core = Core()
    watch = core.watch()
    watch.hold(1.0)
    watch.learn(disturbed=True)
    probed_ns = core.now_ns
    assert watch.hold(1.0) == 0
    assert core.now_ns > probed_ns


def test_clocks_that_stand_still_do_not_hold_it_for_ever() -> None:
    assert LoadWatch(lambda: 7, lambda: 7, lambda _: None).hold(1.0) == 0
